"""When a partition opens a live lane, in virtual time: what an outage left is not held back by `split_after`, even where
the lane could not be opened in the moment in which the link came back. After a restart with a cursor older than the
cloud that is the usual case: a live range that is in use looks as if it had sent nothing until it has been read back.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any, cast

from headwater.core.clock import ManualClock
from headwater.core.record import TopicPartition
from headwater.edge.uplink.cursor import Era, PartitionCursor
from headwater.edge.uplink.lane import Budget, Route
from headwater.edge.uplink.lanes import PartitionLanes
from headwater.edge.uplink.limits import ShapingSettings
from headwater.edge.uplink.partition import PartitionFlow
from headwater.edge.uplink.parts import Parts
from headwater.edge.uplink.settings import UplinkSettings
from headwater.edge.uplink.shaping import Shaper

from .river import MemoryJournal

SOURCE = TopicPartition("readings", 0)
BEHIND = 50  # and more is an outage's


async def _refuse(partition: TopicPartition, first: int, last: int, detail: str) -> None:
    raise AssertionError("nothing is refused here")


class Partition:
    """Lanes over a journal that grows when told; what a lane sends is acknowledged at once."""

    def __init__(self, *, ranges_max: int = 4) -> None:
        self.clock = ManualClock()
        self.journal = MemoryJournal()
        settings = UplinkSettings(split_records=BEHIND, ranges_max=ranges_max, batch_records_max=10)
        parts = Parts(
            edge="edge-1",
            journal=self.journal,
            settings=settings,
            clock=self.clock,
            rng=random.Random(1),
            on_refused=_refuse,
            shaper=Shaper(ShapingSettings(), clock=self.clock),
        )
        self.lanes = PartitionLanes(
            Route(SOURCE, SOURCE),
            [PartitionCursor(1, 0, Era(1, 0, 0), 0, 0)],
            parts,
            fresh=True,
            budget=Budget(1_000_000),
            changed=lambda lane: None,
        )
        self._producers = 1

    @property
    def flows(self) -> list[PartitionFlow]:
        return self.lanes.ranges.flows

    def lags(self) -> bool:
        """As the session asks."""
        self.lanes.observe(self.journal.bounds(SOURCE).end)
        return self.lanes.lags(self.clock.monotonic())

    def outage(self, records: int = 4 * BEHIND) -> None:
        """So much comes in while nobody is there; then the link is back."""
        self.journal.append(SOURCE, [b"v"] * records)
        self.lanes.observe(self.journal.bounds(SOURCE).end)
        self.clock.advance(60)
        self.lanes.returned()

    def open(self) -> None:
        self.lanes.ranges.begin_opening(self.journal.bounds(SOURCE).end)
        self._producers += 1
        self.lanes.open(self.lanes.ranges.next_cursors(self._producers, 0)[-1])

    def send(self, flow: PartitionFlow, records: int) -> None:
        """So many of `flow` go up and are acknowledged."""
        now = self.clock.monotonic()
        if flow.position == flow.cursor.origin:
            flow.described(None, now)
        asyncio.run(self._feed(flow))
        wanted = flow.acked + records
        while flow.acked < wanted:
            cut = flow.take(now + 60)
            assert cut is not None
            flow.answered(cut, 0, -1, now)

    async def _feed(self, flow: PartitionFlow) -> None:
        supply = cast("Any", flow.supply)
        batches = await self.journal.read(SOURCE, supply.wanted, bytes_max=1_000_000)
        supply.feed(batches, self.clock.monotonic())

    def fill_in(self) -> None:
        """All of the first range goes up; it and the next are one."""
        flow, lanes = self.flows[0], list(self.lanes)
        assert flow.end is not None
        self.send(flow, flow.end - flow.acked)
        self.lanes.examine(lanes[0])


def _at_the_limit() -> Partition:
    """Two ranges where there may be two, and an outage behind which the live one is far behind."""
    partition = Partition(ranges_max=2)
    partition.outage()
    assert partition.lags()
    partition.open()
    partition.outage()
    partition.send(partition.lanes.live.flow, 10)
    assert partition.lanes.ranges.lags(BEHIND)
    assert not partition.lags(), "that many there may be"
    return partition


def test_with_the_link_back_a_live_lane_opens_at_once() -> None:
    partition = Partition()
    partition.outage()
    assert partition.lags()


def test_what_falls_behind_while_the_link_is_up_gets_one_after_a_while() -> None:
    partition = Partition()
    partition.journal.append(SOURCE, [b"v"] * 10)
    assert not partition.lags(), "caught up in a moment anyway"
    partition.journal.append(SOURCE, [b"v"] * (BEHIND + 1))
    assert not partition.lags()
    partition.clock.advance(9.9)
    assert not partition.lags()
    partition.clock.advance(0.1)
    assert partition.lags()


def test_at_the_limit_of_ranges_it_opens_as_soon_as_one_has_filled_in() -> None:
    partition = _at_the_limit()
    partition.fill_in()
    assert len(partition.flows) == 1
    assert partition.lags(), "not ten seconds later"


def test_a_live_lane_that_sent_nothing_before_the_next_outage_makes_room_with_its_first_batch() -> (
    None
):
    partition = Partition()
    partition.outage()
    assert partition.lags()
    partition.open()
    partition.outage()
    assert not partition.lags(), "a link that comes and goes makes no more of them"
    partition.send(partition.lanes.live.flow, 10)
    assert partition.lags(), "not ten seconds later"


def test_what_caught_up_while_it_had_to_wait_is_no_outage_any_more() -> None:
    partition = _at_the_limit()
    live = partition.lanes.live.flow
    partition.send(live, live.log_end - live.acked)
    assert not partition.lags()
    partition.fill_in()
    partition.journal.append(SOURCE, [b"v"] * (BEHIND + 1))
    assert not partition.lags(), "that is the pace of the day"
    partition.clock.advance(10)
    assert partition.lags()
