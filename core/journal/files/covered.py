"""At a start: which segments a compacted one stands for although their files are still there.

A crash between the renaming of a compacted segment and the state that lists as absent what it covers leaves both. The
state from before the renaming names the runs (`compacting`); whether one was replaced is told by the header of its last
segment. So only those headers are read; where both states are lost, all are. See compaction.py, steps 3 to 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...disk import Disk
from ...errors import Corrupt, Missing, Refused
from .holes import Range
from .segment import open_segment
from .state import State


class Covered(NamedTuple):
    """`ranges`: sequences, standing or not, that compacted segments stand for; `sizes`: of those segments' files."""

    ranges: list[Range]
    sizes: dict[int, int]


def covered_by(
    disk: Disk, directory: str, log_id: bytes, state: State | None, standing: Sequence[int]
) -> Covered:
    """Raises Unavailable."""
    found = Covered([], {})
    if state is None:
        asked = {sequence: sequence for sequence in standing}
    else:
        asked = {last: first for first, last in state.compacting if last in standing}
        found.sizes.update(each for each in state.compacted if each[0] in standing)
    for last, told in asked.items():
        try:
            segment = open_segment(disk, directory, last, log_id=log_id, read_only=True)
        except (Corrupt, Missing, Refused):
            continue  # then it covers nothing: what it would have covered is there
        try:
            if segment.compacted:
                # one that was compacted before the run, its header damaged since, may be as it was: then it covers nothing.
                # At worst what survived stands twice, which no reader by partition meets, and the next compaction unites
                unsure = last if last in found.sizes else told
                found.sizes[last] = segment.file.size()
                own = segment.header.first_covered if segment.header is not None else None
                first = unsure if own is None else own
                if first < last:
                    found.ranges.append((first, last - 1))
        finally:
            segment.file.close()
    return found
