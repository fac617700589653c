"""A part of a last commit that was taken away (spread.py) although the state that says so could not be written.

A full disk must not keep a log from starting: it is served, and what is appended waits. Its files stand and no state
lists them as absent, so a new segment behind them would make a whole commit of that part at the next start, whose offsets
are given again by then. Hence the order, whenever the disk allows it:
  1. the state that lists them    2. their files go    3. the next segment
A crash before 1 leaves them as they were found, and the newest: they are taken away again. The open segment, should there
be one, is closed for that: a frame in it would stand behind them, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ...disk import Disk
from ...errors import HeadwaterError
from . import names
from .appender import Appender
from .holes import holds
from .state import State


def take_away(appender: Appender, disk: Disk, sequences: Sequence[int]) -> None:
    """The state lists them: gone for good before their offsets are given again. What refuses goes with what goes next."""
    for sequence in sequences:
        try:
            disk.remove(names.join(appender.directory, names.segment(sequence)))
        except HeadwaterError:
            appender.doomed.append(sequence)
    if sequences:
        disk.sync_directory(appender.directory)


def owe(appender: Appender, disk: Disk, state: State, sequences: Sequence[int]) -> None:
    """Before the next segment is opened."""
    appender.abandon()

    def pay() -> None:
        """Raises DiskFull, Unavailable; then it is still owed."""
        listed = appender.state.absent or []
        if not all(holds(listed, sequence) for sequence in sequences):
            # retention may have written one since, which lists them as well
            newer = msgspec.structs.replace(state, generation=appender.state.generation + 1)
            appender.store(newer)
        appender.owed = _nothing
        take_away(appender, disk, sequences)

    appender.owed = pay


def _nothing() -> None:
    """Is owed."""
