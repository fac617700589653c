"""Data that the sink cannot swallow whole, or not at all: it costs its own stream something, and no other."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from headwater.cloud.sink import building
from headwater.cloud.sink.source import Fetched
from headwater.core.record import Record
from tests.sim.loop import run
from tests.sim.store import SimulatedStore

from .lake import Running, holds, sink_on, snapshot, until
from .log import NOON, MemoryLog, MemorySource
from .test_sink import check, expected, fill, has_table, says


def test_a_bug_that_one_stream_s_data_meets_blocks_that_stream_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, place = building.build, "headwater.cloud.sink.table.build"

    def build(fetched: Sequence[Fetched], **more: Any) -> building.Built:
        if fetched[0].partition.topic == "poison":
            raise RecursionError("deep")
        return real(fetched, **more)

    monkeypatch.setattr(place, build)

    async def main() -> None:
        log, store = MemoryLog(), SimulatedStore(random.Random(1))
        log.append("poison", [Record(NOON, b"k", b"1")])
        running = Running(sink_on(store, MemorySource(log)))
        await until(lambda: says(running, "stream poison: a bug: RecursionError: deep"))
        fill(log)
        await until(lambda: holds(store, expected(40)))
        monkeypatch.setattr(place, real)
        await until(lambda: has_table(store, "poison"))
        await running.stop()

    run(main())


def test_what_is_too_large_when_decompressed_goes_into_several_commits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(building, "COMMIT_BYTES_MAX", 1000)

    async def main() -> None:
        log, store = MemoryLog(), SimulatedStore(random.Random(1))
        fill(log)
        running = Running(sink_on(store, MemorySource(log)))
        await until(lambda: holds(store, expected(40)))
        await running.stop()
        await check(store, expected(40))
        assert (await snapshot(store, "telemetry")).version >= 3

    run(main())
