"""As much of MQTT 5 as lasting sessions need, written apart from the code under test. Bytes in, bytes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tests.bench import wire

SUBACK, UNSUBACK, PINGRESP, DISCONNECT = 9, 11, 13, 14
PUBREC_PUBCOMP_PUBREL_FLAGS = {wire.PUBREC: 0, wire.PUBREL: 2, wire.PUBCOMP: 0, wire.PUBACK: 0}
RECEIPT = b"hw.receipt"
_EXPIRY, _USER_PROPERTY = b"\x11", b"\x26"
_DAY_SECONDS = 86_400


class Published(NamedTuple):
    topic: str
    payload: bytes
    packet_id: int
    qos: int
    dup: bool


def connect(client: str, *, lasting: bool) -> bytes:
    """Asks for receipts."""
    properties = _USER_PROPERTY + wire.text("hw.receipts") + wire.text("1")
    if lasting:
        properties += _EXPIRY + _DAY_SECONDS.to_bytes(4, "big")
    flags = 0 if lasting else 2
    head = wire.text("MQTT") + bytes([5, flags]) + wire.KEEP_ALIVE_SECONDS.to_bytes(2, "big")
    return wire.packet(
        wire.CONNECT << 4, head + bytes([len(properties)]) + properties + wire.text(client)
    )


def publish(
    topic: str, payload: bytes, packet_id: int, *, qos: int, dup: bool = False, retain: bool = False
) -> bytes:
    first = wire.PUBLISH << 4 | qos << 1 | dup << 3 | retain
    return wire.packet(first, wire.text(topic) + packet_id.to_bytes(2, "big") + b"\0" + payload)


def answer(kind: int, packet_id: int) -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP."""
    flags = PUBREC_PUBCOMP_PUBREL_FLAGS[kind]
    return wire.packet(kind << 4 | flags, packet_id.to_bytes(2, "big"))


def subscribe(packet_id: int, filters: Sequence[tuple[str, int]]) -> bytes:
    asked = b"".join(wire.text(topic_filter) + bytes([qos]) for topic_filter, qos in filters)
    return wire.packet(0x82, packet_id.to_bytes(2, "big") + b"\0" + asked)


def unsubscribe(packet_id: int, filters: Sequence[str]) -> bytes:
    asked = b"".join(wire.text(each) for each in filters)
    return wire.packet(0xA2, packet_id.to_bytes(2, "big") + b"\0" + asked)


def reason(packet: wire.Packet) -> int:
    """Of an answer with a packet identifier."""
    return packet.body[2] if len(packet.body) > 2 else 0


def receipt(packet: wire.Packet) -> str:
    """stream/partition/offset; empty where there is none."""
    place = packet.body.find(_USER_PROPERTY + wire.text(RECEIPT.decode()))
    if place < 0:
        return ""
    place += 3 + len(RECEIPT)
    size = int.from_bytes(packet.body[place : place + 2], "big")
    return packet.body[place + 2 : place + 2 + size].decode()


def published(packet: wire.Packet) -> Published:
    body, qos = packet.body, packet.flags >> 1 & 3
    place = 2 + int.from_bytes(body[:2], "big")
    topic = body[2:place].decode()
    packet_id = 0
    if qos:
        packet_id = int.from_bytes(body[place : place + 2], "big")
        place += 2
    size, shift = 0, 0
    while True:  # the properties' length
        digit = body[place]
        place += 1
        size |= (digit & 0x7F) << shift
        shift += 7
        if digit < 0x80:
            break
    return Published(topic, body[place + size :], packet_id, qos, bool(packet.flags & 8))
