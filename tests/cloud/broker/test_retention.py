"""What the housekeeper throws away, and what it must not."""

from __future__ import annotations

import random

from prometheus_client import CollectorRegistry

from headwater.cloud.broker.broker import Broker, BrokerOptions
from headwater.cloud.broker.creation import NewTopic, create
from headwater.cloud.broker.events import CommittedOffset, OffsetsCommitted, TopicDeleted
from headwater.cloud.broker.retention import Housekeeper
from headwater.cloud.broker.shard import Accepted, Shard
from headwater.core.batch import parse_header
from headwater.core.clock import ManualClock
from headwater.core.errors import OffsetOutOfRange
from headwater.core.record import TopicPartition

from .running import JOURNAL, HeldStore, batch_of, run

TP = TopicPartition("t", 0)
DAY_S = 86400.0


class World:
    def __init__(self, broker: Broker, clock: ManualClock, store: HeldStore) -> None:
        self.broker = broker
        self.clock = clock
        self.store = store
        self.node = broker.node
        shard = broker.node.shards.controller
        assert shard is not None
        self.shard: Shard = shard
        self.housekeeper = Housekeeper(broker.node, sweep=lambda: None)

    async def append(self, value: bytes, timestamp: int = 0, **producer: int) -> None:
        batch = batch_of(value, timestamp=timestamp, **producer)
        appended = self.shard.append(TP, batch, parse_header(batch))
        assert isinstance(appended, Accepted)
        await self.shard.writer.flush()
        await appended.commit

    async def tidy(self) -> None:
        import asyncio

        turn = asyncio.ensure_future(self.housekeeper.tidy(self.shard))
        while not turn.done():
            await self.shard.writer.flush()
            await asyncio.sleep(0)
        await turn


async def world(**config: str) -> World:
    clock, store = ManualClock(), HeldStore()
    options = BrokerOptions(
        name="n", host="127.0.0.1", port=0, advertise_host="127.0.0.1", journal=JOURNAL
    )
    broker = Broker(options, store, clock=clock, rng=random.Random(1), registry=CollectorRegistry())
    await broker.start()
    made = World(broker, clock, store)
    import asyncio

    new = NewTopic("t", 1, {name.replace("_", "."): value for name, value in config.items()})
    turn = asyncio.ensure_future(create(broker.node, new))
    while not turn.done():
        await made.shard.writer.flush()
        await asyncio.sleep(0)
    assert (await turn).topic is not None
    return made


def test_records_expire_by_the_time_the_log_took_them() -> None:
    async def body() -> None:
        it = await world(retention_ms=str(int(2 * DAY_S * 1000)))
        for day in range(5):
            await it.append(b"%d" % day, timestamp=day)  # a device that believes it is 1970
            it.clock.advance(DAY_S)
        await it.tidy()
        assert it.shard.bounds(TP) == (3, 5)
        try:
            await it.shard.journal.read(TP, 2, bytes_max=100)
        except OffsetOutOfRange:
            pass
        else:
            raise AssertionError("read below the start")
        it.clock.advance(10 * DAY_S)
        await it.tidy()
        assert it.shard.bounds(TP) == (5, 5), "a partition that fell silent expires too"
        await it.broker.close()

    run(body())


def test_partitions_are_kept_within_their_bytes() -> None:
    async def body() -> None:
        size = len(batch_of(bytes(1000)))
        it = await world(retention_bytes=str(3 * size))
        for _ in range(10):
            await it.append(bytes(1000))
        await it.tidy()
        assert it.shard.bounds(TP) == (7, 10)
        await it.broker.close()

    run(body())


def test_unlimited_topics_keep_everything() -> None:
    async def body() -> None:
        it = await world(retention_ms="-1")
        await it.append(b"a")
        it.clock.advance(10_000 * DAY_S)
        await it.tidy()
        assert it.shard.bounds(TP) == (0, 1)
        await it.broker.close()

    run(body())


def test_silent_producers_are_forgotten_and_heard_ones_kept() -> None:
    async def body() -> None:
        it = await world(retention_ms="-1")
        await it.append(b"a", producer_id=1, producer_epoch=0, base_sequence=0)
        await it.append(b"b", producer_id=2, producer_epoch=0, base_sequence=0)
        await it.tidy()
        it.clock.advance(10 * DAY_S)
        await it.append(b"c", producer_id=2, producer_epoch=0, base_sequence=1)
        it.clock.advance(5 * DAY_S)
        await it.tidy()
        assert set(it.shard.producers(TP)) == {2}
        await it.broker.close()

    run(body())


def test_groups_without_members_lose_their_offsets_after_a_week() -> None:
    async def body() -> None:
        it = await world()
        for day, group in ((0, "old"), (5, "young")):
            it.clock.advance(day * DAY_S)
            offsets = [CommittedOffset("t", 0, 1)]
            at_ms = it.clock.wall_ms()
            commit = it.shard.propose(OffsetsCommitted(group=group, offsets=offsets, at_ms=at_ms))
            await it.shard.writer.flush()
            await commit
        it.clock.advance(3 * DAY_S)
        await it.tidy()
        assert set(it.shard.state.groups) == {"young"}
        await it.broker.close()

    run(body())


def test_what_a_deletion_that_was_cut_short_left_behind_is_trimmed() -> None:
    async def body() -> None:
        it = await world()
        await it.append(b"a", producer_id=1, producer_epoch=0, base_sequence=0)
        topic = it.node.shards.topics["t"]
        commit = it.shard.propose(TopicDeleted(topic="t", topic_id=topic.topic_id))
        await it.shard.writer.flush()
        await commit
        await it.tidy()
        assert it.shard.bounds(TP) == (1, 1)
        assert it.shard.producers(TP) == {}
        await it.broker.close()

    run(body())
