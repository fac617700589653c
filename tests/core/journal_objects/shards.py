"""What the tests of the object journal share: a bucket, a way to open shards on it, and small batches."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from headwater.core.batch import decode_batch, encode_batch
from headwater.core.journal.objects import (
    Batch,
    Entry,
    Event,
    ObjectJournalSettings,
    ShardWriter,
    Trim,
)
from headwater.core.record import Record, TopicPartition
from headwater.core.units import Duration
from tests.sim.loop import LoopClock, run
from tests.sim.shard import SHARD, History, open_shard
from tests.sim.store import SimulatedBucket, SimulatedStore

READINGS = TopicPartition("readings", 0)
ALERTS = TopicPartition("alerts", 2)
SETTINGS = ObjectJournalSettings(
    flush_interval=Duration(0.05), attempt_timeout=Duration(10_000.0), checkpoint_objects=10**6
)

__all__ = ["SHARD", "History", "LoopClock", "run"]


class GatedStore(SimulatedStore):
    """Creation of keys with `prefix` waits at the gate: a process that was stopped between decision and request."""

    def __init__(self, bucket: SimulatedBucket, prefix: str) -> None:
        super().__init__(random.Random(9), bucket=bucket, name="gated")
        self.prefix = prefix
        self.open = asyncio.Event()
        self.reached = asyncio.Event()

    async def put_if_absent(self, key: str, data: bytes) -> str:
        if key.startswith(self.prefix) and not self.open.is_set():
            self.reached.set()
            await self.open.wait()
        return await super().put_if_absent(key, data)


class Site:
    """One bucket and any number of processes on it."""

    def __init__(self) -> None:
        self.bucket = SimulatedBucket()
        self._seed = 0

    def store(self) -> SimulatedStore:
        self._seed += 1
        return SimulatedStore(random.Random(self._seed), bucket=self.bucket, name=f"p{self._seed}")

    async def open(
        self,
        store: SimulatedStore | None = None,
        *,
        settings: ObjectJournalSettings = SETTINGS,
        history: History | None = None,
    ) -> ShardWriter:
        self._seed += 1
        return await open_shard(
            store or self.store(), history or History(), settings, random.Random(self._seed)
        )

    def keys(self, prefix: str) -> list[str]:
        return sorted(key for key in self.bucket.objects if key.startswith(prefix))


def simulated(story: Callable[[Site], Awaitable[None]]) -> None:
    async def main() -> None:
        await story(Site())

    run(main())


def batch(
    writer: ShardWriter, *values: bytes, partition: TopicPartition = READINGS, at: int = 1000
) -> Batch:
    records = [Record(at + number, b"k", value) for number, value in enumerate(values)]
    return Batch(partition, encode_batch(records, base_offset=writer.next_offset(partition)))


def event(text: str = "[0,0]") -> Event:
    return Event(text.encode())


def values(batches: list[bytes]) -> list[bytes | None]:
    return [record.value for data in batches for record in decode_batch(data)[1]]


async def fill(writer: ShardWriter, count: int) -> None:
    """So many objects of one batch each."""
    for number in range(count):
        await writer.submit([batch(writer, str(number).encode())])


async def retire_all(writer: ShardWriter) -> None:
    """Trims everything and collects it: two checkpoints cover it."""
    entries: list[Entry] = [Trim(READINGS, writer.next_offset(READINGS))]
    await writer.submit(entries)
    await writer.checkpoint()
    await writer.submit([event()])
    await writer.checkpoint()
    await writer.collect()
