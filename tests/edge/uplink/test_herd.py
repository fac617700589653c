"""A thousand edges and one cloud that restarts: the real uplinks, in virtual time; the cloud counts who comes when.

Worst case on purpose: every edge has a request under way when the cloud dies, so all of them notice in the same moment.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any, TypeVar, cast

import pytest

from headwater.core.batch import parse_header
from headwater.core.errors import Unavailable, Unknown
from headwater.core.kafka.messages import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    InitProducerIdRequest,
    InitProducerIdResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    MetadataRequest,
    MetadataResponse,
    ProduceRequest,
    ProduceResponse,
)
from headwater.core.kafka.messages.describe_producers import (
    PartitionResponse,
    ProducerState,
    TopicResponse,
)
from headwater.core.kafka.messages.list_offsets import (
    ListOffsetsPartitionResponse,
    ListOffsetsTopicResponse,
)
from headwater.core.kafka.messages.metadata import (
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from headwater.core.kafka.messages.produce import (
    PartitionProduceResponse,
    TopicProduceResponse,
)
from headwater.core.kafka.schema import Message, Request
from headwater.core.kafka.wire import WireCount
from headwater.core.record import TopicPartition
from headwater.core.units import Duration
from headwater.edge.uplink.cursor import CursorStore
from headwater.edge.uplink.settings import UplinkSettings
from headwater.edge.uplink.uplink import Uplink
from tests.sim.disk import SimDisk
from tests.sim.loop import LoopClock, SimulatedLoop

from .river import MemoryJournal

pytestmark = pytest.mark.alone

R = TypeVar("R", bound=Message)
EDGES = 1000
SOURCE = TopicPartition("readings", 0)


class Cloud:
    """Answers nothing while it is `dying` (all edges wait), and refuses connections while it is down."""

    def __init__(self) -> None:
        self.up = True
        self.dying = False
        self.arrivals: list[float] = []
        self.attempts = 0
        self.open: list[Wire] = []

    def die(self) -> None:
        self.up, self.dying = False, False
        wires, self.open = self.open, []
        for wire in wires:
            wire.end()


class Wire:
    """One connection of one edge; `producers` is what the cloud keeps of that edge."""

    def __init__(self, cloud: Cloud, producers: dict[int, int]) -> None:
        self._cloud = cloud
        self._producers = producers
        self._waiting: list[asyncio.Future[None]] = []
        self.is_open = True
        self.peer_host = "192.0.2.1"

    async def request(self, message: Request[R], /) -> R:
        if not self.is_open:
            raise Unavailable("closed")
        if self._cloud.dying:
            gone = asyncio.get_running_loop().create_future()
            self._waiting.append(gone)
            await gone
        await asyncio.sleep(0.05)
        if not self.is_open:
            raise Unknown("the cloud died")
        return cast("R", self._answer(cast("Any", message)))

    def end(self) -> None:
        self.is_open = False
        for gone in self._waiting:
            if not gone.done():
                gone.set_exception(Unknown("the cloud died"))

    def wire(self) -> WireCount:
        return WireCount()

    async def close(self) -> None:
        self.is_open = False

    def _answer(self, message: Request[Message]) -> Message:
        topic, index = SOURCE
        match message:
            case MetadataRequest():
                part = MetadataResponsePartition(partition_index=index, leader_id=1)
                known = MetadataResponseTopic(name=topic, partitions=[part])
                broker = MetadataResponseBroker(node_id=1, host="cloud", port=9092)
                return MetadataResponse(
                    brokers=[broker], cluster_id="c", controller_id=1, topics=[known]
                )
            case InitProducerIdRequest():
                return InitProducerIdResponse(producer_id=7)
            case ListOffsetsRequest():
                found = ListOffsetsPartitionResponse(partition_index=index, offset=0)
                return ListOffsetsResponse(
                    topics=[ListOffsetsTopicResponse(name=topic, partitions=[found])]
                )
            case DescribeProducersRequest():
                states = [
                    ProducerState(producer_id=p, last_sequence=s)
                    for p, s in self._producers.items()
                ]
                part_ = PartitionResponse(partition_index=index, active_producers=states)
                return DescribeProducersResponse(
                    topics=[TopicResponse(name=topic, partitions=[part_])]
                )
            case ProduceRequest():
                header = parse_header(bytes(message.topic_data[0].partition_data[0].records or b""))
                self._producers[7] = header.base_sequence + header.record_count - 1
                done = PartitionProduceResponse(index=index, base_offset=header.base_sequence)
                return ProduceResponse(
                    responses=[TopicProduceResponse(name=topic, partition_responses=[done])]
                )
        raise AssertionError(type(message).__name__)


def _edge(cloud: Cloud, seed: int, settings: UplinkSettings) -> tuple[Uplink, MemoryJournal]:
    journal = MemoryJournal()
    producers: dict[int, int] = {}

    async def dial(host: str, port: int) -> Wire:
        del host, port
        cloud.attempts += 1
        await asyncio.sleep(0.05)
        if not cloud.up:
            raise Unavailable("refused")
        cloud.arrivals.append(asyncio.get_running_loop().time())
        wire = Wire(cloud, producers)
        cloud.open.append(wire)
        return wire

    async def refused(*_: object) -> None:
        raise AssertionError("nothing is refused here")

    journal.append(SOURCE, [b"x"])
    uplink = Uplink(
        journal,
        settings,
        edge=f"edge-{seed}",
        bootstrap=[("cloud", 9092)],
        store=CursorStore(
            SimDisk(random.Random(seed)), "uplink", log_id=journal.log_id, edge="edge"
        ),
        clock=LoopClock(asyncio.get_running_loop()),
        rng=random.Random(seed),
        on_refused=refused,
        dial=dial,
    )
    return uplink, journal


class Herd:
    """After a restart: when they came back, and how often they knocked while nobody was there."""

    def __init__(self, came: list[float], knocks: int) -> None:
        self.came = came
        self.knocks = knocks
        self.peak = max(Counter(int(at) for at in came).values())


async def _restart(down_s: float, settings: UplinkSettings) -> Herd:
    loop = asyncio.get_running_loop()
    cloud = Cloud()
    edges = [_edge(cloud, seed, settings) for seed in range(EDGES)]
    tasks = [asyncio.create_task(uplink.run()) for uplink, _ in edges]
    await asyncio.sleep(15)
    assert Counter(uplink.progress.get(SOURCE) for uplink, _ in edges) == {1: EDGES}
    cloud.dying = True
    for uplink, journal in edges:
        journal.append(SOURCE, [b"y"])
        uplink.notify()
    await asyncio.sleep(8)
    cloud.die()
    cloud.attempts = 0
    await asyncio.sleep(down_s)
    knocks = cloud.attempts
    cloud.arrivals.clear()
    cloud.up, back = True, loop.time()
    await asyncio.sleep(20 + 2 * down_s)
    assert all(uplink.progress[SOURCE] == 2 for uplink, _ in edges), "all came back"
    herd = Herd([at - back for at in cloud.arrivals], knocks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return herd


def _after(down_s: float, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Herd:
    async def inline(call: Any, /, *args: Any) -> Any:
        return call(*args)

    monkeypatch.setattr(asyncio, "to_thread", inline)  # virtual time knows no threads
    settings = UplinkSettings(cursor_interval=Duration(1000), **changes)
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        herd = runner.run(_restart(down_s, settings))
    print(
        f"down {down_s:g} s: {len(herd.came)} connections, {herd.peak}/s at most, "
        f"last after {max(herd.came):.1f} s, {herd.knocks} knocks meanwhile"
    )
    return herd


@pytest.mark.timeout(300)
def test_after_a_blink_they_come_spread_over_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    herd = _after(0.0, monkeypatch)
    assert len(herd.came) <= 1.1 * EDGES, "one connection each, not one for every purpose"
    assert herd.peak <= 0.65 * EDGES
    assert max(herd.came) < 5


@pytest.mark.timeout(300)
def test_after_half_a_minute_they_come_over_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    herd = _after(30.0, monkeypatch)
    assert herd.peak <= 0.15 * EDGES
    assert herd.knocks <= 20 * EDGES
    assert max(herd.came) < 90


@pytest.mark.timeout(300)
def test_without_the_spread_they_would_come_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _after(0.0, monkeypatch, spread=Duration(0)).peak >= 0.9 * EDGES
