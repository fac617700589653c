"""Bodies into packets: one function per packet type, each consuming its body to the last byte.

Strict: a reserved bit that is set, a missing byte or one too many raises `Violation` with the reason that MQTT 5
names; nothing else is ever raised, whatever the bytes. What is right or wrong only in some state of the connection
(a second CONNECT, an alias never set) is not known here.
"""

from __future__ import annotations

from collections.abc import Callable

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
    RetainHandling,
    Suback,
    Subscribe,
    SubscriptionOptions,
    Unsuback,
    Unsubscribe,
    Version,
    Will,
)
from .primitives import Reader
from .properties import NO_PROPERTIES, Carrier, Properties, read_properties
from .reasons import Reason, ReturnCode, Violation, malformed, protocol_error
from .topics import SHARED_PREFIX, check_topic_filter, check_topic_name

# Table 2.2: the low four bits, fixed for all but PUBLISH ([MQTT-2.2.2-2], 5.0: [MQTT-2.1.3-1])
_FLAGS = {
    PacketType.PUBREL: 0b0010,
    PacketType.SUBSCRIBE: 0b0010,
    PacketType.UNSUBSCRIBE: 0b0010,
}

# Packets of MQTT 3.1 are those of 3.1.1, and what it asks of a client is asked of no server. It is heard for the sake of who
# speaks 3.1.1: Paho's Java and Go clients, refused for a wrong password, try again with 3.1 and report that second answer.
_SAME_AS_V311 = {(b"MQTT", Version.V311.value), (b"MQIsdp", 3)}

# Topic filters of one packet: each costs some ten microseconds, in which nobody else is served. Sessions have a thousand; a
# packet of 1 MiB could name a hundred and seventy thousand.
FILTERS_MAX = 4096

_AUTH_CODES = (0x00, 0x18, 0x19)

# Tables 3.4, 3.6 and 3.13 of MQTT 5.0: the reasons that a packet may give ([MQTT-3.4.2-1] and its like)
_ANSWERS_TO_PUBLISH = frozenset((0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99))
_ANSWERS_OF_RELEASE = frozenset((0x00, 0x92))
_REASONS_OF = {
    PacketType.PUBACK: _ANSWERS_TO_PUBLISH,
    PacketType.PUBREC: _ANSWERS_TO_PUBLISH,
    PacketType.PUBREL: _ANSWERS_OF_RELEASE,
    PacketType.PUBCOMP: _ANSWERS_OF_RELEASE,
    PacketType.DISCONNECT: frozenset((0x00, 0x04, *range(0x80, 0xA3)))
    - {0x84, 0x85, 0x86, 0x88, 0x8A, 0x8C, 0x91, 0x92},
}


def decode_packet(first_byte: int, body: bytes, version: Version) -> Packet:
    """The packet whose fixed header began with `first_byte`. Raises Violation."""
    if first_byte >> 4 == 0:
        raise malformed("packet type 0 is reserved")
    kind = PacketType(first_byte >> 4)
    flags = first_byte & 0x0F
    reader = Reader(body)
    packet: Packet
    if kind is PacketType.PUBLISH:
        packet = _publish(flags, reader, version)
    else:
        if flags != _FLAGS.get(kind, 0):
            raise malformed(f"{kind.name} with reserved flags {flags:04b}")
        packet = _DECODERS[kind](reader, version, kind)
    reader.finish()
    return packet


def _connect(reader: Reader, version: Version, kind: PacketType) -> Connect:
    version, bridge = _protocol(reader)
    flags = reader.uint8()
    if flags & 0x01:
        raise malformed("reserved CONNECT flag is set")  # [MQTT-3.1.2-3]
    keep_alive = reader.uint16()
    properties = _properties(reader, version, Carrier.CONNECT)
    if properties.authentication_data is not None and properties.authentication_method is None:
        raise protocol_error("authentication data without a method")
    client_id = reader.text()
    will = _will(flags, reader, version)
    has_user_name, has_password = bool(flags & 0x80), bool(flags & 0x40)
    if has_password and not has_user_name and version is Version.V311:
        raise malformed("password without user name")  # [MQTT-3.1.2-22]
    return Connect(
        version=version,
        client_id=client_id,
        clean_start=bool(flags & 0x02),
        keep_alive=keep_alive,
        will=will,
        user_name=reader.text() if has_user_name else None,
        password=reader.binary() if has_password else None,
        properties=properties,
        bridge=bridge,
    )


def _protocol(reader: Reader) -> tuple[Version, bool]:
    name = reader.binary()
    level = reader.uint8()
    if name == b"MQTT" and level == Version.V5:
        return Version.V5, False
    if (name, level & ~BRIDGE_BIT) in _SAME_AS_V311:
        return Version.V311, bool(level & BRIDGE_BIT)
    if name not in (b"MQTT", b"MQIsdp"):
        raise Violation(Reason.UNSUPPORTED_PROTOCOL_VERSION, f"protocol name {name[:16]!r}")
    raise Violation(Reason.UNSUPPORTED_PROTOCOL_VERSION, f"protocol level {level}")


