"""The meter: what all connections of the uplink together cost on the wire, living and dead.

Knows no sockets: a connection says what it cost (core/kafka/wire.py). Failed attempts to connect never become one and are
not counted; back-off keeps them to a few packets a minute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .shaping import Reading

if TYPE_CHECKING:
    from .cluster import Connection


class Meter:
    def __init__(self) -> None:
        self._alive: dict[Connection, None] = {}
        self._sent = self._received = 0

    def add(self, connection: Connection) -> None:
        self._alive[connection] = None

    def ended(self, connection: Connection) -> None:
        """Its last count is the final one."""
        if connection in self._alive:
            del self._alive[connection]
            count = connection.wire()
            self._sent += count.sent
            self._received += count.received

    @property
    def connections(self) -> int:
        return len(self._alive)

    def reading(self) -> Reading:
        sent, received, queued = self._sent, self._received, 0
        for connection in list(self._alive):
            if not connection.is_open:
                self.ended(connection)
            count = connection.wire()
            sent, received = sent + count.sent, received + count.received
            queued += count.unsent
        return Reading(sent, received, queued)
