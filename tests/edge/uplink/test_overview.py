"""What a person sees of a link that waits: the state is the reason, the streams in the order of their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from headwater.core.clock import SystemClock
from headwater.core.record import TopicPartition
from headwater.core.units import ByteSize
from headwater.edge.uplink.books import Books
from headwater.edge.uplink.limits import LinkClass, ShapingSettings
from headwater.edge.uplink.linkmetrics import LinkMetrics
from headwater.edge.uplink.shaping import Shaper
from headwater.edge.uplink.status import LinkOverview, LinkState
from headwater.edge.uplink.uplink import Uplink
from tests.cloud.broker.running import run, started

from .river import River


class _Unknown:
    """Nobody knows the time: every window stays closed."""

    trusted = False
    floor_ms = 0

    def wall_ms(self) -> int:
        return 0


def _against_broker(body: Callable[[int], Awaitable[None]]) -> None:
    async def scenario() -> None:
        async with started() as running:
            await body(running.broker.port)

    run(scenario())


def _stream(found: LinkOverview, name: str) -> tuple[int, str]:
    stream = next(stream for stream in found.streams if stream.stream == name)
    return stream.backlog_records, stream.waits


class ShapedRiver(River):
    def shaped(self, shaping: ShapingSettings, link: LinkClass = LinkClass.ETHERNET) -> Uplink:
        shaper = Shaper(shaping, clock=SystemClock(), known=_Unknown())
        books = Books(shaper, clock=SystemClock(), carrier=lambda _: ("test0", link))
        self.priorities = {"alarms": 9, "bulk": 1}
        return self.uplink(books=books)


async def _runs(uplink: Uplink, body: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.create_task(uplink.run())
    try:
        await body()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_outside_the_window_alarms_go_and_bulk_stays_and_says_why(tmp_path: Path) -> None:
    async def body(port: int) -> None:
        river = ShapedRiver(tmp_path, port)
        river.journal.append(TopicPartition("alarms", 0), [b"fire"] * 5)
        river.journal.append(TopicPartition("bulk", 0), [b"hum"] * 50)
        uplink = river.shaped(ShapingSettings(window="01:00-05:00"))

        async def waits() -> None:
            await river.until(lambda: _stream(uplink.overview(), "alarms")[0] == 0)
            await asyncio.sleep(0.3)
            found = uplink.overview()
            assert found.state is LinkState.OUTSIDE_WINDOW
            assert _stream(found, "bulk") == (50, "outside window")
            assert [stream.stream for stream in found.streams] == ["alarms", "bulk"]
            assert found.seconds_to_empty is None
            assert found.shaping.interface == "test0"
            registry = CollectorRegistry()
            LinkMetrics(uplink, registry)
            text = generate_latest(registry).decode()
            assert 'headwater_link_state{state="outside window"} 1.0' in text
            assert 'stream_waits{reason="outside window",stream="bulk"} 1.0' in text

        await _runs(uplink, waits)
        assert await river.stored("bulk") in ({}, {0: [], 1: [], 2: [], 3: []})

    _against_broker(body)


def test_a_spent_budget_stops_everything_and_alarms_last(tmp_path: Path) -> None:
    async def body(port: int) -> None:
        river = ShapedRiver(tmp_path, port, compression="none", batch_records_max=20)
        for _ in range(200):
            river.journal.append(TopicPartition("bulk", 0), [b"x" * 500] * 10)
        shaping = ShapingSettings(budget_metered=ByteSize(200_000), reserve=0.5)
        uplink = river.shaped(shaping, LinkClass.METERED)

        async def stops() -> None:
            await river.until(lambda: uplink.overview().state is LinkState.OVER_BUDGET)
            await asyncio.sleep(2.0)
            found = uplink.overview()
            count, why = _stream(found, "bulk")
            assert why == "budget kept for higher priorities"
            assert 1500 < count < 2000, "about a hundred kilobytes of a megabyte went"
            budget = next(b for b in found.shaping.budgets if b.link is LinkClass.METERED)
            assert 100_000 <= budget.spent <= 140_000
            river.journal.append(TopicPartition("alarms", 0), [b"fire"] * 5)
            uplink.notify()
            await river.until(lambda: _has(uplink, "alarms", 0))
            assert _stream(uplink.overview(), "bulk")[0] == count

        await _runs(uplink, stops)

    _against_broker(body)


def _has(uplink: Uplink, stream: str, backlog: int) -> bool:
    found = uplink.overview()
    return any(s.stream == stream and s.backlog_records == backlog for s in found.streams) and (
        uplink.totals.by_stream.get(stream) is not None
    )
