"""Unmodified clients over real sockets: paho-mqtt and aiomqtt, in both versions; and a bare socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import aiomqtt
import paho.mqtt.client as paho
import pytest
import uvloop
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from headwater.core.errors import Unavailable

from .loopback import Served, open_listener, served

TIMEOUT_S = 20


def run(scenario: Callable[[Served], object]) -> None:
    """The scenario as a coroutine, on uvloop as the daemon has it."""

    async def main() -> None:
        async with served() as server, asyncio.timeout(TIMEOUT_S):
            await scenario(server)  # type: ignore[misc]

    uvloop.run(main())


@pytest.mark.parametrize("protocol", [aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5])
def test_aiomqtt_publishes_and_receives_at_every_qos(protocol: aiomqtt.ProtocolVersion) -> None:
    async def scenario(server: Served) -> None:
        async with aiomqtt.Client(server.host, server.port, protocol=protocol) as client:
            await client.subscribe("sensors/#", qos=2)
            for qos in range(3):
                await client.publish("sensors/1", payload=b"%d" % qos, qos=qos)
            await client.publish("sensors/big", payload=bytes(300_000), qos=1)
            got = []
            async for message in client.messages:
                got.append((message.payload, message.qos))
                if len(got) == 4:
                    break
        assert got == [(b"0", 0), (b"1", 1), (b"2", 2), (bytes(300_000), 1)]
        assert len(server.journal.stored) == 4

    run(scenario)


@pytest.mark.parametrize("protocol", [paho.MQTTv311, paho.MQTTv5])
def test_paho_keeps_its_session_gets_what_is_retained_and_leaves_its_will(protocol: int) -> None:
    async def scenario(server: Served) -> None:
        async with aiomqtt.Client(server.host, server.port) as other:
            await other.publish("state/a", b"on", qos=1, retain=True)
            await other.subscribe("gone/#")
            await asyncio.to_thread(_paho_life, protocol, server.host, server.port)
            will = await anext(aiter(other.messages))
            assert (str(will.topic), will.payload) == ("gone/paho", b"bye")

    run(scenario)


def test_paho_asks_for_receipts_as_the_readme_says() -> None:
    async def scenario(server: Served) -> None:
        said = await asyncio.to_thread(_paho_receipts, server.host, server.port)
        assert said == [[("hw.receipt", f"default/0/{offset}")] for offset in range(3)]

    run(scenario)


def _paho_receipts(host: str, port: int) -> list[list[tuple[str, str]]]:
    said: list[list[tuple[str, str]]] = []
    done = threading.Event()

    def on_publish(
        _client: paho.Client, _data: object, _mid: int, _reason: object, properties: Properties
    ) -> None:
        said.append(getattr(properties, "UserProperty"))  # noqa: B009 - set at run time
        if len(said) == 3:
            done.set()

    asking = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    asking.UserProperty = ("hw.receipts", "1")
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.on_publish = on_publish
    client.connect(host, port, properties=asking)
    client.loop_start()
    for _ in range(3):
        client.publish("a", b"x", qos=1).wait_for_publish(TIMEOUT_S)
    assert done.wait(TIMEOUT_S)
    client.disconnect()
    client.loop_stop()
    return said


def _paho_life(protocol: int, host: str, port: int) -> None:
    got: list[tuple[str, bytes | bytearray, bool]] = []
    arrived = threading.Event()

    def on_message(_client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        got.append((message.topic, message.payload, message.retain))
        arrived.set()

    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id="paho",
        protocol=protocol,  # type: ignore[arg-type]
        clean_session=None if protocol == paho.MQTTv5 else False,
    )
    client.on_message = on_message
    client.will_set("gone/paho", b"bye", qos=1)
    client.connect(host, port, keepalive=10)
    client.loop_start()
    client.subscribe("state/+", qos=1)
    assert arrived.wait(TIMEOUT_S)
    info = client.publish("readings/1", b"21.5", qos=2)
    info.wait_for_publish(TIMEOUT_S)
    assert info.is_published()
    assert got == [("state/a", b"on", True)]
    sock = client.socket()
    client.loop_stop()
    assert sock is not None
    sock.close()  # without DISCONNECT


def test_twenty_clients_at_once_are_all_acknowledged_and_stored_in_their_order() -> None:
    async def scenario(server: Served) -> None:
        async def one(number: int) -> None:
            async with aiomqtt.Client(server.host, server.port, identifier=f"c{number}") as client:
                for value in range(50):
                    await client.publish(f"t/{number}", b"%d" % value, qos=1)

        await asyncio.gather(*(one(number) for number in range(20)))
        by_topic: dict[bytes | None, list[int]] = {}
        for stored in server.journal.stored:
            by_topic.setdefault(stored.record.key, []).append(int(stored.record.value or b""))
        assert len(by_topic) == 20
        assert all(values == list(range(50)) for values in by_topic.values())
        assert server.broker.tally.acknowledged == 1000

    run(scenario)


def test_a_client_that_never_reads_is_bounded_and_harms_nobody() -> None:
    async def scenario(server: Served) -> None:
        reader, writer = await asyncio.open_connection(server.host, server.port, limit=1024)
        writer.write(bytes.fromhex("100d00044d5154540402000000 0162"))
        writer.write(bytes.fromhex("8208000a0003 612f23 00"))
        async with aiomqtt.Client(server.host, server.port) as client:
            for _ in range(100):
                await client.publish("a/x", bytes(200_000), qos=1)
        (slow,) = [c for c in server.broker.clients if c.client_id == "b"]
        assert slow.transport is not None
        assert slow.transport.get_write_buffer_size() < 1_000_000
        assert server.broker.tally.delivery_dropped["slow at qos 0"] > 0
        writer.transport.abort()
        reader.feed_eof()

    run(scenario)


def test_a_port_in_use_is_one_clear_error() -> None:
    async def scenario(server: Served) -> None:
        second = open_listener(server.broker, host=server.host, port=server.port)
        with pytest.raises(Unavailable, match=f"{server.port}: the port is in use"):
            await second.start()

    run(scenario)
