"""Another topic of the name, another cluster at the address: their offsets mean nothing for what was read before."""

from __future__ import annotations

import random
from functools import partial

import pytest

from headwater.cloud.lake.verify import verify_lake
from headwater.core.record import Record
from tests.sim.loop import run
from tests.sim.store import SimulatedStore

from .lake import Running, holds, sink_on, table_rows, until
from .log import NOON, MemoryLog, MemorySource
from .test_sink import TELEMETRY, check, expected, fill, says


def test_a_topic_made_anew_is_reported_and_never_skipped_silently() -> None:
    async def main() -> None:
        log, store = MemoryLog(), SimulatedStore(random.Random(1))
        fill(log, count=20)
        running = Running(sink_on(store, MemorySource(log)))
        await until(lambda: holds(store, expected(20)))
        log.batches[TELEMETRY] = []
        log.ends[TELEMETRY] = 0
        await until(lambda: says(running, "made anew or truncated"))
        await running.stop()
        await check(store, expected(20))

    run(main())


@pytest.mark.parametrize("is_down", [False, True])
@pytest.mark.parametrize("count", [10, 20, 60])
def test_a_topic_made_anew_is_read_from_its_own_start_however_far_it_is(
    count: int, is_down: bool
) -> None:
    """Shorter than before, as long, or already longer when the sink looks: its id tells."""

    async def main() -> None:
        log, store = MemoryLog(), SimulatedStore(random.Random(1))
        log.topic_ids["telemetry"] = "a" * 32
        fill(log, count=20)
        source = MemorySource(log)
        running = Running(sink_on(store, source))
        await until(lambda: holds(store, expected(20)))
        if is_down:
            await running.kill()
        log.remake("telemetry", "b" * 32)
        fill(log, first=20, count=count)
        if is_down:
            running = Running(sink_on(store, source))
        await until(lambda: holds(store, expected(20 + count)))
        fill(log, first=20 + count, count=20)
        await until(lambda: holds(store, expected(40 + count)))
        await running.stop()
        await check(store, expected(40 + count))
        running = Running(sink_on(store, source))
        fill(log, first=40 + count, count=5)
        await until(lambda: holds(store, expected(45 + count)))
        await running.stop()
        await check(store, expected(45 + count))

    run(main())


def test_a_table_from_before_topics_had_ids_goes_on_where_it_stood() -> None:
    async def main() -> None:
        log, store = MemoryLog(), SimulatedStore(random.Random(1))
        source = MemorySource(log)
        for life in range(4):
            fill(log, first=life * 10, count=10)
            running = Running(sink_on(store, source))
            await until(partial(holds, store, expected(10 + life * 10)))
            await running.stop()
            log.topic_ids["telemetry"] = "a" * 32
        await check(store, expected(40))
        found = await verify_lake(store)
        assert [proof.cluster for proof in found.partitions] == ["cluster-1"]

    run(main())


def test_a_cluster_made_anew_is_read_from_its_own_start() -> None:
    async def main() -> None:
        log, store = MemoryLog(), SimulatedStore(random.Random(1))
        for n in range(10):
            log.append("plain", [Record(NOON, b"k", b"%d" % n)])
        source = MemorySource(log)
        running = Running(sink_on(store, source))
        await until(lambda: holds(store, expected(10)))
        source.log = MemoryLog("cluster-2")
        for n in range(3):
            source.log.append("plain", [Record(NOON, b"k", b"new %d" % n)])
        await until(lambda: holds(store, expected(13)))
        await running.stop()
        found = await table_rows(store, "plain")
        assert sum(str(text).startswith("new") for text in found["payload"].to_pylist()) == 3

    run(main())
