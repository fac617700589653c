"""Which offsets of an edge partition a table accounts for: intervals, from the labels of the records that were seen.

An edge sends a partition's offsets in *ranges*, live data beside the backlog of an outage. A record at offset `o` labelled
`L` (header `hw.range`, absent: 0) says that all of [L, o] that was not given up lies in the cloud's log, not after this
record. So a table that read the log up to there covers [L, o]; what it covers is the union, and a record is new exactly
if its offset is not covered. Where two intervals touch they are one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

Interval = tuple[int, int]


class Coverage:
    """Disjoint [first, next), ascending, apart from each other."""

    def __init__(self, intervals: Iterable[Interval] = ()) -> None:
        self._firsts: list[int] = []
        self._nexts: list[int] = []
        for first, after in intervals:
            self.add(first, after)

    def __contains__(self, offset: int) -> bool:
        place = bisect_right(self._firsts, offset) - 1
        return place >= 0 and offset < self._nexts[place]

    def __iter__(self) -> Iterator[Interval]:
        return zip(self._firsts, self._nexts, strict=True)

    def is_free(self, first: int, last: int) -> bool:
        """None of `first` to `last`, both included, is covered."""
        place = bisect_right(self._firsts, last) - 1
        return place < 0 or self._nexts[place] <= first

    @property
    def end(self) -> int:
        """One past the last offset that is covered."""
        return self._nexts[-1] if self._nexts else 0

    def add(self, first: int, after: int) -> None:
        """[first, after), and what it touches, is one interval from now on."""
        if after <= first:
            return
        if self._firsts and self._firsts[-1] <= first <= self._nexts[-1]:
            self._nexts[-1] = max(after, self._nexts[-1])
            return
        low = bisect_right(self._firsts, first) - 1
        if low < 0 or self._nexts[low] < first:
            low += 1
        high = bisect_right(self._firsts, after)
        if low < high:
            first = min(first, self._firsts[low])
            after = max(after, self._nexts[high - 1])
        self._firsts[low:high] = [first]
        self._nexts[low:high] = [after]

    def holes(self) -> list[Interval]:
        """Between the intervals, and before the first, as [first, next)."""
        starts = [0, *self._nexts]
        return [(a, b) for a, b in zip(starts, self._firsts, strict=False) if a < b]
