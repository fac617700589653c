"""Packets into bytes, for either version. What a 3.1.1 packet cannot say (reasons, properties) is left out.

Everything given is assumed legal: it was decoded before, or is ours.
"""

from __future__ import annotations

from .packets import (
    BRIDGE_BIT,
    Acknowledgement,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Pingreq,
    Pingresp,
    Publish,
    Suback,
    Subscribe,
    SubscriptionOptions,
    Unsuback,
    Unsubscribe,
    Version,
    Will,
)
from .primitives import encode_binary, encode_text, encode_varint
from .properties import NO_PROPERTIES, Properties, encode_properties
from .reasons import RETURN_CODES, Reason

PINGRESP = b"\xd0\x00"


def encode_packet(packet: Packet, version: Version) -> bytes:
    """The whole packet, fixed header included."""
    match packet:
        case Publish():
            return _publish(packet, version)
        case Acknowledgement():
            return _acknowledgement(packet, version)
        case Pingreq():
            return b"\xc0\x00"
        case Pingresp():
            return PINGRESP
        case Connect():
            return _frame(0x10, _connect(packet))
        case Connack():
            return _frame(0x20, _connack(packet, version))
        case Subscribe():
            body = b"".join(_subscription(each) for each in packet.subscriptions)
            return _frame(0x82, _numbered(packet.packet_id, packet.properties, version) + body)
        case Unsubscribe():
            body = b"".join(encode_text(each) for each in packet.filters)
            return _frame(0xA2, _numbered(packet.packet_id, packet.properties, version) + body)
        case Suback():
            head = _numbered(packet.packet_id, packet.properties, version)
            return _frame(0x90, head + bytes(_granted(each, version) for each in packet.reasons))
        case Unsuback():
            head = _numbered(packet.packet_id, packet.properties, version)
            reasons = bytes(packet.reasons) if version is Version.V5 else b""
            return _frame(0xB0, head + reasons)
        case Disconnect():
            if version is Version.V311:
                return b"\xe0\x00"
            return _frame(0xE0, _reason_and_properties(packet.reason, packet.properties))
        case Auth():
            return _frame(0xF0, _reason_and_properties(packet.code, packet.properties))


def _frame(first_byte: int, body: bytes) -> bytes:
    return bytes((first_byte,)) + encode_varint(len(body)) + body


def _connect(packet: Connect) -> bytes:
    will = packet.will
    flags = (
        packet.clean_start << 1
        | (packet.password is not None) << 6
        | (packet.user_name is not None) << 7
    )
    if will is not None:
        flags |= 0x04 | will.qos << 3 | will.retain << 5
    version = packet.version
    parts = [
        encode_text("MQTT"),
        bytes((version | BRIDGE_BIT if packet.bridge else version, flags)),
        packet.keep_alive.to_bytes(2, "big"),
        _properties(packet.properties, version),
        encode_text(packet.client_id),
    ]
    if will is not None:
        parts.append(_will(will, version))
    if packet.user_name is not None:
        parts.append(encode_text(packet.user_name))
    if packet.password is not None:
        parts.append(encode_binary(packet.password))
    return b"".join(parts)


def _will(will: Will, version: Version) -> bytes:
    return (
        _properties(will.properties, version)
        + encode_text(will.topic)
        + encode_binary(will.payload)
    )


def _connack(packet: Connack, version: Version) -> bytes:
    if version is Version.V311:
        return bytes((packet.session_present, RETURN_CODES[packet.reason]))
    return bytes((packet.session_present, packet.reason)) + encode_properties(packet.properties)


def _publish(packet: Publish, version: Version) -> bytes:
    first_byte = 0x30 | packet.dup << 3 | packet.qos << 1 | packet.retain
    packet_id = packet.packet_id.to_bytes(2, "big") if packet.qos else b""
    properties = _properties(packet.properties, version)
    return _frame(first_byte, encode_text(packet.topic) + packet_id + properties + packet.payload)


def _acknowledgement(packet: Acknowledgement, version: Version) -> bytes:
    first_byte = packet.kind << 4 | (0x02 if packet.kind is PacketType.PUBREL else 0)
    packet_id = packet.packet_id.to_bytes(2, "big")
    if version is Version.V311:
        return _frame(first_byte, packet_id)
    return _frame(first_byte, packet_id + _reason_and_properties(packet.reason, packet.properties))


def _reason_and_properties(reason: int, properties: Properties) -> bytes:
    """Shortest form: success without properties is not written at all, nor an empty property length."""
    if properties is NO_PROPERTIES:
        return bytes((reason,)) if reason else b""
    return bytes((reason,)) + encode_properties(properties)


def _numbered(packet_id: int, properties: Properties, version: Version) -> bytes:
    return packet_id.to_bytes(2, "big") + _properties(properties, version)


def _subscription(options: SubscriptionOptions) -> bytes:
    byte = (
        options.qos
        | options.no_local << 2
        | options.retain_as_published << 3
        | options.retain_handling << 4
    )
    return encode_text(options.filter) + bytes((byte,))


def _granted(reason: Reason, version: Version) -> int:
    return 0x80 if version is Version.V311 and reason >= 0x80 else reason


def _properties(properties: Properties, version: Version) -> bytes:
    return encode_properties(properties) if version is Version.V5 else b""
