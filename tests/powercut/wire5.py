"""As much of MQTT 5 as lasting sessions need, written apart from the code under test. Bytes in, bytes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tests.bench import wire

SUBACK, UNSUBACK, PINGRESP, DISCONNECT = 9, 11, 13, 14
PUBREC_PUBCOMP_PUBREL_FLAGS = {wire.PUBREC: 0, wire.PUBREL: 2, wire.PUBCOMP: 0, wire.PUBACK: 0}
RECEIPT = b"hw.receipt"
_EXPIRY, _USER_PROPERTY = b"\x11", b"\x26"
_MESSAGE_EXPIRY, _WILL_DELAY = b"\x02", b"\x18"
_ALIASES, _ALIAS = b"\x22", b"\x23"
DAY_SECONDS = 86_400
# of topics that the edge may send to one of our subscribers, and we to it
ALIASES = 4


class Will(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    retain: bool
    delay_s: int


class Published(NamedTuple):
    """`expiry_s`: what is left of the message's life; -1: it has no end."""

    topic: str
    payload: bytes
    packet_id: int
    qos: int
    dup: bool
    expiry_s: int = -1


def connect(client: str, *, expiry_s: int, will: Will | None = None, aliases: int = 0) -> bytes:
    """Asks for receipts. `expiry_s`: of the session; 0: it ends with the connection."""
    properties = _USER_PROPERTY + wire.text("hw.receipts") + wire.text("1")
    if expiry_s:
        properties += _EXPIRY + expiry_s.to_bytes(4, "big")
    if aliases:
        properties += _ALIASES + aliases.to_bytes(2, "big")
    flags = 0 if expiry_s else 2
    left = b""
    if will is not None:
        flags |= 4 | will.qos << 3 | will.retain << 5
        delay = _WILL_DELAY + will.delay_s.to_bytes(4, "big")
        left = bytes([len(delay)]) + delay + wire.text(will.topic)
        left += len(will.payload).to_bytes(2, "big") + will.payload
    head = wire.text("MQTT") + bytes([5, flags]) + wire.KEEP_ALIVE_SECONDS.to_bytes(2, "big")
    return wire.packet(
        wire.CONNECT << 4, head + bytes([len(properties)]) + properties + wire.text(client) + left
    )


def publish(
    topic: str,
    payload: bytes,
    packet_id: int,
    *,
    qos: int,
    dup: bool = False,
    retain: bool = False,
    expiry_s: int = -1,
    alias: int = 0,
) -> bytes:
    """`alias`: with a topic it is made, with an empty one it stands for it."""
    first = wire.PUBLISH << 4 | qos << 1 | dup << 3 | retain
    properties = b"" if expiry_s < 0 else _MESSAGE_EXPIRY + expiry_s.to_bytes(4, "big")
    if alias:
        properties += _ALIAS + alias.to_bytes(2, "big")
    head = wire.text(topic) + packet_id.to_bytes(2, "big") + bytes([len(properties)])
    return wire.packet(first, head + properties + payload)


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


class Aliases(dict[int, str]):
    """Of one connection: what the edge's aliases stand for."""


def published(packet: wire.Packet, aliases: Aliases | None = None) -> Published:
    """An alias that was never made stands for the topic "?"."""
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
    expiry_s, alias = _known(body[place : place + size])
    if alias and aliases is not None:
        topic = topic or aliases.get(alias, "")
        aliases[alias] = topic
    payload = body[place + size :]
    return Published(topic or "?", payload, packet_id, qos, bool(packet.flags & 8), expiry_s)


def _known(properties: bytes) -> tuple[int, int]:
    """(message expiry or -1, topic alias or 0) of a PUBLISH's."""
    expiry_s, alias, place = -1, 0, 0
    while place < len(properties):
        kind, place = properties[place : place + 1], place + 1
        if kind == _MESSAGE_EXPIRY:
            expiry_s = int.from_bytes(properties[place : place + 4], "big")
            place += 4
        elif kind == _ALIAS:
            alias = int.from_bytes(properties[place : place + 2], "big")
            place += 2
        else:
            break  # what our publishers never said
    return expiry_s, alias
