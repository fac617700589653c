"""A sink and its lake for tests: start it, wait for what it should have done, kill it, read every row back."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from prometheus_client import CollectorRegistry

from headwater.cloud.lake.delta import DeltaLog, Snapshot
from headwater.cloud.lake.offload import in_place
from headwater.cloud.lake.opening import load_tables
from headwater.cloud.sink.metrics import SinkMetrics
from headwater.cloud.sink.settings import SinkSettings
from headwater.cloud.sink.sink import Sink
from headwater.cloud.sink.source import Source
from headwater.core.clock import SystemClock
from headwater.core.objectstore import ObjectInfo, ObjectStore, StoredObject
from headwater.core.units import Duration
from tests.sim.loop import LoopClock

QUICK = SinkSettings(
    interval=Duration(1), fetch_wait=Duration(0.5), discovery=Duration(2), drain=Duration(600)
)

Row = tuple[str, str, int, int]  # edge, stream, partition, offset


def sink_on(
    store: ObjectStore, source: Source, *, seed: int = 1, settings: SinkSettings = QUICK
) -> Sink:
    return Sink(
        source,
        store,
        settings,
        clock=LoopClock(asyncio.get_running_loop()),
        rng=random.Random(seed),
        metrics=SinkMetrics(CollectorRegistry()),
        offload=in_place,
    )


class Running:
    """A sink at work. `stop` is SIGTERM, `kill` is SIGKILL."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self._stop = asyncio.Event()
        self.task = asyncio.ensure_future(sink.run(self._stop))

    async def stop(self) -> None:
        self._stop.set()
        await self.task

    async def kill(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


async def until(claim: Callable[[], Awaitable[bool]], *, within_s: float = 600) -> None:
    """In simulated time. A claim that never holds fails the test."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not await claim():
        assert loop.time() < deadline, "it never came true"
        await asyncio.sleep(0.25)


async def snapshot(store: ObjectStore, table: str = "telemetry") -> Snapshot:
    log = DeltaLog(store, table, clock=SystemClock(), rng=random.Random(0), offload=in_place)
    return await log.load()


async def table_rows(store: ObjectStore, table: str = "telemetry") -> pa.Table:
    found = await snapshot(store, table)
    parts = []
    for add in found.files.values():
        stored = await store.get(f"{table}/{add.file_path}")
        assert len(stored.data) == add.size
        part = pq.read_table(pa.BufferReader(stored.data), partitioning=None)
        assert part.num_rows == add.rows
        parts.append(part)
    return pa.concat_tables(parts, promote_options="default") if parts else pa.table({})


async def rows(store: ObjectStore) -> list[Row]:
    """Every address in every table, sorted; one that is there twice is here twice."""
    out: list[Row] = []
    for name in await load_tables(store):
        table = await table_rows(store, name)
        names = ("edge", "stream", "partition", "offset")
        out += zip(*(table[column].to_pylist() for column in names), strict=True)
    return sorted(out)


async def holds(store: ObjectStore, expected: Sequence[Row]) -> bool:
    return len(await rows(store)) >= len(expected)


class MortalStore(ObjectStore):
    """Lets its process die at the n-th call: before the call was applied, or after, its answer never seen."""

    def __init__(self, inner: ObjectStore, *, dies_at: int, applied: bool) -> None:
        self._inner = inner
        self._left = dies_at
        self._applied = applied
        self.died = asyncio.Event()

    @property
    def location(self) -> str:
        return self._inner.location

    async def put_if_absent(self, key: str, data: bytes) -> str:
        await self._before()
        etag = await self._inner.put_if_absent(key, data)
        await self._after()
        return etag

    async def put(self, key: str, data: bytes) -> str:
        await self._before()
        etag = await self._inner.put(key, data)
        await self._after()
        return etag

    async def replace(self, key: str, data: bytes, *, etag: str) -> str:
        raise AssertionError("the sink replaces nothing")

    async def get(self, key: str, *, start: int = 0, size: int | None = None) -> StoredObject:
        await self._before()
        try:
            return await self._inner.get(key, start=start, size=size)
        finally:
            await self._after()

    async def head(self, key: str) -> ObjectInfo | None:
        await self._before()
        return await self._inner.head(key)

    async def delete(self, key: str) -> None:
        raise AssertionError("the sink deletes nothing")

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> list[ObjectInfo]:
        await self._before()
        infos = await self._inner.list(prefix, after=after, limit=limit)
        await self._after()
        return infos

    async def close(self) -> None:
        return

    async def _before(self) -> None:
        self._left -= 1
        if self._left == 0 and not self._applied:
            await self._die()

    async def _after(self) -> None:
        if self._left == 0:
            await self._die()

    async def _die(self) -> None:
        self.died.set()
        await asyncio.Event().wait()
