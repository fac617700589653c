"""The bridge against a real Mosquitto: what it delivers is in our log before it is acknowledged there, and once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from headwater.core.batch import decode_batch
from headwater.core.errors import Misconfigured, Missing
from headwater.core.journal.files.settings import FileJournalSettings
from headwater.core.kafka.credentials import TlsSettings
from headwater.core.record import StoredRecord, TopicPartition
from headwater.core.units import ByteSize, Duration
from headwater.edge.broker.access.settings import AccessSettings
from headwater.edge.daemon import Edge, open_edge
from headwater.edge.settings import EdgeSettings
from headwater.edge.sources.settings import MqttSourceSettings, Protocol, SourcesSettings
from headwater.edge.sources.upstream import MqttSource
from tests.authority import DAY, Authority, Files

from ..test_daemon import GatedDisk, run, until
from .mosquitto import Mosquitto

DEFAULT = TopicPartition("default", 0)


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    broker = Mosquitto(folder)
    broker.start()
    yield broker
    broker.stop()


def settings(folder: Path, upstream: Mosquitto, **more: object) -> EdgeSettings:
    values: dict[str, object] = {
        "name": "plant",
        "address": upstream.address,
        "filters": ("up/#",),
        "retry_max": Duration(0.5),
    }
    return EdgeSettings(
        name="e1",
        data_dir=str(folder / "edge"),
        mqtt="127.0.0.1:0",
        http="none",
        journal=FileJournalSettings(bytes_max=ByteSize(64 * 1024 * 1024)),
        sources=SourcesSettings(mqtt=(MqttSourceSettings(**(values | more)),)),  # type: ignore[arg-type]
    )


@contextlib.asynccontextmanager
async def bridging(edge: Edge) -> AsyncIterator[MqttSource]:
    source = edge.sources[0]
    assert isinstance(source, MqttSource)
    task = asyncio.ensure_future(source.run())
    try:
        await until(lambda: source.connected or task.done())
        yield source
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def records_of(edge: Edge, tp: TopicPartition = DEFAULT) -> list[StoredRecord]:
    found: list[StoredRecord] = []
    while True:
        try:
            batches = await edge.journal.read(tp, len(found), bytes_max=1 << 20)
        except Missing:
            return []
        if not batches:
            return found
        found += [record for batch in batches for record in decode_batch(batch)[1]]


def publish(upstream: Mosquitto, topics: list[tuple[str, bytes]], **more: object) -> None:
    client = upstream.publisher()
    for topic, payload in topics:
        client.publish(topic, payload, qos=1, **more).wait_for_publish(10)  # type: ignore[arg-type]
    client.disconnect()
    client.loop_stop()


def test_access_rules_are_for_clients_and_not_for_a_source_of_the_settings(
    tmp_path: Path, upstream: Mosquitto
) -> None:
    """Refused publishes are acknowledged upstream: under rules for clients all would be lost."""
    rules = tmp_path / "acl"
    rules.write_text("user panel\ntopic read #\n")

    async def scenario() -> None:
        chosen = msgspec.structs.replace(
            settings(tmp_path, upstream), access=AccessSettings(acl_file=str(rules))
        )
        async with open_edge(chosen) as edge, bridging(edge) as source:
            await asyncio.to_thread(publish, upstream, [("up/1", b"before")])
            await until(lambda: source.acknowledged == 1)
            edge.entrance.reload(chosen)  # SIGHUP
            await asyncio.to_thread(publish, upstream, [("up/1", b"after")])
            await until(lambda: source.acknowledged == 2)
            assert [record.value for record in await records_of(edge)] == [b"before", b"after"]
            assert not source.refused

    run(scenario)


@pytest.mark.parametrize("protocol", list(Protocol))
def test_what_the_upstream_has_comes_into_the_log_and_is_acknowledged(
    tmp_path: Path, upstream: Mosquitto, protocol: Protocol
) -> None:
    async def scenario() -> None:
        chosen = settings(tmp_path, upstream, protocol=protocol, topic_prefix="plant-2/")
        async with open_edge(chosen) as edge, bridging(edge) as source:
            topics = [(f"up/{n % 3}", b"%d" % n) for n in range(50)]
            await asyncio.to_thread(publish, upstream, [*topics, ("other", b"x")])
            await until(lambda: source.acknowledged == 50)
            found = await records_of(edge)
            assert [(r.key, r.value) for r in found] == [
                (b"plant-2/" + topic.encode(), value) for topic, value in topics
            ]

    run(scenario)


def test_what_a_message_carries_comes_along(tmp_path: Path, upstream: Mosquitto) -> None:
    async def scenario() -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = "text/csv"
        properties.UserProperty = [("unit", "C"), ("unit", "K")]
        async with open_edge(settings(tmp_path, upstream)) as edge, bridging(edge) as source:
            message = [("up/a", b"1;2")]
            await asyncio.to_thread(publish, upstream, message, properties=properties, retain=True)
            await until(lambda: source.acknowledged == 1)
            (record,) = await records_of(edge)
            assert set(record.headers) == {
                ("mqtt.content-type", b"text/csv"),
                ("mqtt.retain", b"1"),
                ("unit", b"C"),
                ("unit", b"K"),
            }

    run(scenario)


def test_nothing_is_acknowledged_upstream_before_the_sync_has_returned(
    tmp_path: Path, upstream: Mosquitto
) -> None:
    async def scenario() -> None:
        disk = GatedDisk()
        async with (
            open_edge(settings(tmp_path, upstream), disk=disk) as edge,
            bridging(edge) as source,
        ):
            await asyncio.to_thread(publish, upstream, [("up/a", b"0")])
            await until(lambda: source.acknowledged == 1)
            disk.gate.clear()
            disk.waiting.clear()
            await asyncio.to_thread(publish, upstream, [("up/a", b"%d" % n) for n in range(9)])
            assert await asyncio.to_thread(disk.waiting.wait, 10)
            await until(lambda: source.messages >= 2)
            assert source.acknowledged == 1
            disk.gate.set()
            await until(lambda: source.acknowledged == 10)

    run(scenario)


def test_what_is_delivered_again_after_a_lost_connection_is_stored_once(
    tmp_path: Path, upstream: Mosquitto
) -> None:
    async def scenario() -> None:
        disk = GatedDisk()
        chosen = settings(tmp_path, upstream)
        async with open_edge(chosen, disk=disk) as edge:
            async with bridging(edge) as source:
                await asyncio.to_thread(publish, upstream, [("up/a", b"first")])
                await until(lambda: source.acknowledged == 1)
                disk.gate.clear()
                await asyncio.to_thread(publish, upstream, [("up/a", b"%d" % n) for n in range(9)])
                await until(lambda: source.messages == 10)
            # the connection ended with nine delivered, none of them acknowledged; now they become durable
            disk.gate.set()
            async with bridging(edge):
                await until(lambda: source.acknowledged == 10)
            assert edge.broker.tally.repeated == 9
            found = await records_of(edge)
            assert [r.value for r in found] == [b"first", *(b"%d" % n for n in range(9))]

    run(scenario)


def test_while_the_upstream_is_away_it_is_tried_again(tmp_path: Path, upstream: Mosquitto) -> None:
    async def scenario() -> None:
        async with open_edge(settings(tmp_path, upstream)) as edge, bridging(edge) as source:
            await asyncio.to_thread(upstream.stop)
            await until(lambda: not source.connected)
            await until(lambda: "refused" in source.last_error.lower())
            await asyncio.to_thread(upstream.start)
            await until(lambda: source.connected)
            await asyncio.to_thread(publish, upstream, [("up/a", b"again")])
            await until(lambda: source.acknowledged == 1)

    run(scenario)


def test_a_full_log_keeps_messages_upstream(tmp_path: Path, upstream: Mosquitto) -> None:
    async def scenario() -> None:
        async with open_edge(settings(tmp_path, upstream)) as edge, bridging(edge) as source:
            edge.journal.bytes_limit = 0
            edge.journal.update_full()
            await asyncio.to_thread(publish, upstream, [("up/a", b"1"), ("up/a", b"2")])
            await until(lambda: source.refused["log full"] > 0)
            assert source.acknowledged == 0
            edge.journal.bytes_limit = 1 << 30
            edge.journal.update_full()
            await until(lambda: source.acknowledged == 2)
            assert [r.value for r in await records_of(edge)] == [b"1", b"2"]

    run(scenario)


def test_what_can_never_be_stored_stands_in_nobodys_way(
    tmp_path: Path, upstream: Mosquitto
) -> None:
    async def scenario() -> None:
        async with open_edge(settings(tmp_path, upstream)) as edge, bridging(edge) as source:
            await asyncio.to_thread(publish, upstream, [("up/a", b"x" * 2_000_000), ("up/a", b"2")])
            await until(lambda: source.acknowledged == 2)
            assert source.refused == Counter({"never to be stored": 1})
            assert [r.value for r in await records_of(edge)] == [b"2"]

    run(scenario)


# paho leaves a socket whose handshake failed to the garbage collector, which closes it at once
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_with_a_certificate_that_nobody_can_date(tmp_path: Path) -> None:
    """The edge does not know the time (nobody set its clock): chain and name are checked, dates against the floor."""
    ca = Authority(tmp_path)
    whole = ca.issue("localhost", file="whole")
    past = ca.issue("localhost", file="past", begins=-900 * DAY, ends=-800 * DAY)
    folder = tmp_path / "mosquitto"
    folder.mkdir()

    async def scenario(files: Files, *, trusts: str, takes: bool) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        upstream = Mosquitto(
            folder,
            more=f"listener {port} 127.0.0.1\ncertfile {files.certificate}\nkeyfile {files.key}\n",
        )
        upstream.start()
        try:
            chosen = settings(
                tmp_path, upstream, address=f"localhost:{port}", tls=TlsSettings(ca=trusts)
            )
            async with open_edge(chosen) as edge:
                source = edge.sources[0]
                task = asyncio.ensure_future(source.run())
                await until(lambda: source.connected or bool(source.last_error))
                assert source.connected == takes, source.last_error
                if takes:
                    await asyncio.to_thread(publish, upstream, [("up/a", b"1"), ("up/a", b"2")])
                    await until(lambda: source.acknowledged == 2)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        finally:
            upstream.stop()

    run(lambda: scenario(whole, trusts=ca.path, takes=True))
    run(lambda: scenario(past, trusts=ca.path, takes=False))
    run(lambda: scenario(whole, trusts=Authority(tmp_path, "other").path, takes=False))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"qos": 2}, "qos must be 0 or 1"),
        ({"filters": ()}, "filters are needed"),
        ({"filters": ("a/#/b",)}, "filter"),
        ({"address": "nowhere"}, "HOST:PORT"),
        ({"name": "a b"}, "source"),
        ({"topic_prefix": "a/#/"}, "wildcards"),
        ({"password_file": "x"}, "user_name"),
        ({"keep_alive": Duration(65_536)}, "keep_alive"),
        ({"connect_timeout": Duration(0)}, "connect_timeout"),
        ({"retry_max": Duration(0)}, "retry_max"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object], says: str) -> None:
    values: dict[str, object] = {"name": "plant", "address": "h:1", "filters": ("$share/g/a/#",)}
    MqttSourceSettings(**values).check()  # type: ignore[arg-type]
    with pytest.raises(Misconfigured, match=says):
        MqttSourceSettings(**(values | wrong)).check()  # type: ignore[arg-type]
