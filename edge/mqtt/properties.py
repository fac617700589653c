"""MQTT 5's properties: one table of all twenty-seven, from which both directions are made.

Rule: a property that the packet may not carry is malformed, like what cannot be parsed (MQTT 5.0, section 2.2.2.2); one
that stands twice where it may stand once is a protocol error, and so is a value outside its range (section 3, at each).
"""

from __future__ import annotations

import enum

import msgspec

from .primitives import Reader, encode_binary, encode_text, encode_varint
from .reasons import Reason, Violation, malformed, protocol_error

# User properties of one packet: people send a handful. Each costs some two microseconds, in which nobody else is served, and
# becomes a header of the record; a packet of 1 MiB could hold two hundred thousand, half a second of the whole edge.
USER_PROPERTIES_MAX = 1000


class Properties(
    msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True, omit_defaults=True
):
    """What a packet carries; None where it does not say. The names are the specification's."""

    payload_format_indicator: int | None = None
    message_expiry_interval: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    subscription_identifiers: tuple[int, ...] = ()
    session_expiry_interval: int | None = None
    assigned_client_identifier: str | None = None
    server_keep_alive: int | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = None
    request_problem_information: int | None = None
    will_delay_interval: int | None = None
    request_response_information: int | None = None
    response_information: str | None = None
    server_reference: str | None = None
    reason_string: str | None = None
    receive_maximum: int | None = None
    topic_alias_maximum: int | None = None
    topic_alias: int | None = None
    maximum_qos: int | None = None
    retain_available: int | None = None
    user_properties: tuple[tuple[str, str], ...] = ()
    maximum_packet_size: int | None = None
    wildcard_subscription_available: int | None = None
    subscription_identifier_available: int | None = None
    shared_subscription_available: int | None = None


NO_PROPERTIES = Properties()


class Carrier(enum.Flag):
    """Where a property may stand (table 2-4)."""

    CONNECT = enum.auto()
    CONNACK = enum.auto()
    PUBLISH = enum.auto()
    PUBACK = enum.auto()
    PUBREC = enum.auto()
    PUBREL = enum.auto()
    PUBCOMP = enum.auto()
    SUBSCRIBE = enum.auto()
    SUBACK = enum.auto()
    UNSUBSCRIBE = enum.auto()
    UNSUBACK = enum.auto()
    DISCONNECT = enum.auto()
    AUTH = enum.auto()
    WILL = enum.auto()


class Kind(enum.Enum):
    BOOLEAN = enum.auto()  # one byte, 0 or 1
    UINT16 = enum.auto()
    UINT32 = enum.auto()
    VARINT = enum.auto()
    TEXT = enum.auto()
    BINARY = enum.auto()
    PAIR = enum.auto()


