"""What the broker notes in the journal, in the same commit as the records it belongs to: changes of kept sessions.

A session is *kept* while its expiry is above 0 (3.1.1: clean session 0). A note is an assignment, never a difference: it
says what is so from now on. Therefore notes may be applied again to a state that has seen some of them already, and the
outcome is the same; a checkpoint needs no exact place among them, only one that is not too late (checkpoints.py).

| kind | note | says |
|---|---|---|
| 1 | list of `Inbound` | one per commit: packet identifiers taken at QoS 2 and released, QoS 1 publishes in doubt |
| 2 | `Opened` | a session was made, or its connection opened again |
| 3 | `Subscribed` | subscriptions made or replaced |
| 4 | `Unsubscribed` | subscriptions gone |
| 5 | `Left` | its connection ended; the will that waits for its delay |
| 6 | `Ended` | the session is no more |
| 7 | `Outbound` | where its deliveries stand (outbound.py) |
| 8 | list of `RetainedAt` | one per commit: records of it that are retained |

Bytes: MessagePack of these structures as arrays. Sessions go by number, given once and never again, because a client
identifier in each commit would cost more than what is said about it.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from ..mqtt.packets import RetainHandling, SubscriptionOptions, Will
from .moments import Moment

INBOUND, OPENED, SUBSCRIBED, UNSUBSCRIBED, LEFT, ENDED, OUTBOUND, RETAINED = range(1, 9)

_T = TypeVar("_T")


class Inbound(msgspec.Struct, frozen=True, array_like=True):
    """`doubts`: what this commit stored (doubts.py); `settled`: of this commit and before, nothing is in doubt."""

    session: int
    received: list[int] = []
    released: list[int] = []
    settled: int = 0
    doubts: bytes = b""


class Opened(msgspec.Struct, frozen=True, array_like=True):
    """`fresh`: whatever was kept under this client identifier is gone. `user`: whose session it is, None: anonymous."""

    session: int
    client_id: str
    fresh: bool
    expiry_s: float
    will: Will | None
    user: str | None = None


class Subscription(msgspec.Struct, frozen=True, array_like=True):
    filter: str
    options: int  # the byte of SUBSCRIBE
    identifier: int

    @classmethod
    def of(cls, options: SubscriptionOptions, identifier: int) -> Subscription:
        flags = options.qos | options.no_local << 2 | options.retain_as_published << 3
        return cls(options.filter, flags | options.retain_handling << 4, identifier)

    def unpacked(self) -> SubscriptionOptions:
        flags = self.options
        return SubscriptionOptions(
            self.filter,
            flags & 3,
            bool(flags & 4),
            bool(flags & 8),
            RetainHandling(flags >> 4 & 3),
        )


class Subscribed(msgspec.Struct, frozen=True, array_like=True):
    session: int
    subscriptions: list[Subscription]


class Unsubscribed(msgspec.Struct, frozen=True, array_like=True):
    session: int
    filters: list[str]


class Left(msgspec.Struct, frozen=True, array_like=True):
    session: int
    at: Moment
    expiry_s: float
    will: Will | None
    will_delay_s: float


class Ended(msgspec.Struct, frozen=True, array_like=True):
    session: int


class Outbound(msgspec.Struct, frozen=True, array_like=True):
    """`state`: MessagePack of an `OutboundState`, which only outbound.py reads."""

    session: int
    state: bytes


class RetainedAt(msgspec.Struct, frozen=True, array_like=True):
    stream: str
    partition: int
    offsets: list[int]


class SessionState(msgspec.Struct, kw_only=True):
    """All that is kept of one session: a row of the checkpoint, and what notes are applied to.

    `left`: since when it has no connection; None while it has one. `doubts`: (commit, packed), oldest first.
    """

    number: int
    client_id: str
    user: str | None = None
    expiry_s: float = 0.0
    left: Moment | None = None
    subscriptions: dict[str, Subscription] = {}
    will: Will | None = None
    will_delay_s: float = 0.0
    incoming: list[int] = []
    doubts: list[tuple[int, bytes]] = []
    outbound: bytes = b""


def encode(note: object) -> bytes:
    return msgspec.msgpack.encode(note)


def decode(payload: bytes, kind: type[_T]) -> _T:
    """Raises msgspec.MsgspecError where the bytes say something else."""
    return msgspec.msgpack.decode(payload, type=kind)