def _will(flags: int, reader: Reader, version: Version) -> Will | None:
    qos = flags >> 3 & 0x03
    retain = bool(flags & 0x20)
    if not flags & 0x04:
        if qos or retain:
            raise malformed("will QoS or retain without a will")  # [MQTT-3.1.2-11], [-13], [-15]
        return None
    if qos == 3:
        raise malformed("will QoS 3")  # [MQTT-3.1.2-14]
    properties = _properties(reader, version, Carrier.WILL)
    topic = check_topic_name(reader.text())
    if properties.response_topic is not None:
        check_topic_name(properties.response_topic)
    return Will(topic=topic, payload=reader.binary(), qos=qos, retain=retain, properties=properties)


def _connack(reader: Reader, version: Version, kind: PacketType) -> Connack:
    flags = reader.uint8()
    if flags > 1:
        raise malformed("reserved CONNACK flags are set")
    if version is Version.V311:
        code = reader.uint8()
        if code > max(ReturnCode):
            raise malformed(f"CONNACK return code {code}")
        reason = _REASONS_OF_RETURN_CODES[code]
        return Connack(reason=reason, session_present=bool(flags))
    reason = _reason(reader)
    properties = read_properties(reader, Carrier.CONNACK)
    return Connack(reason=reason, session_present=bool(flags), properties=properties)


_REASONS_OF_RETURN_CODES = (
    Reason.SUCCESS,
    Reason.UNSUPPORTED_PROTOCOL_VERSION,
    Reason.CLIENT_IDENTIFIER_NOT_VALID,
    Reason.SERVER_UNAVAILABLE,
    Reason.BAD_USER_NAME_OR_PASSWORD,
    Reason.NOT_AUTHORIZED,
)


def _publish(flags: int, reader: Reader, version: Version) -> Publish:
    qos = flags >> 1 & 0x03
    dup = bool(flags & 0x08)
    if qos == 3:
        raise malformed("PUBLISH with QoS 3")  # [MQTT-3.3.1-4]
    if dup and qos == 0:
        raise malformed("PUBLISH with DUP at QoS 0")  # [MQTT-3.3.1-2]
    topic = reader.text()
    packet_id = _packet_id(reader) if qos else 0
    properties = _properties(reader, version, Carrier.PUBLISH)
    if topic or version is Version.V311:
        check_topic_name(topic)
    elif properties.topic_alias is None:
        # MQTT 5, 3.3.2.1: an empty name stands for the alias, which the connection resolves
        raise protocol_error("PUBLISH with neither a topic name nor an alias")
    if properties.response_topic is not None:
        check_topic_name(properties.response_topic)  # [MQTT-3.3.2-14]
    return Publish(
        topic=topic,
        payload=reader.rest(),
        qos=qos,
        retain=bool(flags & 0x01),
        dup=dup,
        packet_id=packet_id,
        properties=properties,
    )


def _acknowledgement(reader: Reader, version: Version, kind: PacketType) -> Acknowledgement:
    packet_id = _packet_id(reader)
    if version is Version.V311 or not reader.remaining:
        return Acknowledgement(kind, packet_id)
    reason = _reason_of(kind, reader)
    if not reader.remaining:
        return Acknowledgement(kind, packet_id, reason)
    return Acknowledgement(kind, packet_id, reason, read_properties(reader, Carrier[kind.name]))


def _subscribe(reader: Reader, version: Version, kind: PacketType) -> Subscribe:
    packet_id = _packet_id(reader)
    properties = _properties(reader, version, Carrier.SUBSCRIBE)
    subscriptions: list[SubscriptionOptions] = []
    while reader.remaining:
        topic_filter = check_topic_filter(reader.text())
        subscriptions.append(_subscription_options(topic_filter, reader.uint8(), version))
        if len(subscriptions) > FILTERS_MAX:
            raise Violation(Reason.QUOTA_EXCEEDED, f"more than {FILTERS_MAX} filters in a packet")
    if not subscriptions:
        raise protocol_error("SUBSCRIBE without a topic filter")  # [MQTT-3.8.3-3], 5.0: [-2]
    return Subscribe(packet_id=packet_id, subscriptions=tuple(subscriptions), properties=properties)


