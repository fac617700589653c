"""Sequence numbers for which no file stands: which of them are in order, and which are segments that somebody lost.

In order are those the state lists as *absent*: retired, never come into use because the disk refused, or lost and
accounted for. The list is ranges that do not touch; a standing segment lies between two of them, so there is at most
one more than there are segments, and those below the oldest segment are one. It is durable before a file goes, so a crash
between leaves a file that stands and is listed, which is no hole.

Whatever else is missing was taken by other hands than ours (a file system check, a person, a flipped bit in a
directory), or went to quarantine in an earlier life. Where the next segment's header names its predecessor, numbers
between the two were never in use.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ...disk import Disk
from ...errors import HeadwaterError
from ...record import TopicPartition
from . import names
from .segment import load_footer, open_segment
from .settings import FileJournalSettings
from .shelf import SegmentLost, Shelf, add_to_tables

# The smallest record of a batch: length, attributes, two deltas, null key, null value, no headers.
RECORD_BYTES_MIN = 7

Range = tuple[int, int]
"""First and last, both included."""


class Hole(NamedTuple):
    """Segments missing between two that stand. `after`: the next one standing; None: they were the newest."""

    ranges: list[Range]
    after: int | None

    @property
    def first(self) -> int:
        return self.ranges[0][0]

    @property
    def segments(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)

    def numbers(self) -> Iterator[int]:
        return (s for first, last in self.ranges for s in range(first, last + 1))

    def __str__(self) -> str:
        told = [
            names.segment(first)
            if first == last
            else f"{names.segment(first)} to {names.segment(last)}"
            for first, last in self.ranges
        ]
        return ", ".join(told)


def holds(ranges: Iterable[Range], number: int) -> bool:
    return any(first <= number <= last for first, last in ranges)


def united(ranges: Iterable[Range]) -> list[Range]:
    """The same numbers as few ranges, ascending."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def between(first: int, last: int, ranges: Iterable[Range]) -> list[Range]:
    """What of `first` to `last` is in none of the ranges."""
    found: list[Range] = []
    for low, high in united(ranges):
        if low > last:
            break
        if first < low:
            found.append((first, low - 1))
        first = max(first, high + 1)
    if first <= last:
        found.append((first, last))
    return found


def holes_in(
    standing: Sequence[int],
    absent: Iterable[Range],
    *,
    last: int,
    previous_of: Callable[[int], int | None],
) -> list[Hole]:
    """Of the numbers 1 to `last`. `standing` ascends; `previous_of` is what a segment's header names, if it does."""
    holes: list[Hole] = []
    for low, high in between(1, last, [*absent, *((s, s) for s in standing)]):
        index = bisect_right(standing, high)
        after = standing[index] if index < len(standing) else None
        previous = previous_of(after) if after is not None else None
        used = high if previous is None else min(high, previous)
        if used < low:
            continue
        if holes and holes[-1].after == after:
            holes[-1].ranges.append((low, used))
        else:
            holes.append(Hole([(low, used)], after))
    return holes


def absent_at_start(
    told: list[Range] | None, standing: Sequence[int], last: int, *, state_found: bool
) -> list[Range]:
    """Without a list the state is of before there was one: what is missing at this first start is taken for retired.
    Without a state partitions start at the oldest segment, so what was before it is nobody's loss."""
    if told is not None:
        return told
    upto = last if state_found else min(standing, default=last + 1) - 1
    return between(1, upto, [(s, s) for s in standing])


def named_before(disk: Disk, directory: str, log_id: bytes, sequence: int) -> int | None:
    """The predecessor in a segment's header; None where that cannot be read."""
    try:
        segment = open_segment(disk, directory, sequence, log_id=log_id, read_only=True)
    except HeadwaterError:
        return None
    segment.file.close()
    return segment.header.previous_sequence if segment.header is not None else None


def unseen_after(
    shelf: Shelf, hole: Hole, ends: Mapping[TopicPartition, int]
) -> list[TopicPartition] | None:
    """Those of `ends` that may have gone on in the hole without anything after it telling how far; None: a footer tells."""
    shown: set[TopicPartition] = set()
    if hole.after is not None and shelf.active is not None and shelf.active.map is not None:
        shown.update(shelf.active.map.partitions)
    for sequence in shelf.sequences[bisect_left(shelf.sequences, hole.first) :]:
        try:
            if load_footer(shelf.segment(sequence)) is not None:
                return None
            shown.update(shelf.batches(sequence).partitions)
        except SegmentLost:
            continue
    return [partition for partition in ends if partition not in shown]


def first_shown(shelf: Shelf, partition: TopicPartition) -> int:
    """The first offset that a standing segment shows of it; where none does, none is in the way of any start."""
    for sequence in list(shelf.sequences):
        try:
            summary = shelf.footer(sequence).summary(partition)
        except SegmentLost:
            continue
        if summary is not None:
            return summary.base
    found = shelf.active.map if shelf.active is not None else None
    summary = found.summary(partition) if found is not None else None
    return summary.base if summary is not None else shelf.floor


def records_max(hole: Hole, settings: FileJournalSettings) -> int:
    """How many records of one partition the missing segments can have held; never more of them than a journal has."""
    segment = int(settings.segment_bytes)
    return min(hole.segments, int(settings.bytes_max) // segment) * (segment // RECORD_BYTES_MIN)


def stood_before(shelf: Shelf, sequence: int) -> dict[TopicPartition, int]:
    """Where partitions end by the segments left below this number."""
    ends = shelf.tables_before(sequence)[0]
    active = shelf.active
    if active is not None and active.map is not None and active.sequence < sequence:
        add_to_tables(active.map, ends, {})
    return ends
