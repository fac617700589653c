"""Why a packet succeeded or failed: MQTT 5's reason codes, and 3.1.1's five CONNACK return codes.

Inside the broker there is one vocabulary, MQTT 5's. A 3.1.1 client is told what its protocol can say: a return code
in CONNACK, 0x80 in SUBACK, and otherwise a closed connection.
"""

from __future__ import annotations

import enum

from ...core.errors import Refused


class Reason(enum.IntEnum):
    """MQTT 5.0, table 2-6. The number says in which packets it may stand only together with the specification."""

    SUCCESS = 0x00
    GRANTED_QOS_1 = 0x01
    GRANTED_QOS_2 = 0x02
    DISCONNECT_WITH_WILL = 0x04
    NO_MATCHING_SUBSCRIBERS = 0x10
    NO_SUBSCRIPTION_EXISTED = 0x11
    UNSPECIFIED_ERROR = 0x80
    MALFORMED_PACKET = 0x81
    PROTOCOL_ERROR = 0x82
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83
    UNSUPPORTED_PROTOCOL_VERSION = 0x84
    CLIENT_IDENTIFIER_NOT_VALID = 0x85
    BAD_USER_NAME_OR_PASSWORD = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    BANNED = 0x8A
    SERVER_SHUTTING_DOWN = 0x8B
    BAD_AUTHENTICATION_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    SESSION_TAKEN_OVER = 0x8E
    TOPIC_FILTER_INVALID = 0x8F
    TOPIC_NAME_INVALID = 0x90
    PACKET_IDENTIFIER_IN_USE = 0x91
    PACKET_IDENTIFIER_NOT_FOUND = 0x92
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    MESSAGE_RATE_TOO_HIGH = 0x96
    QUOTA_EXCEEDED = 0x97
    ADMINISTRATIVE_ACTION = 0x98
    PAYLOAD_FORMAT_INVALID = 0x99
    RETAIN_NOT_SUPPORTED = 0x9A
    QOS_NOT_SUPPORTED = 0x9B
    USE_ANOTHER_SERVER = 0x9C
    SERVER_MOVED = 0x9D
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E
    CONNECTION_RATE_EXCEEDED = 0x9F
    MAXIMUM_CONNECT_TIME = 0xA0
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2


class ReturnCode(enum.IntEnum):
    """MQTT 3.1.1, table 3.1: what CONNACK can say."""

    ACCEPTED = 0
    UNACCEPTABLE_PROTOCOL_VERSION = 1
    IDENTIFIER_REJECTED = 2
    SERVER_UNAVAILABLE = 3
    BAD_USER_NAME_OR_PASSWORD = 4
    NOT_AUTHORIZED = 5


# What a refused 3.1.1 CONNECT is told; a reason that is not here is told by closing ([MQTT-3.2.2-6]).
RETURN_CODES = {
    Reason.SUCCESS: ReturnCode.ACCEPTED,
    Reason.UNSUPPORTED_PROTOCOL_VERSION: ReturnCode.UNACCEPTABLE_PROTOCOL_VERSION,
    Reason.CLIENT_IDENTIFIER_NOT_VALID: ReturnCode.IDENTIFIER_REJECTED,
    Reason.SERVER_UNAVAILABLE: ReturnCode.SERVER_UNAVAILABLE,
    Reason.SERVER_BUSY: ReturnCode.SERVER_UNAVAILABLE,
    Reason.SERVER_SHUTTING_DOWN: ReturnCode.SERVER_UNAVAILABLE,
    Reason.QUOTA_EXCEEDED: ReturnCode.SERVER_UNAVAILABLE,
    Reason.BAD_USER_NAME_OR_PASSWORD: ReturnCode.BAD_USER_NAME_OR_PASSWORD,
    Reason.NOT_AUTHORIZED: ReturnCode.NOT_AUTHORIZED,
    Reason.TOPIC_NAME_INVALID: ReturnCode.NOT_AUTHORIZED,  # of a will
    Reason.BANNED: ReturnCode.NOT_AUTHORIZED,
    Reason.BAD_AUTHENTICATION_METHOD: ReturnCode.NOT_AUTHORIZED,
}


# MQTT 5, tables 3-1 and 3-10: what a server may say in CONNACK ([MQTT-3.2.2-8]) and in DISCONNECT ([MQTT-3.14.2-1]).
_IN_CONNACK = frozenset(
    (0x00, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, *range(0x99, 0x9E), 0x9F)
)
_IN_DISCONNECT = frozenset((0x00, *range(0x80, 0xA3))) - {
    *range(0x84, 0x87),
    *(0x88, 0x8A, 0x8C, 0x91, 0x92),
}


def in_connack(reason: Reason) -> Reason:
    """The reason, or the nearest that CONNACK has a word for."""
    if reason in _IN_CONNACK:
        return reason
    return (
        Reason.SERVER_UNAVAILABLE
        if reason is Reason.SERVER_SHUTTING_DOWN
        else Reason.UNSPECIFIED_ERROR
    )


def in_disconnect(reason: Reason) -> Reason:
    """The reason, or the nearest that DISCONNECT has a word for."""
    if reason in _IN_DISCONNECT:
        return reason
    return (
        Reason.NOT_AUTHORIZED
        if reason in {Reason.BAD_USER_NAME_OR_PASSWORD, Reason.BANNED}
        else Reason.UNSPECIFIED_ERROR
    )


class Violation(Refused):
    """The peer broke the protocol: this one connection is closed with `reason`, nothing else is touched."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def malformed(detail: str) -> Violation:
    """It cannot be parsed (MQTT 5.0, section 1.2)."""
    return Violation(Reason.MALFORMED_PACKET, detail)


def protocol_error(detail: str) -> Violation:
    """It can be parsed, but is not allowed, or not now (MQTT 5.0, section 1.2)."""
    return Violation(Reason.PROTOCOL_ERROR, detail)
