"""As much of MQTT 3.1.1 as a load and an outside witness need, written apart from the code under test.

Bytes in, bytes out; knows no sockets. Trusts its broker.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
PINGREQ_PACKET = b"\xc0\x00"
DISCONNECT_PACKET = b"\xe0\x00"
KEEP_ALIVE_SECONDS = 60


class Packet(NamedTuple):
    kind: int
    body: bytes
    flags: int = 0

    @property
    def packet_id(self) -> int:
        return int.from_bytes(self.body[:2], "big")


def packet(first: int, body: bytes) -> bytes:
    length, remaining = bytearray(), len(body)
    while True:
        remaining, digit = divmod(remaining, 128)
        length.append(digit | (0x80 if remaining else 0))
        if not remaining:
            return bytes([first]) + bytes(length) + body


def text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


def connect(client: str, *, clean: bool = True) -> bytes:
    flags = 0x02 if clean else 0x00
    head = text("MQTT") + bytes([4, flags]) + KEEP_ALIVE_SECONDS.to_bytes(2, "big")
    return packet(CONNECT << 4, head + text(client))


def publish(
    topic: str, payload: bytes, packet_id: int | None, *, qos: int = 1, dup: bool = False
) -> bytes:
    """Without a packet identifier: QoS 0."""
    if packet_id is None:
        return packet(PUBLISH << 4, text(topic) + payload)
    first = PUBLISH << 4 | qos << 1 | (0x08 if dup else 0)
    return packet(first, text(topic) + packet_id.to_bytes(2, "big") + payload)


def pubrel(packet_id: int) -> bytes:
    return packet(PUBREL << 4 | 0x02, packet_id.to_bytes(2, "big"))


class PacketReader:
    """Cuts a stream of bytes into packets."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[Packet]:
        self._buffer += data
        while (cut := self._next()) is not None:
            yield cut

    def _next(self) -> Packet | None:
        length, shift = 0, 0
        for position in range(1, min(len(self._buffer), 5)):
            digit = self._buffer[position]
            length |= (digit & 0x7F) << shift
            shift += 7
            if digit < 0x80:
                end = position + 1 + length
                if len(self._buffer) < end:
                    return None
                first = self._buffer[0]
                found = Packet(first >> 4, self._buffer[position + 1 : end], first & 15)
                self._buffer = self._buffer[end:]
                return found
        return None
