"""A link that is given up, in the middle of what it does: its lanes must know that nothing of theirs is in flight."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any, cast

from headwater.core.backoff import Backoff
from headwater.core.batch import encode_batch
from headwater.core.clock import ManualClock
from headwater.core.compression import Compression
from headwater.core.errors import Unknown
from headwater.core.kafka.wire import WireCount
from headwater.core.record import Record, TopicPartition
from headwater.edge.uplink.cursor import Era, PartitionCursor
from headwater.edge.uplink.cutting import CutLimits, Cutter, Origin
from headwater.edge.uplink.departures import Departures, Patience
from headwater.edge.uplink.lane import Budget, Lane, Route
from headwater.edge.uplink.limits import ShapingSettings
from headwater.edge.uplink.link import Link
from headwater.edge.uplink.partition import PartitionFlow
from headwater.edge.uplink.settings import UplinkSettings
from headwater.edge.uplink.shaping import Shaper
from headwater.edge.uplink.stages import Stage
from headwater.edge.uplink.totals import LinkTotals

SOURCE = TopicPartition("readings", 0)


class Hanging:
    """A connection that says nothing, or `breaks`; closing it never ends."""

    is_open, peer_host = True, ""

    def __init__(self, *, breaks: bool) -> None:
        self._breaks = breaks
        self.asked, self.closing = asyncio.Event(), asyncio.Event()

    async def request(self, message: object, /) -> Any:
        self.asked.set()
        if self._breaks:
            raise Unknown("broken by the test")
        await asyncio.Event().wait()

    def wire(self) -> WireCount:
        return WireCount()

    async def close(self) -> None:
        self.closing.set()
        await asyncio.Event().wait()


def _sending(clock: ManualClock) -> Lane:
    """A lane with a batch to send."""
    limits = CutLimits(1000, 10, Compression.NONE, 0)
    origin, patience = Origin("edge", "00112233aabbccdd"), Patience(0.0)
    cutter = Cutter(SOURCE, origin, limits, patience=patience, departures=Departures())
    cursor = PartitionCursor(1, 0, Era(7, 0, 0), 0, 0)
    flow = PartitionFlow(cursor, cutter, backoff=Backoff(random.Random(1)), fresh=True)
    flow.observe(10)
    flow.described(None, clock.monotonic())
    cutter.feed([encode_batch([Record(0, None, b"v")] * 10, base_offset=0)], clock.monotonic())
    return Lane(
        Route(SOURCE, SOURCE),
        flow,
        cutter,
        owner=cast("Any", None),
        weight=5,
        budget=Budget(1_000_000),
        changed=lambda lane: None,
    )


def _link(clock: ManualClock, connection: Hanging) -> Link:
    async def dial() -> Hanging:
        return connection

    return Link(
        0,
        cast("Callable[[], Any]", dial),
        UplinkSettings(),
        clock=clock,
        backoff=Backoff(random.Random(1)),
        totals=LinkTotals(),
        shaper=Shaper(ShapingSettings(), clock=clock),
        on_trouble=lambda reason: None,
        on_connected=lambda node: None,
    )


async def _given_up(*, breaks: bool) -> Lane:
    """The session ends while the link waits for an answer, or (it `breaks`) while it closes."""
    clock = ManualClock()
    connection, lane = Hanging(breaks=breaks), _sending(clock)
    link = _link(clock, connection)
    link.offer(lane)
    running = asyncio.create_task(link.run())
    async with asyncio.timeout(20):
        await (connection.closing if breaks else connection.asked).wait()
        assert lane.flow.flying == 1
        running.cancel()
        if not breaks:
            await connection.closing.wait()
            running.cancel()  # as a second cancellation does, or the end of the process
        with contextlib.suppress(asyncio.CancelledError):
            await running
    return lane


def test_lanes_of_a_link_given_up_while_it_closes_go_on_with_the_next() -> None:
    lane = asyncio.run(_given_up(breaks=True))
    assert lane.flow.flying == 0, "in flight for ever: nobody answers, nobody sends"
    assert lane.flow.stage is Stage.ASK


def test_lanes_of_a_link_given_up_twice_go_on_with_the_next() -> None:
    lane = asyncio.run(_given_up(breaks=False))
    assert lane.flow.flying == 0
    assert lane.flow.stage is Stage.ASK
