"""Where the records of each partition lie: one row per run, in compact arrays.

A function of the log like any other state: `apply` sees each object once, in order, on the owner and at replay.
Watermarks: `start` of a partition is moved by Trim and Drop alone, `end` by a batch alone. An object whose last live
row goes becomes *dead*: it may be deleted once the boundary has passed it. The caller collects `take_dead()`.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import msgspec

from ...errors import Corrupt, Missing
from ...record import TopicPartition
from ..reading import Bounds
from .entries import Batch, Drop, Trim
from .layout import LogObject, Run

# Arrays go to the checkpoint as they lie in memory; every platform we run on is little-endian.
assert sys.byteorder == "little", "the checkpoint's arrays are little-endian"

_COLUMNS = ("base", "last", "seq", "position", "size", "max_timestamp")
_COLUMN_BYTES = 8


class Row(NamedTuple):
    """One run: offsets `base` to `last` lie in object `seq` at bytes `position` to `position + size`."""

    base: int
    last: int
    seq: int
    position: int
    size: int
    max_timestamp: int


class PartitionRows:
    """The rows of one partition. `latest[i]` is the greatest timestamp up to row i, so time can be bisected."""

    __slots__ = (
        "base",
        "bytes",
        "end",
        "last",
        "latest",
        "max_timestamp",
        "position",
        "seq",
        "size",
        "start",
    )

    def __init__(self) -> None:
        self.start = 0
        self.end = 0
        self.bytes = 0
        self.base = array("q")
        self.last = array("q")
        self.seq = array("q")
        self.position = array("q")
        self.size = array("q")
        self.max_timestamp = array("q")
        self.latest = array("q")

    def __len__(self) -> int:
        return len(self.base)

    def row(self, number: int) -> Row:
        return Row(
            self.base[number], self.last[number], self.seq[number],
            self.position[number], self.size[number], self.max_timestamp[number],
        )  # fmt: skip

    def append(self, run: Run, seq: int) -> None:
        if run.base != self.end:
            raise Corrupt(
                f"{run.topic}/{run.partition}: object {seq} begins at offset {run.base}, not at {self.end}"
            )
        self.base.append(run.base)
        self.last.append(run.last)
        self.seq.append(seq)
        self.position.append(run.position)
        self.size.append(run.size)
        self.max_timestamp.append(run.max_timestamp)
        self.latest.append(max(run.max_timestamp, self.latest[-1] if self.latest else -1))
        self.end = run.last + 1
        self.bytes += run.size

    def trim(self, start: int) -> list[int]:
        """Moves the log start offset; returns the object of each row that went."""
        self.start = max(self.start, min(start, self.end))
        count = bisect_left(self.last, self.start)
        if not count:
            return []
        gone = list(self.seq[:count])
        self.bytes -= sum(self.size[:count])
        hidden = self.latest[count - 1]
        for column in (
            self.base,
            self.last,
            self.seq,
            self.position,
            self.size,
            self.max_timestamp,
            self.latest,
        ):
            del column[:count]
        if self.max_timestamp and hidden > self.max_timestamp[0]:
            self.latest = array("q", accumulate(self.max_timestamp, max))
        return gone

    def find(self, offset: int) -> int:
        """The first row that ends at or after `offset`; `len(self)` at the end of the log."""
        return bisect_left(self.last, offset)

    def find_time(self, timestamp_ms: int) -> int:
        """The first row that holds a timestamp of `timestamp_ms` or later; `len(self)` where there is none."""
        return bisect_left(self.latest, timestamp_ms)


class _StoredPartition(msgspec.Struct, frozen=True, array_like=True):
    topic: str
    partition: int
    start: int
    end: int
    columns: list[bytes]


class _StoredIndex(msgspec.Struct, frozen=True, array_like=True):
    partitions: list[_StoredPartition]
    object_seqs: bytes
    object_sizes: bytes


class LogIndex:
    """All partitions of one shard, and which objects still hold something."""

    def __init__(self) -> None:
        self._partitions: dict[TopicPartition, PartitionRows] = {}
        self._rows_in: dict[int, int] = {}  # live rows per object, in log order
        self._size_of: dict[int, int] = {}
        self._order = array("q")  # the keys of _rows_in and some that have gone since
        self._dead: list[int] = []

    def partitions(self) -> list[TopicPartition]:
        return list(self._partitions)

    def rows(self, partition: TopicPartition) -> PartitionRows:
        """Raises Missing."""
        rows = self._partitions.get(partition)
        if rows is None:
            raise Missing(f"{partition}: no such partition in this journal")
        return rows

    def bounds(self, partition: TopicPartition) -> Bounds:
        rows = self.rows(partition)
        return Bounds(rows.start, rows.end)

    def end(self, partition: TopicPartition) -> int:
        rows = self._partitions.get(partition)
        return rows.end if rows is not None else 0

    def live(self, seq: int) -> bool:
        return seq in self._rows_in

    def object_size(self, seq: int) -> int:
        """0 for an object that was collected."""
        return self._size_of.get(seq, 0)

    def objects_from(self, seq: int) -> list[int]:
        """Objects from `seq` on that hold a live row, in log order."""
        return [s for s in self._order[bisect_left(self._order, seq) :] if s in self._rows_in]

    def holds(self, partition: TopicPartition, seq: int, position: int) -> bool:
        """Whether that run is live: not of a dropped life of the name, not below the log start offset."""
        rows = self._partitions.get(partition)
        if rows is None:
            return False
        for number in range(bisect_left(rows.seq, seq), len(rows)):
            if rows.seq[number] != seq:
                return False
            if rows.position[number] == position:
                return True
        return False

    def apply(self, log_object: LogObject) -> None:
        """One durable object, in log order. Raises Corrupt where offsets do not follow on."""
        seq = log_object.header.seq
        runs = iter(log_object.runs)
        entered: set[TopicPartition] = set()
        for entry in log_object.entries:
            match entry:
                case Batch(partition, _):
                    if partition not in entered:  # a run is entered whole at its first batch
                        entered.add(partition)
                        self._enter(next(runs), seq)
                case Trim(partition, start):
                    rows = self._partitions.setdefault(partition, PartitionRows())
                    self._release(rows.trim(start))
                case Drop(partition):
                    entered.discard(partition)
                    dropped = self._partitions.pop(partition, None)
                    if dropped is not None:
                        self._release(dropped.seq)
                case _:
                    pass
        header = log_object.header
        if seq in self._rows_in:
            self._order.append(seq)
            self._size_of[seq] = header.data_start + header.data_bytes
        elif not header.is_fence:
            self._dead.append(
                seq
            )  # events alone: nothing to read, dead once a checkpoint covers it

    def take_dead(self) -> list[int]:
        dead, self._dead = self._dead, []
        return dead

    def encode(self) -> bytes:
        seqs = array("q", self._size_of)
        stored = _StoredIndex(
            [
                _StoredPartition(
                    name.topic, name.partition, rows.start, rows.end,
                    [getattr(rows, column).tobytes() for column in _COLUMNS],
                )
                for name, rows in self._partitions.items()
            ],
            seqs.tobytes(),
            array("q", (self._size_of[seq] for seq in seqs)).tobytes(),
        )  # fmt: skip
        return msgspec.msgpack.encode(stored)

    @classmethod
    def decode(cls, data: bytes, *, key: str) -> LogIndex:
        """Raises Corrupt."""
        try:
            stored = msgspec.msgpack.decode(data, type=_StoredIndex)
        except msgspec.MsgspecError as error:
            raise Corrupt(f"{key}: index: {error}") from error
        index = cls()
        index._size_of = dict(
            zip(_column(stored.object_seqs, key), _column(stored.object_sizes, key), strict=True)
        )
        index._rows_in = dict.fromkeys(index._size_of, 0)
        index._order = array("q", index._size_of)
        for part in stored.partitions:
            rows = PartitionRows()
            rows.start, rows.end = part.start, part.end
            for name, column in zip(_COLUMNS, part.columns, strict=True):
                setattr(rows, name, _column(column, key))
            rows.latest = array("q", accumulate(rows.max_timestamp, max))
            rows.bytes = sum(rows.size)
            for seq in rows.seq:
                index._rows_in[seq] += 1
            index._partitions[TopicPartition(part.topic, part.partition)] = rows
        return index

    def _enter(self, run: Run, seq: int) -> None:
        rows = self._partitions.setdefault(
            TopicPartition(run.topic, run.partition), PartitionRows()
        )
        rows.append(run, seq)
        self._rows_in[seq] = self._rows_in.get(seq, 0) + 1

    def _release(self, seqs: Sequence[int]) -> None:
        for seq in seqs:
            self._rows_in[seq] -= 1
            if not self._rows_in[seq]:
                del self._rows_in[seq]
                if self._size_of.pop(seq, None) is not None:
                    self._dead.append(seq)
        if len(self._order) > 2 * len(self._rows_in) + 64:
            self._order = array("q", (seq for seq in self._order if seq in self._rows_in))


def _column(data: bytes, key: str) -> array[int]:
    if len(data) % _COLUMN_BYTES:
        raise Corrupt(f"{key}: a column of {len(data)} bytes")
    column = array("q")
    column.frombytes(data)
    return column
