"""What kept sessions were promised, written down outside: sessions, subscriptions, and what subscribers have received.

All numbers are counts of device operations, read as an answer was read from the socket (publishers.py has the rule): in
the world where the power fails after `cut` operations, exactly what has a count of at most `cut` has happened outside.
-1: never.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from headwater.edge.mqtt.topics import matches

SHARE = "$share/"


class Subscription(msgspec.Struct):
    client: str
    topic_filter: str
    qos: int
    asked: int
    acked: int = -1  # SUBACK
    leaving: int = -1  # UNSUBSCRIBE was sent
    left: int = -1  # UNSUBACK

    @property
    def is_shared(self) -> bool:
        return self.topic_filter.startswith(SHARE)

    def wants(self, topic: str) -> bool:
        """Of a shared one, the filter behind its group's name."""
        own = self.topic_filter
        return matches(own.split("/", 2)[2] if self.is_shared else own, topic)

    def promises(self, topic: str, sent: int, cut: int) -> bool:
        """A message sent then must reach the subscriber, if it was acknowledged."""
        return (
            happened(self.acked, cut)
            and sent > self.acked
            and not happened(self.leaving, cut)
            and self.wants(topic)
        )

    def allows(self, topic: str, sent: int, cut: int) -> bool:
        """It may."""
        return (
            happened(self.asked, cut)
            and not (happened(self.left, cut) and sent > self.left)
            and self.wants(topic)
        )


class Delivery(msgspec.Struct):
    """`released`: the count at PUBREL, of QoS 2: until then the subscriber keeps the identifier."""

    client: str
    message: str
    packet_id: int
    qos: int
    received: int
    released: int = -1


class LastWill(msgspec.Struct):
    """One connection with a will, which is the message of that name. `connected`: CONNACK was read; `parted`: DISCONNECT
    was sent. The delay counts from the end of the connection; at the session's end the will is due in any case."""

    client: str
    message: str
    delay_s: int
    expiry_s: int
    connected: int = -1
    parted: int = -1


class Parting(NamedTuple):
    """A subscriber went away, for good: the count, and the monotonic clock."""

    at: int
    clock: float


class Story(msgspec.Struct):
    """`sessions`: client → the count at its first CONNACK. `starts`: the count at each start of the daemon. `complaints`:
    promises broken while it was recorded."""

    sessions: dict[str, int] = {}
    subscriptions: list[Subscription] = []
    deliveries: list[Delivery] = []
    last_wills: list[LastWill] = []
    partings: dict[str, Parting] = {}
    starts: list[int] = []
    complaints: list[str] = []


def happened(count: int, cut: int) -> bool:
    return 0 <= count <= cut


def save(story: Story, path: Path) -> None:
    path.write_bytes(msgspec.json.encode(story))


def load(path: Path) -> Story:
    """An empty one where nobody had a session."""
    if not path.exists():
        return Story()
    return msgspec.json.decode(path.read_bytes(), type=Story)