class Definition(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    identifier: int
    name: str
    kind: Kind
    carriers: Carrier
    zero_allowed: bool = True


_C = Carrier
_ACKNOWLEDGEMENTS = (
    _C.CONNACK | _C.PUBACK | _C.PUBREC | _C.PUBREL | _C.PUBCOMP | _C.SUBACK | _C.UNSUBACK
)
_MESSAGE = _C.PUBLISH | _C.WILL
_HANDSHAKE = _C.CONNECT | _C.CONNACK
_EVERYWHERE = ~Carrier(0)

DEFINITIONS = (
    Definition(0x01, "payload_format_indicator", Kind.BOOLEAN, _MESSAGE),
    Definition(0x02, "message_expiry_interval", Kind.UINT32, _MESSAGE),
    Definition(0x03, "content_type", Kind.TEXT, _MESSAGE),
    Definition(0x08, "response_topic", Kind.TEXT, _MESSAGE),
    Definition(0x09, "correlation_data", Kind.BINARY, _MESSAGE),
    Definition(
        0x0B, "subscription_identifiers", Kind.VARINT, _C.PUBLISH | _C.SUBSCRIBE, zero_allowed=False
    ),
    Definition(0x11, "session_expiry_interval", Kind.UINT32, _HANDSHAKE | _C.DISCONNECT),
    Definition(0x12, "assigned_client_identifier", Kind.TEXT, _C.CONNACK),
    Definition(0x13, "server_keep_alive", Kind.UINT16, _C.CONNACK),
    Definition(0x15, "authentication_method", Kind.TEXT, _HANDSHAKE | _C.AUTH),
    Definition(0x16, "authentication_data", Kind.BINARY, _HANDSHAKE | _C.AUTH),
    Definition(0x17, "request_problem_information", Kind.BOOLEAN, _C.CONNECT),
    Definition(0x18, "will_delay_interval", Kind.UINT32, _C.WILL),
    Definition(0x19, "request_response_information", Kind.BOOLEAN, _C.CONNECT),
    Definition(0x1A, "response_information", Kind.TEXT, _C.CONNACK),
    Definition(0x1C, "server_reference", Kind.TEXT, _C.CONNACK | _C.DISCONNECT),
    Definition(0x1F, "reason_string", Kind.TEXT, _ACKNOWLEDGEMENTS | _C.DISCONNECT | _C.AUTH),
    Definition(0x21, "receive_maximum", Kind.UINT16, _HANDSHAKE, zero_allowed=False),
    Definition(0x22, "topic_alias_maximum", Kind.UINT16, _HANDSHAKE),
    Definition(0x23, "topic_alias", Kind.UINT16, _C.PUBLISH),
    Definition(0x24, "maximum_qos", Kind.BOOLEAN, _C.CONNACK),
    Definition(0x25, "retain_available", Kind.BOOLEAN, _C.CONNACK),
    Definition(0x26, "user_properties", Kind.PAIR, _EVERYWHERE),
    Definition(0x27, "maximum_packet_size", Kind.UINT32, _HANDSHAKE, zero_allowed=False),
    Definition(0x28, "wildcard_subscription_available", Kind.BOOLEAN, _C.CONNACK),
    Definition(0x29, "subscription_identifier_available", Kind.BOOLEAN, _C.CONNACK),
    Definition(0x2A, "shared_subscription_available", Kind.BOOLEAN, _C.CONNACK),
)
_BY_IDENTIFIER = {definition.identifier: definition for definition in DEFINITIONS}

_Value = int | str | bytes | tuple[str, str]


def read_properties(reader: Reader, carrier: Carrier) -> Properties:
    """The property length and what it spans."""
    length = reader.varint()
    if length == 0:
        return NO_PROPERTIES
    inner = reader.sub_reader(length)
    found: dict[str, _Value] = {}
    pairs: list[tuple[str, str]] = []
    identifiers: list[int] = []
    while inner.remaining:
        number = inner.varint()
        definition = _BY_IDENTIFIER.get(number)
        if definition is None:
            raise malformed(f"unknown property 0x{number:02X}")
        name = definition.name
        if not definition.carriers & carrier:
            raise malformed(f"property {name} may not stand in {carrier.name}")
        value = _read_value(inner, definition)
        if isinstance(value, tuple):
            if len(pairs) >= USER_PROPERTIES_MAX:
                raise Violation(
                    Reason.QUOTA_EXCEEDED, f"more than {USER_PROPERTIES_MAX} user properties"
                )
            pairs.append(value)
        elif number == 0x0B:
            assert isinstance(value, int)
            if identifiers and carrier is Carrier.SUBSCRIBE:
                raise protocol_error("more than one subscription identifier")
            identifiers.append(value)
        elif name in found:
            raise protocol_error(f"property {name} stands twice")
        else:
            found[name] = value
    return msgspec.structs.replace(
        NO_PROPERTIES,
        **found,
        user_properties=tuple(pairs),
        subscription_identifiers=tuple(identifiers),
    )


def _read_value(reader: Reader, definition: Definition) -> _Value:
    value: _Value
    match definition.kind:
        case Kind.BOOLEAN:
            value = reader.uint8()
            if value > 1:
                raise protocol_error(f"property {definition.name} must be 0 or 1, not {value}")
        case Kind.UINT16:
            value = reader.uint16()
        case Kind.UINT32:
            value = reader.uint32()
        case Kind.VARINT:
            value = reader.varint()
        case Kind.TEXT:
            value = reader.text()
        case Kind.BINARY:
            value = reader.binary()
        case Kind.PAIR:
            value = (reader.text(), reader.text())
    if value == 0 and not definition.zero_allowed:
        raise protocol_error(f"property {definition.name} must not be 0")
    return value


def encode_properties(properties: Properties) -> bytes:
    """The property length and the properties, in order of their identifiers."""
    if properties is NO_PROPERTIES:
        return b"\0"
    parts: list[bytes] = []
    for definition in DEFINITIONS:
        value = getattr(properties, definition.name)
        if value is None or value == ():
            continue
        values = value if isinstance(value, tuple) else (value,)
        for single in values:
            parts += (bytes((definition.identifier,)), _encode_value(definition.kind, single))
    body = b"".join(parts)
    return encode_varint(len(body)) + body


def _encode_value(kind: Kind, value: _Value) -> bytes:
    match kind, value:
        case Kind.BOOLEAN, int():
            return bytes((value,))
        case Kind.UINT16, int():
            return value.to_bytes(2, "big")
        case Kind.UINT32, int():
            return value.to_bytes(4, "big")
        case Kind.VARINT, int():
            return encode_varint(value)
        case Kind.TEXT, str():
            return encode_text(value)
        case Kind.BINARY, bytes():
            return encode_binary(value)
        case Kind.PAIR, (str() as name, str() as text):
            return encode_text(name) + encode_text(text)
        case _:
            raise AssertionError(f"{value!r} is not a {kind}")
