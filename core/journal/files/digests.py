"""What planning asks of every sealed segment, kept in memory: a full log of a thousand is looked at once a second.

A footer is a few microseconds to open and find, and some more to take apart; a full log was looked at in up to twelve passes
a round, with commits and readers waiting. So of each segment a digest stays from its first round to its end, bounded in all
by `DIGESTS_BYTES_MAX`; those beyond it are made anew each time they are asked for. A sealed segment does not change: one
that is compacted, set aside or recycled is forgotten with its file (shelf.py).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple

from ...gap import GAPS_PARTITION
from ...record import TopicPartition
from .index import Footer
from .runs import entries_max
from .segment import OpenSegment

# Of a thousand segments with two hundred partitions each.
DIGESTS_BYTES_MAX = 4 << 20
_ROW_BYTES = 4 + 8 + 8
_FIXED_BYTES = 700  # three arrays, the tuple and its numbers


class Held(NamedTuple):
    """Of one partition in one segment: the offset after its last batch, and what its batches take at most in another."""

    end: int
    entries: int


class Digest(NamedTuple):
    """`rows` are numbers of partitions (`Digests.partition`). Gap records stand apart: they are carried, not dropped."""

    rows: array[int]
    ends: array[int]
    entries: array[int]
    gaps: Held | None
    last_commit: int
    has_notes: bool
    wall_ms: int
    created_ms: int | None  # None: its header is damaged
    is_sealed: bool  # its footer, or another end of its own, is in its file


class Digests:
    def __init__(self) -> None:
        self._kept: dict[int, Digest] = {}
        self._bytes = 0
        self._partitions: list[TopicPartition] = []
        self._rows: dict[TopicPartition, int] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def partition(self, row: int) -> TopicPartition:
        return self._partitions[row]

    def present(self, digest: Digest) -> Iterator[tuple[TopicPartition, int]]:
        """Partitions, and where each ends in the segment; gap records last."""
        for row, end in zip(digest.rows, digest.ends, strict=True):
            yield self._partitions[row], end
        if digest.gaps is not None:
            yield GAPS_PARTITION, digest.gaps.end

    def get(self, sequence: int) -> Digest | None:
        return self._kept.get(sequence)

    def forget(self, sequence: int) -> None:
        found = self._kept.pop(sequence, None)
        if found is not None:
            self._bytes -= _size(found)

    def make(self, segment: OpenSegment, footer: Footer, *, is_sealed: bool) -> Digest:
        """And keep, where there is room."""
        found = self._digest(segment, footer, is_sealed=is_sealed)
        size = _size(found)
        if self._bytes + size <= DIGESTS_BYTES_MAX:
            self.forget(segment.sequence)
            self._kept[segment.sequence] = found
            self._bytes += size
        return found

    def _digest(self, segment: OpenSegment, footer: Footer, *, is_sealed: bool) -> Digest:
        rows, ends, entries = array("I"), array("Q"), array("Q")
        gaps = None
        for partition, summary in footer.present():
            held = Held(summary.end, entries_max(partition, summary, footer.totals.batches))
            if partition == GAPS_PARTITION:
                gaps = held
                continue
            rows.append(self._row(partition))
            ends.append(held.end)
            entries.append(held.entries)
        return Digest(
            rows,
            ends,
            entries,
            gaps,
            footer.totals.last_commit,
            bool(footer.totals.notes),
            footer.totals.wall_ms,
            None if segment.header is None else segment.header.created_ms,
            is_sealed,
        )

    def _row(self, partition: TopicPartition) -> int:
        row = self._rows.get(partition)
        if row is None:
            row = self._rows[partition] = len(self._partitions)
            self._partitions.append(partition)
        return row


def _size(digest: Digest) -> int:
    return _FIXED_BYTES + _ROW_BYTES * len(digest.rows)
