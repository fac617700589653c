"""Behind the same address there is suddenly something else: another cluster, or the topic made anew."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import TypeVar

import pytest

from headwater.core.errors import Unknown
from headwater.core.kafka.messages.fetch import FetchRequest
from headwater.core.kafka.messages.produce import ProduceRequest
from headwater.core.kafka.schema import Message, Request
from headwater.core.kafka.wire import WireCount
from headwater.core.record import TopicPartition
from headwater.core.units import Duration
from headwater.edge.uplink.cluster import Connection, Dialer
from tests.cloud.broker.running import run, started
from tests.interop.apache.broker import ApacheKafka, require

from .against import APACHE, against
from .river import EDGE, River, addresses

R = TypeVar("R", bound=Message)
SOURCE = TopicPartition("readings", 0)


class Rerouted(River):
    """Whatever address a broker names, one door leads there: a proxy, a virtual address, a name that was repointed."""

    def __init__(self, directory: Path, port: int, **changes: object) -> None:
        super().__init__(directory, port, **changes)  # type: ignore[arg-type]
        self._open: list[Connection] = []

    def plain_dial(self, name: str) -> Dialer:
        dial = super().plain_dial(name)

        async def through(host: str, port: int) -> Connection:
            connection = await dial(host, self.port)
            self._open.append(connection)
            return connection

        return through

    async def move(self, port: int) -> None:
        """The door leads there from now on, and what went through it breaks."""
        self.port = port
        opened, self._open = self._open, []
        for connection in opened:
            await connection.close()


@pytest.mark.parametrize("has_topic", [False, True])
def test_another_cluster_behind_the_same_address_is_noticed_in_mid_session(
    has_topic: bool, tmp_path: Path
) -> None:
    async def body() -> None:
        async with started() as first, started() as second:
            if has_topic:
                stranger = River(tmp_path / "stranger", second.broker.port, edge="stranger")
                stranger.journal.append(SOURCE, [b"value"] * 3)
                async with stranger.running() as uplink:
                    await stranger.drained(uplink)
            river = Rerouted(tmp_path, first.broker.port)
            river.journal.append(SOURCE, [b"value"] * 10)
            async with river.running() as uplink:
                await river.drained(uplink)
                await river.move(second.broker.port)
                river.journal.append(SOURCE, [b"value"] * 10)
                await river.drained(uplink)
                there = await river.stored("readings")
                await river.move(first.broker.port)
                river.journal.append(SOURCE, [b"value"] * 10)
                await river.drained(uplink)
                here = await river.stored("readings")
            for stored, count in ((there, 20), (here, 30)):
                everything = [r for each in stored.values() for r in each]
                assert addresses(everything, SOURCE) == list(range(count))

    run(body())


class Remade(River):
    """An answer to Produce is swallowed, and the topic made anew before what the leader showed of it is read back."""

    is_armed = False
    wants_recreation = False

    def plain_dial(self, name: str) -> Dialer:
        dial = super().plain_dial(name)

        async def through(host: str, port: int) -> Connection:
            return (
                Swallowing(await dial(host, port), self) if name == EDGE else await dial(host, port)
            )

        return through


class Swallowing:
    def __init__(self, inner: Connection, river: Remade) -> None:
        self._inner = inner
        self._river = river

    async def request(self, message: Request[R], /) -> R:
        river = self._river
        if isinstance(message, FetchRequest) and river.wants_recreation:
            river.wants_recreation = False
            await river.recreate("readings", partitions=1)
        answer = await self._inner.request(message)
        if isinstance(message, ProduceRequest) and river.is_armed:
            river.is_armed, river.wants_recreation = False, True
            await self._inner.close()
            raise Unknown("swallowed by the test")
        return answer

    def wire(self) -> WireCount:
        return self._inner.wire()

    @property
    def is_open(self) -> bool:
        return self._inner.is_open

    @property
    def peer_host(self) -> str:
        return self._inner.peer_host

    async def close(self) -> None:
        await self._inner.close()


# Headwater's own cloud goes on counting where the deleted topic ended.
@pytest.mark.parametrize("kind", [pytest.param("apache", marks=APACHE)])
def test_what_the_leader_showed_in_a_topic_that_is_gone_is_not_taken_for_stored(
    kind: str, tmp_path: Path
) -> None:
    async def body(port: int) -> None:
        river = Remade(tmp_path, port, partitions=1)
        river.journal.append(SOURCE, [b"value"] * 10)
        async with river.running() as uplink:
            await river.drained(uplink)
            river.is_armed = True
            river.journal.append(SOURCE, [b"value"] * 10)
            await river.drained(uplink)
            assert not river.is_armed
            assert not river.wants_recreation
            stored = [r for each in (await river.stored("readings")).values() for r in each]
            assert addresses(stored, SOURCE) == list(range(10, 20))

    against(kind, tmp_path, body)


@pytest.mark.interop
@pytest.mark.timeout(120)
def test_a_cluster_set_up_anew_under_its_old_id_gets_live_data_and_backlog(tmp_path: Path) -> None:
    """Its volumes are gone, its id stands in somebody's file: it gives out producer ids again that the edge still uses."""
    require()
    kafka = ApacheKafka(tmp_path, extra="log.retention.ms=-1")
    sources = [TopicPartition("readings", n) for n in range(3)]

    async def body() -> None:
        river = River(
            tmp_path,
            kafka.port,
            partitions=2,
            split_records=100,
            split_after=Duration(0.2),
            request_timeout=Duration(3),
            late_copies=Duration(5),
        )
        for source in sources:
            river.journal.append(source, [b"before"] * 50)
        async with river.running() as uplink:
            await river.drained(uplink)
            _wipe(kafka)  # all at once, as seen from here: the session outlives it
            for source in sources:
                for _ in range(3000):
                    river.journal.append(source, [os.urandom(50)] * 20)
            kafka.start()
            for _ in range(500):
                for source in sources:
                    river.journal.append(source, [b"live"] * 3)
                await asyncio.sleep(0.02)
            await river.drained(uplink)
        stored = [r for each in (await river.stored("readings")).values() for r in each]
        for source in sources:
            assert sorted(addresses(stored, source)) == list(range(50, 61550))

    kafka.format()
    kafka.start()
    try:
        run(body())
    finally:
        kafka.kill()


def _wipe(kafka: ApacheKafka) -> None:
    kafka.kill()
    shutil.rmtree(kafka.directory / "data")
    kafka.format()
