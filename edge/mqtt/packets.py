"""The fifteen control packets as values: what each says, nothing of how it is written.

One set for both versions: what only MQTT 5 has (properties, reason codes) is at its default for a 3.1.1 client.
"""

from __future__ import annotations

import enum

import msgspec

from .properties import NO_PROPERTIES, Properties
from .reasons import Reason


class PacketType(enum.IntEnum):
    """The high four bits of a packet's first byte (table 2.1)."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class Version(enum.IntEnum):
    """The protocol level byte of CONNECT."""

    V311 = 4
    V5 = 5


# Set in the protocol level by a bridge that speaks 3.1 or 3.1.1: it wants nothing back that it published, and RETAIN as it
# was published. No specification has it; in MQTT 5 these are options of each subscription.
BRIDGE_BIT = 0x80


class Will(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True, omit_defaults=True):
    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = NO_PROPERTIES


class Connect(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """`bridge`: the client says that it is another broker, as Mosquitto's bridges do before MQTT 5 (`BRIDGE_BIT`)."""

    version: Version
    client_id: str
    clean_start: bool = True
    keep_alive: int = 0
    will: Will | None = None
    user_name: str | None = None
    password: bytes | None = None
    properties: Properties = NO_PROPERTIES
    bridge: bool = False


class Connack(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    reason: Reason = Reason.SUCCESS
    session_present: bool = False
    properties: Properties = NO_PROPERTIES


class Publish(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    properties: Properties = NO_PROPERTIES


class Acknowledgement(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """PUBACK, PUBREC, PUBREL or PUBCOMP: four packets of one shape."""

    kind: PacketType
    packet_id: int
    reason: Reason = Reason.SUCCESS
    properties: Properties = NO_PROPERTIES


class RetainHandling(enum.IntEnum):
    """What a new subscription gets of what is retained (MQTT 5.0, 3.8.3.1)."""

    SEND = 0
    SEND_IF_NEW = 1
    DO_NOT_SEND = 2


class SubscriptionOptions(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: RetainHandling = RetainHandling.SEND


class Subscribe(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    packet_id: int
    subscriptions: tuple[SubscriptionOptions, ...]
    properties: Properties = NO_PROPERTIES


class Suback(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    packet_id: int
    reasons: tuple[Reason, ...]
    properties: Properties = NO_PROPERTIES


class Unsubscribe(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    packet_id: int
    filters: tuple[str, ...]
    properties: Properties = NO_PROPERTIES


class Unsuback(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    packet_id: int
    reasons: tuple[Reason, ...] = ()
    properties: Properties = NO_PROPERTIES


class Pingreq(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    pass


class Pingresp(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    pass


class Disconnect(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    reason: Reason = Reason.SUCCESS
    properties: Properties = NO_PROPERTIES


class Auth(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    # 0x18 and 0x19 stand in AUTH alone, so `Reason` need not know them
    code: int = 0
    properties: Properties = NO_PROPERTIES


Packet = (
    Connect
    | Connack
    | Publish
    | Acknowledgement
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | Auth
)
