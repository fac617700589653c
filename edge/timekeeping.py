"""The clock of the edge and the log: anchors are written, and the clock changes only between two commits.

  at the start    what the log knows raises the floor, the first anchor is appended before anything else
  each second     the system's clock is looked at; a change waits until nothing is in the open commit (at once when idle,
                  else right after the seal), is taken up there, and its anchor is the first record stamped under it
  every so often  an anchor all the same, so that drift is known and a crash costs little
  at the end      one more, after the wills

An anchor that a full log refuses is owed and written as soon as there is room; the marks of records do not depend on it.
"""

from __future__ import annotations

import asyncio
import random
from typing import Protocol

import msgspec
import structlog

from ..core.anchor import TIME_PARTITION, Anchor, AnchorReason, trust_name
from ..core.batch import decode_batch
from ..core.belief import BOOT_ID_BYTES
from ..core.clock import Clock
from ..core.errors import Corrupt, HeadwaterError, Misconfigured
from ..core.journal.files.journal import FileJournal
from ..core.timekeeper import RELEASED_MS, Timekeeper
from ..core.units import MIB, Duration
from ..hardware.clock import ClockReader

_log = structlog.get_logger("edge.time")

# How often the system's clock is looked at. A step is noticed so late at most; records say which belief stamped them.
LOOK_S = 1.0
# Enough of the newest anchors to find the last synchronised one behind some boots without a clock.
ANCHORS_READ = 64


class TimeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    anchor_interval: Duration = Duration(600)
    """How often an anchor is written though nothing happened: what a crash leaves unsaid of a boot."""
    floor_from_log: bool = True
    """It cannot be earlier than what the log holds. False: once a wrong clock has put times of the future into it."""

    def check(self) -> None:
        """Each anchor is a commit of its own where nothing else is written. Raises Misconfigured."""
        if self.anchor_interval < 1:
            raise Misconfigured("edge.time.anchor_interval must be at least 1s")


class Requests(Protocol):
    def request(self) -> None: ...


def make_timekeeper(clock: Clock, reader: ClockReader, rng: random.Random) -> Timekeeper:
    """Where this boot has no name, each start of the daemon is a boot of its own, whose time counts from then."""
    boot = reader.boot()
    if boot is not None:
        return Timekeeper(clock, boot=boot, look=reader.look)
    return Timekeeper(
        clock, boot=rng.randbytes(BOOT_ID_BYTES).hex(), look=reader.look, since_ms=clock.boot_ms()
    )


class Anchoring:
    """Owns the keeper's changes. `start` before anything else is appended."""

    def __init__(
        self,
        keeper: Timekeeper,
        journal: FileJournal,
        committer: Requests,
        *,
        edge: str,
        settings: TimeSettings,
    ) -> None:
        self.keeper = keeper
        self.anchors = 0
        self._journal = journal
        self._committer = committer
        self._edge = edge
        self._settings = settings
        self._owed: AnchorReason | None = None
        self._changing = False
        self._refusing = False
        self._due = 0.0

    def start(self) -> None:
        if self._settings.floor_from_log:
            known_ms, seen_ms = last_known(self._journal)
            self.keeper.raise_floor(seen_ms=seen_ms, known_ms=known_ms)
        else:
            self.keeper.raise_floor()
        self._journal.on_sealed = self.sealed
        self._write(AnchorReason.START)

    def look(self) -> None:
        """Once a second or so."""
        was_changing, self._changing = self._changing, self.keeper.observe()
        self._say_refused()
        if self._changing and self._journal.is_open_commit_empty:
            self._change()
        elif self._changing and not was_changing:
            # the last word under the old belief; and records that may wait for their commit no longer do
            self._journal.spill()
            self._write(AnchorReason.TICK)
        elif self._owed is not None:
            self._write(self._owed)
        elif self.keeper.monotonic() >= self._due:
            self._write(AnchorReason.TICK)

    def sealed(self) -> None:
        """The journal calls this when the open commit has just become an empty one."""
        if self._changing:
            self._change()

    def stop(self) -> None:
        self._write(AnchorReason.STOP)

    async def run(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def _change(self) -> None:
        self._changing = False
        before_ms = self.keeper.wall_ms()
        jumped = self.keeper.settle()
        self._write(AnchorReason.STEP if jumped else AnchorReason.CHANGE)
        reading = self.keeper.reading()
        _log.warning(
            "clock changed",
            by_ms=reading.wall_ms - before_ms,
            trust=trust_name(reading.mark.trust),
            source=reading.source or "none",
        )

    def _write(self, reason: AnchorReason) -> None:
        reading = self.keeper.reading()
        stamp = reading.mark.producer()
        if stamp != self._journal.stamp:
            self._journal.stamp = stamp
        anchor = Anchor(
            edge=self._edge,
            log=self._journal.log_id,
            boot=reading.mark.boot,
            boot_ms=reading.boot_ms,
            wall_ms=reading.wall_ms,
            trust=trust_name(reading.mark.trust),
            error_ms=reading.error_ms,
            source=reading.source,
            reason=reason,
        )
        try:
            self._journal.append(TIME_PARTITION, anchor.record())
        except HeadwaterError as error:
            if self._owed is None:
                _log.warning("anchor postponed", reason=str(error))
            self._owed = reason
            return
        self._owed = None
        self.anchors += 1
        self._due = self.keeper.monotonic() + float(self._settings.anchor_interval)
        self._committer.request()

    def _say_refused(self) -> None:
        refused = self.keeper.refused
        if refused is not None and not self._refusing:
            _log.warning(
                "synchronised clock refused: it is earlier than what is known",
                source=refused.source,
                floor_ms=self.keeper.floor_ms,
                hint="edge.time.floor_from_log = false where the log holds times of the future",
            )
        self._refusing = refused is not None


def last_known(journal: FileJournal) -> tuple[int, int]:
    """(the latest synchronised time, the latest time of all) that the log holds; 0 where it holds none."""
    known_ms, seen_ms = 0, journal.shelf.last_wall_ms
    if TIME_PARTITION not in journal.partitions():
        return known_ms, seen_ms
    bounds = journal.bounds(TIME_PARTITION)
    offset = max(bounds.start, bounds.end - ANCHORS_READ)
    try:
        batches = journal.read_sync(TIME_PARTITION, offset, bytes_max=MIB)
        for record in (record for batch in batches for record in decode_batch(batch)[1]):
            anchor = Anchor.decode(record.value or b"")
            seen_ms = max(seen_ms, anchor.wall_ms)
            if anchor.is_fix and anchor.wall_ms - anchor.error_ms >= RELEASED_MS:
                known_ms = max(known_ms, anchor.wall_ms - anchor.error_ms)
    except (Corrupt, HeadwaterError) as error:
        _log.warning("the log's own times cannot be read", reason=str(error))
    return known_ms, seen_ms
