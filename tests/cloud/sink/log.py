"""A Kafka cluster in memory, as the sink sees one: real record batches, none of the network."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from headwater.cloud.sink.source import Aborted, Fetched, OutOfRange
from headwater.core.batch import encode_batch, split_batches
from headwater.core.errors import Closed, Missing
from headwater.core.journal.reading import Bounds
from headwater.core.record import (
    ADDRESS_HEADER,
    LOG_HEADER,
    Address,
    Headers,
    Record,
    TopicPartition,
)

LOG = b"0123456789abcdef"
NOON = 1_795_348_800_000  # 2026-11-22 12:00 UTC, ms


def addressed(
    payload: bytes | None,
    offset: int,
    *,
    edge: str = "edge-1",
    stream: str = "telemetry",
    partition: int = 0,
    key: bytes = b"dev/1",
    timestamp: int = NOON,
    extra: Headers = (),
) -> Record:
    address = Address(edge, stream, partition, offset).encode()
    headers = (*extra, (ADDRESS_HEADER, address), (LOG_HEADER, LOG))
    return Record(timestamp, key, payload, headers)


class MemoryLog:
    """The cluster: what is in it, to be shared by several sources."""

    def __init__(self, cluster: str = "cluster-1") -> None:
        self.cluster = cluster
        self.batches: dict[TopicPartition, list[bytes]] = {}
        self.starts: dict[TopicPartition, int] = {}
        self.ends: dict[TopicPartition, int] = {}
        self.aborted: dict[TopicPartition, list[Aborted]] = {}
        self.topic_ids: dict[str, str] = {}

    def remake(self, topic: str, topic_id: str) -> None:
        """Somebody deletes the topic, and makes it anew, empty."""
        self.topic_ids[topic] = topic_id
        for tp in [tp for tp in self.batches if tp.topic == topic]:
            self.batches[tp], self.starts[tp], self.ends[tp] = [], 0, 0

    def create(self, topic: str, partition: int = 0) -> TopicPartition:
        tp = TopicPartition(topic, partition)
        self.batches.setdefault(tp, [])
        self.starts.setdefault(tp, 0)
        self.ends.setdefault(tp, 0)
        return tp

    def append(
        self, topic: str, records: Sequence[Record], *, partition: int = 0, producer_id: int = -1
    ) -> None:
        tp = self.create(topic, partition)
        self.append_bytes(
            tp, encode_batch(records, base_offset=self.ends[tp], producer_id=producer_id)
        )

    def append_bytes(self, tp: TopicPartition, batch: bytes) -> None:
        self.batches[tp].append(batch)
        self.ends[tp] = next(split_batches(batch))[0].next_offset

    def trim(self, tp: TopicPartition, start: int) -> None:
        """Retention: what lies below is gone."""
        self.starts[tp] = start
        self.batches[tp] = [
            batch for batch in self.batches[tp] if next(split_batches(batch))[0].next_offset > start
        ]


class MemorySource:
    """One sink's way to it. `batches_max` bounds an answer, so that several fetches are needed, each of `pause_s`."""

    def __init__(self, log: MemoryLog, *, batches_max: int = 1000, pause_s: float = 0) -> None:
        self.log = log
        self.pause_s = pause_s
        self.batches_max = batches_max
        self.fetches = 0
        self._learnt: dict[str, str] = {}

    async def cluster_id(self) -> str:
        return self.log.cluster

    async def partitions(self) -> list[TopicPartition]:
        self._learnt = dict(self.log.topic_ids)
        return list(self.log.batches)

    @property
    def topic_ids(self) -> Mapping[str, str]:
        return dict(self._learnt)

    async def topic_id(self, topic: str) -> str:
        return self.log.topic_ids.get(topic, "")

    async def bounds(self, partition: TopicPartition) -> Bounds:
        if partition not in self.log.batches:
            raise Missing(str(partition))
        return Bounds(self.log.starts[partition], self.log.ends[partition])

    async def fetch(
        self, positions: Mapping[TopicPartition, int], *, wait_s: float
    ) -> list[Fetched | OutOfRange]:
        self.fetches += 1
        await asyncio.sleep(self.pause_s)
        out: list[Fetched | OutOfRange] = []
        for tp, offset in positions.items():
            if tp not in self.log.batches:
                raise Closed("gone")
            bounds = await self.bounds(tp)
            if not bounds.start <= offset <= bounds.end:
                out.append(OutOfRange(tp, offset, bounds))
                continue
            found = [
                batch
                for batch in self.log.batches[tp]
                if next(split_batches(batch))[0].next_offset > offset
            ][: self.batches_max]
            if found:
                aborted = self.log.aborted.get(tp, [])
                out.append(Fetched(tp, offset, b"".join(found), aborted, bounds.end))
        if not out:
            await asyncio.sleep(wait_s)
        return out

    async def close(self) -> None:
        return