def _subscription_options(topic_filter: str, byte: int, version: Version) -> SubscriptionOptions:
    qos = byte & 0x03
    reserved = byte & (0xC0 if version is Version.V5 else 0xFC)
    if qos == 3 or reserved:
        raise malformed(f"subscription options {byte:08b}")  # [MQTT-3.8.3-4], 5.0: [-5]
    handling = byte >> 4 & 0x03
    if handling == 3:
        raise protocol_error("retain handling 3")
    no_local = bool(byte & 0x04)
    if no_local and topic_filter.startswith(SHARED_PREFIX):
        raise protocol_error("no local on a shared subscription")  # [MQTT-3.8.3-4]
    return SubscriptionOptions(
        topic_filter, qos, no_local, bool(byte & 0x08), RetainHandling(handling)
    )


def _suback(reader: Reader, version: Version, kind: PacketType) -> Suback:
    packet_id = _packet_id(reader)
    properties = _properties(reader, version, Carrier.SUBACK)
    return Suback(packet_id=packet_id, reasons=_reasons(reader), properties=properties)


def _unsubscribe(reader: Reader, version: Version, kind: PacketType) -> Unsubscribe:
    packet_id = _packet_id(reader)
    properties = _properties(reader, version, Carrier.UNSUBSCRIBE)
    filters: list[str] = []
    while reader.remaining:
        filters.append(check_topic_filter(reader.text()))
        if len(filters) > FILTERS_MAX:
            raise Violation(Reason.QUOTA_EXCEEDED, f"more than {FILTERS_MAX} filters in a packet")
    if not filters:
        raise protocol_error("UNSUBSCRIBE without a topic filter")  # [MQTT-3.10.3-2]
    return Unsubscribe(packet_id=packet_id, filters=tuple(filters), properties=properties)


def _unsuback(reader: Reader, version: Version, kind: PacketType) -> Unsuback:
    packet_id = _packet_id(reader)
    properties = _properties(reader, version, Carrier.UNSUBACK)
    reasons = _reasons(reader) if version is Version.V5 else ()
    return Unsuback(packet_id=packet_id, reasons=reasons, properties=properties)


def _pingreq(reader: Reader, version: Version, kind: PacketType) -> Pingreq:
    return Pingreq()


def _pingresp(reader: Reader, version: Version, kind: PacketType) -> Pingresp:
    return Pingresp()


def _disconnect(reader: Reader, version: Version, kind: PacketType) -> Disconnect:
    if version is Version.V311 or not reader.remaining:
        return Disconnect()
    reason = _reason_of(kind, reader)
    if not reader.remaining:
        return Disconnect(reason=reason)
    return Disconnect(reason=reason, properties=read_properties(reader, Carrier.DISCONNECT))


def _auth(reader: Reader, version: Version, kind: PacketType) -> Auth:
    if version is Version.V311:
        raise malformed("packet type 15 is reserved in MQTT 3.1.1")
    if not reader.remaining:
        return Auth()
    code = reader.uint8()
    if code not in _AUTH_CODES:
        raise protocol_error(f"AUTH with reason code 0x{code:02X}")
    properties = read_properties(reader, Carrier.AUTH) if reader.remaining else NO_PROPERTIES
    return Auth(code=code, properties=properties)


def _packet_id(reader: Reader) -> int:
    packet_id = reader.uint16()
    if packet_id == 0:
        raise protocol_error("packet identifier 0")  # [MQTT-2.3.1-1], 5.0: [MQTT-2.2.1-3]
    return packet_id


def _reason(reader: Reader) -> Reason:
    code = reader.uint8()
    try:
        return Reason(code)
    except ValueError:
        raise malformed(f"unknown reason code 0x{code:02X}") from None


def _reason_of(kind: PacketType, reader: Reader) -> Reason:
    reason = _reason(reader)
    if reason not in _REASONS_OF[kind]:
        raise protocol_error(f"{kind.name} with reason {reason.name}")
    return reason


def _reasons(reader: Reader) -> tuple[Reason, ...]:
    return tuple([_reason(reader) for _ in range(reader.remaining)])


def _properties(reader: Reader, version: Version, carrier: Carrier) -> Properties:
    return read_properties(reader, carrier) if version is Version.V5 else NO_PROPERTIES


_DECODERS: dict[PacketType, Callable[[Reader, Version, PacketType], Packet]] = {
    PacketType.CONNECT: _connect,
    PacketType.CONNACK: _connack,
    PacketType.PUBACK: _acknowledgement,
    PacketType.PUBREC: _acknowledgement,
    PacketType.PUBREL: _acknowledgement,
    PacketType.PUBCOMP: _acknowledgement,
    PacketType.SUBSCRIBE: _subscribe,
    PacketType.SUBACK: _suback,
    PacketType.UNSUBSCRIBE: _unsubscribe,
    PacketType.UNSUBACK: _unsuback,
    PacketType.PINGREQ: _pingreq,
    PacketType.PINGRESP: _pingresp,
    PacketType.DISCONNECT: _disconnect,
    PacketType.AUTH: _auth,
}
