"""Turns: who has sent more than is heard at once goes on when others have been heard, in the order of coming to wait.

The plain case (plain.py) is fast enough to be taken a read at a time. Everything else (PINGREQ, SUBSCRIBE, QoS 2, any
property) costs microseconds a packet, and one read may bring thirty thousand of them: so a client is heard for `TURN_S`,
the rest of its read is kept, it is not read, and it waits here. All who wait have `ROUND_S` between two rounds of reads,
whatever their number; so a flood slows those who flood, and beside them those who are heard for the first time.

While more than `CROWD` wait, a read brings little, so that little is kept of many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .transport import Pause

if TYPE_CHECKING:
    from .broker import Broker
    from .client import Client

ROUND_S = 0.001
CROWD = 16


def _at_once(go_on: Callable[[], object]) -> None:
    """Where there is no loop."""
    go_on()


class Turns:
    __slots__ = ("_broker", "_is_asked", "_waiting", "is_crowded", "soon", "taken")

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._waiting: dict[Client, None] = {}
        self._is_asked = False
        self.is_crowded = False
        self.taken = 0  # how often somebody waited
        self.soon: Callable[[Callable[[], object]], object] = _at_once

    def __len__(self) -> int:
        return len(self._waiting)

    def waits(self, client: Client) -> None:
        self._waiting[client] = None
        self.taken += 1
        if len(self._waiting) > CROWD and not self.is_crowded:
            self.is_crowded = True
            self._broker.choose_reads()
        if not self._is_asked:
            self._is_asked = True
            self.soon(self.take)

    def forget(self, client: Client) -> None:
        self._waiting.pop(client, None)

    def take(self) -> None:
        """Between two rounds of reads."""
        broker, waiting = self._broker, self._waiting
        clock = broker.clock
        end = clock.monotonic() + ROUND_S
        while waiting:
            client = next(iter(waiting))
            del waiting[client]
            client.go_on(Pause.TURN)
            if clock.monotonic() >= end:
                break
        self._is_asked = bool(waiting)
        if waiting:
            self.soon(self.take)
        elif self.is_crowded:
            self.is_crowded = False
            broker.choose_reads()
        broker.received()
