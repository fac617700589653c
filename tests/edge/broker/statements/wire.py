"""Packets written by hand: nothing of the codec under test, only lengths and fields.

A `Wire` is one connection to a bench. `say` sends, lets the disk finish, and returns what came back on this connection.
"""

from __future__ import annotations

from typing import Any

import pytest

from headwater.edge.mqtt.packets import Version

from ..harness import Bench, split_frames
from ..harness import Peer as MemoryPeer

V4, V5 = Version.V311, Version.V5
BOTH = (V4, V5)
covers = pytest.mark.mqtt
both = pytest.mark.parametrize("version", BOTH, ids=["3.1.1", "5"])

PINGREQ, PINGRESP = b"\xc0\x00", b"\xd0\x00"
# reasons of MQTT 5
MALFORMED, PROTOCOL = 0x81, 0x82


def number(value: int) -> bytes:
    return value.to_bytes(2, "big")


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return out + bytes((value,))


def text(value: bytes) -> bytes:
    return number(len(value)) + value


def packet(first: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes((first,)) + varint(len(body)) + body


def props(version: Version, raw: bytes = b"") -> bytes:
    return varint(len(raw)) + raw if version is V5 else b""


def pair(name: bytes, value: bytes) -> bytes:
    return b"\x26" + text(name) + text(value)


def connect(
    version: Version,
    client_id: bytes = b"c",
    *,
    flags: int = 0x02,
    keep_alive: int = 0,
    properties: bytes = b"",
    rest: bytes = b"",
) -> bytes:
    head = text(b"MQTT") + bytes((version, flags)) + number(keep_alive)
    return packet(0x10, head, props(version, properties), text(client_id), rest)


def publish(
    version: Version,
    topic: bytes = b"a",
    payload: bytes = b"x",
    *,
    flags: int = 0,
    id: int = 0,  # noqa: A002
    properties: bytes = b"",
) -> bytes:
    """`flags`: DUP 8, QoS 2 or 4, RETAIN 1."""
    packet_id = number(id) if flags & 6 else b""
    return packet(0x30 | flags, text(topic), packet_id, props(version, properties), payload)


def subscribe(
    version: Version,
    *filters: tuple[bytes, int],
    id: int = 1,  # noqa: A002
    properties: bytes = b"",
) -> bytes:
    """Each filter with its options byte."""
    body = b"".join(text(each) + bytes((options,)) for each, options in filters)
    return packet(0x82, number(id), props(version, properties), body)


def unsubscribe(version: Version, *filters: bytes, id: int = 1) -> bytes:  # noqa: A002
    return packet(0xA2, number(id), props(version), b"".join(text(each) for each in filters))


def ack(first: int, id: int, *reason: int) -> bytes:  # noqa: A002
    return packet(first, number(id), bytes(reason))


class Wire:
    def __init__(self, bench: Bench, version: Version) -> None:
        self.bench = bench
        self.version = version
        self.peer = MemoryPeer(bench, version)

    @property
    def closed(self) -> bool:
        return self.peer.transport.closed

    def say(self, *data: bytes) -> bytes:
        self.peer.send_raw(b"".join(data))
        return self.hear()

    def hear(self) -> bytes:
        self.bench.sync()
        self.bench.broker.flush()
        return self.peer.take_raw()

    def frames(self, *data: bytes) -> list[tuple[int, bytes]]:
        return split_frames(self.say(*data) if data else self.hear())

    def lose(self) -> None:
        self.peer.lose()


def opened(bench: Bench, version: Version, client_id: bytes = b"c", **more: Any) -> Wire:
    """A connection whose CONNACK was taken and said success."""
    wire = Wire(bench, version)
    answer = wire.say(connect(version, client_id, **more))
    assert answer[0] == 0x20
    assert answer[3] == 0, f"refused with 0x{answer[3]:02x}"
    return wire


def kept(version: Version) -> dict[str, Any]:
    """Arguments of `opened` for a session that outlives its connection."""
    return {"flags": 0, "properties": b"\x11\0\0\x0f\xff" if version is V5 else b""}


def expect_refused(wire: Wire, data: bytes, reason: int) -> None:
    """The connection is closed; MQTT 5 is told the reason last, 3.1.1 nothing more."""
    said = split_frames(wire.say(data))
    assert wire.closed
    if wire.version is V5:
        first, body = said[-1]
        assert (first, body[0]) == (0xE0, reason)
    else:
        assert said == []
    assert wire.bench.broker.tally.crashes == 0


def arrived(wire: Wire, *data: bytes) -> list[tuple[int, int, bytes]]:
    """(first byte, packet identifier, payload of one byte) of each PUBLISH on a topic of one byte."""
    return [
        (first, int.from_bytes(body[3:5], "big") if first & 6 else 0, body[-1:])
        for first, body in wire.frames(*data)
        if first >> 4 == 3
    ]


def pair_of(version: Version, qos: int = 2, **more: Any) -> tuple[Wire, Wire]:
    """A subscriber to `a`, and a publisher."""
    bench = Bench()
    reader = opened(bench, version, b"r", **more)
    reader.say(subscribe(version, (b"a", qos)))
    return reader, opened(bench, version, b"w")
