"""A lake made by the real sink, in real time, on a real store: for tests of what reads it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry

from headwater.cloud.lake.opening import load_tables
from headwater.cloud.sink.metrics import SinkMetrics
from headwater.cloud.sink.settings import SinkSettings
from headwater.cloud.sink.sink import Sink
from headwater.core.clock import SystemClock
from headwater.core.objectstore import ObjectStore
from headwater.core.objectstore.directory import DirectoryStore
from headwater.core.record import Record
from headwater.core.units import Duration
from tests.cloud.sink.log import MemoryLog, MemorySource

SETTINGS = SinkSettings(
    interval=Duration(0.02), fetch_wait=Duration(0.02), discovery=Duration(0.05)
)


async def sink_until(store: ObjectStore, log: MemoryLog, rows: int, *, seed: int = 1) -> None:
    """Runs a sink until the lake holds so many rows, then stops it."""
    sink = Sink(
        MemorySource(log),
        store,
        SETTINGS,
        clock=SystemClock(),
        rng=random.Random(seed),
        metrics=SinkMetrics(CollectorRegistry()),
    )
    stop = asyncio.Event()
    running = asyncio.ensure_future(sink.run(stop))
    try:
        async with asyncio.timeout(60):
            while await _rows(store) < rows:
                assert not running.done(), "the sink ended by itself"
                await asyncio.sleep(0.02)
    finally:
        stop.set()
        await running


async def _rows(store: ObjectStore) -> int:
    tables = await load_tables(store)
    return sum(add.rows or 0 for table in tables.values() for add in table.files.values())


def make_lake(folder: Path, streams: dict[str, Sequence[Record]]) -> MemoryLog:
    log = MemoryLog()
    for name, records in streams.items():
        log.create(name)
        if records:
            log.append(name, records)
    extend_lake(folder, log, sum(len(records) for records in streams.values()))
    return log


def extend_lake(folder: Path, log: MemoryLog, rows: int) -> None:
    async def main() -> None:
        store = DirectoryStore(folder, rng=random.Random(1))
        await sink_until(store, log, rows)
        await store.close()

    asyncio.run(main())
