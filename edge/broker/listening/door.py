"""A door: what one listener lets in, decided before a byte is read. No sockets, no loop.

Refusing at the door is the cheapest there is: no handshake, no password, no session. What is refused there is told by
closing, because before CONNECT there is nothing to tell it in. Every visitor admitted must be seen out (`left`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ....core.clock import Clock
from .settings import ListenerSettings


class Bucket:
    """Tokens that come at a rate; a negative level is a debt, and `wait_s` says when it is paid."""

    __slots__ = ("_at", "_burst", "_level", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self._burst = burst
        self._level = burst
        self._at = now

    def take(self, amount: float, now: float) -> float:
        """Take; seconds until the debt is paid, 0 where there is none."""
        level = min(self._burst, self._level + (now - self._at) * self.rate) - amount
        self._at = now
        self._level = level
        return -level / self.rate if level < 0 else 0.0

    def take_if_there(self, now: float) -> bool:
        """One token, or nothing is taken."""
        self.take(0, now)
        if self._level < 1:
            return False
        self._level -= 1
        return True


class Visitor:
    """What is known of a connection beside its MQTT: where it came in, from where, who it is."""

    __slots__ = ("address", "claimed", "door", "is_in", "subject", "user")

    def __init__(self, door: Door, address: str) -> None:
        self.door = door
        self.is_in = True  # until its door has seen it out
        self.address = address  # host:port; of a unix socket nothing
        self.subject: str | None = None  # of a verified client certificate, as a user name
        self.user: str | None = None  # verified; None: anonymous
        self.claimed = ("", "")  # client identifier and user name as CONNECT gave them, true or not


# Told of a visitor who was not let in: (door, address, reason).
TurnedAway = Callable[["Door", str, str], None]


class Door:
    def __init__(
        self, settings: ListenerSettings, clock: Clock, turned_away: TurnedAway | None = None
    ) -> None:
        self._clock = clock
        self._turned_away = turned_away
        self._per_address: Counter[str] = Counter()
        self.open = 0
        self.accepted = 0
        self.refused: Counter[str] = Counter()  # by reason: few, and all of our own words
        self.slowed = 0  # times that a client was not read for its publish rate
        self.change(settings)

    def change(self, settings: ListenerSettings) -> None:
        """Other limits from now on; who is in stays."""
        self.settings = settings
        self.label = settings.label
        rate = settings.connection_rate
        now = self._clock.monotonic()
        self._arrivals = Bucket(rate, settings.connection_burst, now) if rate else None

    def enter(self, address: str) -> Visitor | None:
        """`address`: host:port, or nothing for a unix socket. None: close it."""
        settings = self.settings
        host = address.rpartition(":")[0]
        if settings.connections_max and self.open >= settings.connections_max:
            self.turn_away(address, "too many connections")
            return None
        per_address = settings.connections_per_address_max
        if per_address and host and self._per_address[host] >= per_address:
            self.turn_away(address, "too many connections from one address")
            return None
        if self._arrivals is not None and not self._arrivals.take_if_there(self._clock.monotonic()):
            self.turn_away(address, "connection rate")
            return None
        self.open += 1
        self.accepted += 1
        self._per_address[host] += 1
        return Visitor(self, address)

    def turn_away(self, address: str, reason: str) -> None:
        self.refused[reason] += 1
        if self._turned_away is not None:
            self._turned_away(self, address, reason)

    def left(self, visitor: Visitor) -> None:
        if not visitor.is_in:
            return
        visitor.is_in = False
        self.open -= 1
        host = visitor.address.rpartition(":")[0]
        self._per_address[host] -= 1
        if not self._per_address[host]:
            del self._per_address[host]
