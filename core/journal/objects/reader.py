"""Reading one shard: the index says where, the cache or a range GET gives the bytes.

Knows nothing of writing. A reader beside a writer that was fenced reads a correct prefix of the log. An object that
collection removed while it was being read was below the log start offset: the reader answers OffsetOutOfRange.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

from ...batch import decode_batch
from ...errors import Corrupt, Missing, OffsetOutOfRange
from ...record import TopicPartition
from ..reading import Arrival, Bounds, JournalReader, Position
from .cache import SegmentCache
from .index import LogIndex, PartitionRows, Row
from .layout import decode_runs, split_run
from .settings import ObjectJournalSettings


class TimedOffset(NamedTuple):
    """The first record at or after a time asked for."""

    offset: int
    timestamp: int


class ObjectJournal(JournalReader):
    """JournalReader over the durable log of one shard."""

    def __init__(
        self, index: LogIndex, cache: SegmentCache, settings: ObjectJournalSettings
    ) -> None:
        self._index = index
        self._cache = cache
        self._settings = settings

    def partitions(self) -> list[TopicPartition]:
        return self._index.partitions()

    def bounds(self, partition: TopicPartition) -> Bounds:
        return self._index.bounds(partition)

    def bytes_held(self, partition: TopicPartition) -> int:
        """Stored bytes between the bounds, as retention counts them. Raises Missing."""
        return self._index.rows(partition).bytes

    def start_for_retention(
        self,
        partition: TopicPartition,
        *,
        bytes_max: int | None = None,
        oldest_ms: int | None = None,
    ) -> int:
        """Where the log should start so that at most `bytes_max` remain and nothing wholly older than `oldest_ms`.

        Whole runs only, and time only where all older runs are expired too. Moves nothing: submit a Trim.
        """
        rows = self._index.rows(partition)
        start, held = rows.start, rows.bytes
        for number in range(len(rows)):
            too_many = bytes_max is not None and held > bytes_max
            too_old = oldest_ms is not None and rows.max_timestamp[number] < oldest_ms
            if not too_many and not too_old:
                break
            start = rows.last[number] + 1
            held -= rows.size[number]
        return start

    async def read(self, partition: TopicPartition, offset: int, *, bytes_max: int) -> list[bytes]:
        rows = self._within(partition, offset)
        wanted: list[Row] = []
        planned = 0
        for number in range(rows.find(offset), len(rows)):
            if planned >= bytes_max or len(wanted) >= self._settings.read_runs_max:
                break
            wanted.append(rows.row(number))
            planned += rows.size[number]
        try:
            parts = await asyncio.gather(*(self._run(row) for row in wanted))
        except Missing as error:
            self._within(
                partition, offset
            )  # collected while we asked: the offset is below the start now
            raise Corrupt(
                f"{partition}: offset {offset}: the object that holds it is gone"
            ) from error
        batches: list[bytes] = []
        room = bytes_max
        for part in parts:
            for span, batch in split_run(part):
                if span.last < offset:
                    continue
                if batches and span.size > room:
                    return batches
                batches.append(bytes(batch))
                room -= span.size
        return batches

    async def read_arrivals(
        self, position: Position, *, bytes_max: int
    ) -> tuple[list[Arrival], Position]:
        arrivals: list[Arrival] = []
        room = bytes_max
        for seq in self._index.objects_from(position.segment):
            skip = position.byte if seq == position.segment else 0
            try:
                data = await self._cache.object(seq)
            except Missing:
                if self._index.live(seq):
                    raise Corrupt(f"object {seq} of the log is gone") from None
                continue  # collected meanwhile
            for partition, at, batch in self._live_batches(seq, data):
                if at < skip:
                    continue
                if arrivals and len(batch) > room:
                    return arrivals, Position(seq, at)
                arrivals.append(Arrival(partition, bytes(batch)))
                room -= len(batch)
            position = Position(seq, len(data))
        return arrivals, position

    def _live_batches(
        self, seq: int, data: bytes
    ) -> Iterator[tuple[TopicPartition, int, memoryview]]:
        for run in decode_runs(data, key=f"object {seq}"):
            partition = TopicPartition(run.topic, run.partition)
            if not self._index.holds(partition, seq, run.position):
                continue
            start = self._index.bounds(partition).start
            at = run.position
            for span, batch in split_run(memoryview(data)[at : at + run.size]):
                if span.last >= start:
                    yield partition, at, batch
                at += span.size

    async def offset_for_time(
        self, partition: TopicPartition, timestamp_ms: int
    ) -> TimedOffset | None:
        """The first record whose timestamp is `timestamp_ms` or later; None where there is none. Raises Missing."""
        rows = self._index.rows(partition)
        number = rows.find_time(timestamp_ms)
        while number < len(rows):
            row = rows.row(number)
            if row.max_timestamp >= timestamp_ms:
                found = await self._first_in(rows, row, timestamp_ms)
                if found is not None:
                    return found
            number += 1
        return None

    async def _first_in(
        self, rows: PartitionRows, row: Row, timestamp_ms: int
    ) -> TimedOffset | None:
        for span, batch in split_run(await self._run(row)):
            if span.max_timestamp < timestamp_ms or span.last < rows.start:
                continue
            _, records = decode_batch(bytes(batch))
            for record in records:
                if record.timestamp >= timestamp_ms and record.offset >= rows.start:
                    return TimedOffset(record.offset, record.timestamp)
        return None

    def _within(self, partition: TopicPartition, offset: int) -> PartitionRows:
        rows = self._index.rows(partition)
        if not rows.start <= offset <= rows.end:
            raise OffsetOutOfRange(
                f"{partition}: offset {offset} is outside {rows.start} to {rows.end}"
            )
        return rows

    async def _run(self, row: Row) -> memoryview:
        return await self._cache.run(
            row.seq, row.position, row.size, object_size=self._index.object_size(row.seq)
        )
