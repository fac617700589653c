"""MQTT over WebSocket: a real client, and a raw one that sends what a real one never would."""

from __future__ import annotations

import asyncio
import ssl
import threading

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from headwater.edge.broker.listening.settings import Kind, ListenerSettings
from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import Connect, Disconnect, Pingreq, Publish, Version, Will

from .entry import ANY, Bare, Served, run, serving, until
from .test_frames import REQUEST, masked

WEBSOCKET = ListenerSettings(address=ANY, name="ws", kind=Kind.WEBSOCKET)
CONNECT = encode_packet(Connect(version=Version.V5, client_id="raw"), Version.V5)


class Raw:
    """Frames by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, *, tls: ssl.SSLContext | None = None) -> Raw:
        """Upgraded."""
        raw = cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls))
        raw.writer.write(REQUEST.encode())
        head = await raw.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        return raw

    def send(self, payload: bytes, first: int = 0x82) -> None:
        self.writer.write(masked(payload, first))

    async def frame(self) -> tuple[int, bytes]:
        """(opcode, payload) of the next one."""
        first, length = await self.reader.readexactly(2)
        if length == 126:
            length = int.from_bytes(await self.reader.readexactly(2), "big")
        return first & 0x0F, await self.reader.readexactly(length)

    async def connect(self) -> int:
        """The reason in CONNACK."""
        self.send(CONNECT)
        opcode, packet = await self.frame()
        assert (opcode, packet[0]) == (0x2, 0x20)
        return packet[3]

    def close(self) -> None:
        self.writer.close()


@pytest.mark.parametrize("protocol", [paho.MQTTv311, paho.MQTTv5])
def test_paho_publishes_and_receives_over_a_websocket(protocol: int) -> None:
    async def scenario() -> None:
        async with serving(WEBSOCKET) as served:
            await asyncio.to_thread(_paho_life, protocol, served.port())

    run(scenario)


def _paho_life(protocol: int, port: int) -> None:
    got: list[bytes] = []
    subscribed, done = threading.Event(), threading.Event()
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        "paho",
        transport="websockets",
        protocol=protocol,  # type: ignore[arg-type]
    )
    client.ws_set_options(path="/mqtt")
    client.on_subscribe = lambda *_: subscribed.set()

    def taken(_client: object, _data: object, message: paho.MQTTMessage) -> None:
        got.append(bytes(message.payload))
        if len(got) == 4:
            done.set()

    client.on_message = taken
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.subscribe("t/#", qos=2)
    assert subscribed.wait(20)
    for qos in range(3):
        client.publish("t/a", b"%d" % qos, qos=qos).wait_for_publish(20)
    client.publish("t/big", bytes(300_000), qos=1).wait_for_publish(20)
    assert done.wait(20)
    client.disconnect()
    client.loop_stop()
    assert got == [b"0", b"1", b"2", bytes(300_000)]


@pytest.mark.mqtt(v4="6.0.0-2", v5="6.0.0-2")
def test_frames_need_not_align_with_packets() -> None:
    async def scenario() -> None:
        async with serving(WEBSOCKET) as served:
            raw = await Raw.open(served.port())
            publish = encode_packet(
                Publish(topic="t", payload=b"x", qos=1, packet_id=1), Version.V5
            )
            stream = CONNECT + publish + publish + encode_packet(Pingreq(), Version.V5)
            for start in range(0, len(stream), 3):
                raw.send(stream[start : start + 3])
            answers = b""
            # acknowledgements wait for the disk, the answer to the ping does not
            while answers.count(b"\x40\x02\x00\x01") < 2:
                answers += (await raw.frame())[1]
            assert b"\xd0\x00" in answers
            raw.close()

    run(scenario)


@pytest.mark.mqtt(v4="6.0.0-1", v5="6.0.0-1")
def test_a_ping_is_answered_and_a_text_frame_ends_it() -> None:
    """[MQTT-6.0.0-1]."""

    async def scenario() -> None:
        async with serving(WEBSOCKET) as served:
            raw = await Raw.open(served.port())
            assert await raw.connect() == 0
            raw.send(b"are you there", 0x89)
            assert await raw.frame() == (0xA, b"are you there")
            raw.send(b"text", 0x81)
            assert await raw.frame() == (0x8, (1003).to_bytes(2, "big"))
            assert await raw.reader.read() == b""
            await _empty(served)
            raw.close()

    run(scenario)


def test_a_goodbye_in_the_same_breath_as_disconnect_publishes_no_will() -> None:
    async def scenario() -> None:
        async with serving(WEBSOCKET) as served:
            raw = await Raw.open(served.port())
            will = Will(topic="gone", payload=b"raw")
            connect = Connect(version=Version.V5, client_id="raw", will=will)
            raw.send(encode_packet(connect, Version.V5))
            await raw.frame()
            farewell = encode_packet(Disconnect(), Version.V5)
            raw.writer.write(masked(farewell) + masked((1000).to_bytes(2, "big"), 0x88))
            assert (await raw.frame())[0] == 0x8
            await _empty(served)
            assert served.broker.tally.wills == 0
            raw.close()

    run(scenario)


def test_a_bad_handshake_is_answered_and_leaves_nothing() -> None:
    async def scenario() -> None:
        async with serving(WEBSOCKET) as served:
            bare = await Bare.open(served.port())
            bare.writer.write(REQUEST.replace("/mqtt", "/other").encode())
            answer = await bare.reader.read()
            assert answer.startswith(b"HTTP/1.1 404 ")
            await _empty(served)
            door = served.listeners.all[0].door
            assert dict(door.refused) == {"websocket: there is no such path": 1}
            bare.close()

    run(scenario)


def test_who_dribbles_its_request_is_dropped_and_nobody_else() -> None:
    async def scenario() -> None:
        quick = ListenerSettings(
            address=ANY,
            kind=Kind.WEBSOCKET,
            handshake_timeout=0.2,  # type: ignore[arg-type]
        )
        async with serving(quick) as served:
            good = await Raw.open(served.port())
            assert await good.connect() == 0
            slow = await Bare.open(served.port())
            slow.writer.write(b"GET /mqtt HT")
            assert await slow.ended()
            good.send(encode_packet(Pingreq(), Version.V5))
            assert await good.frame() == (0x2, b"\xd0\x00")
            assert dict(served.listeners.all[0].door.refused) == {
                "websocket: no request in time": 1
            }
            good.close()
            slow.close()

    run(scenario)


async def _empty(served: Served) -> None:
    """Until nobody is there."""
    await until(lambda: not served.broker.clients and not served.listeners.all[0].door.open)
