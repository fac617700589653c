"""The one place where transports are made: from an accepted socket to a client that is admitted.

A connection in the clear, plain or a WebSocket, lies on the epoll of `edge/sockets`; TLS is asyncio's affair, with a
deadline for the handshake. Nothing of the peer's is read before the door has let it in.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...sockets.sockets import Sockets
from ..broker import Broker
from ..client import Client
from .door import Door, Visitor
from .outstanding import unacknowledged
from .overtls import TlsWires, over_tls
from .rates import RatedClient
from .settings import Kind

if TYPE_CHECKING:
    import ssl

    from .websocket import WebSocket

# A peer that does not finish the goodbye of TLS is not waited for longer.
TLS_SHUTDOWN_S = 5.0
# TLS handshakes under way at one listener: each holds some 55 KiB, and nobody has said yet who it is. Beyond it the oldest
# gives way, not the newest: an honest one takes a second, those that nobody finishes are old.
HANDSHAKES_MAX = 500


class Opening:
    """Makes the connections of one listener. `context` may be replaced: the next handshake uses it."""

    def __init__(
        self,
        broker: Broker,
        door: Door,
        sockets: Sockets,
        wires: TlsWires,
        crowd: Callable[[], int],
    ) -> None:
        self._broker = broker
        self._crowd = crowd  # how many have come in at all doors, those in a handshake among them
        self._door = door
        self._sockets = sockets
        self._wires = wires
        self._shaking: dict[asyncio.Task[None], Visitor] = {}  # oldest first
        self.context: ssl.SSLContext | None = None

    def take(self, sock: socket.socket) -> None:
        """A socket just accepted; it is closed where the door does not let it in."""
        visitor = self._door.enter(_address(sock))
        if visitor is None:
            sock.close()
            return
        limits = self._broker.settings
        if self._crowd() > limits.connections_max + limits.refusals_max:
            self._door.turn_away(visitor.address, "too many connections in all")
            self._door.left(visitor)
            sock.close()
            return
        settings = self._door.settings
        limit = int(self._broker.settings.write_buffer_max)
        if self.context is None and settings.kind is Kind.WEBSOCKET:
            web = self._web(visitor)
            web.in_rounds = True
            web.connection_made(self._sockets.adopt(sock, web, write_buffer_max=limit))
            return
        if self.context is None:
            client = self._client(visitor)
            client.in_rounds = True
            connection = self._sockets.adopt(sock, client, write_buffer_max=limit)
            client.unacknowledged = unacknowledged(connection)
            connection.ending = client.remember_delivered
            client.connection_made(connection)
            return
        if len(self._shaking) >= HANDSHAKES_MAX:
            oldest = next(iter(self._shaking))
            self._door.turn_away(self._shaking.pop(oldest).address, "too many handshakes at once")
            oldest.cancel()
        task = asyncio.get_running_loop().create_task(self._shake_hands(sock, visitor))
        self._shaking[task] = visitor
        task.add_done_callback(lambda done: self._shaken(done, sock, visitor))

    def _shaken(self, task: asyncio.Task[None], sock: socket.socket, visitor: Visitor) -> None:
        self._shaking.pop(task, None)
        if task.cancelled():  # perhaps before it began
            self._door.left(visitor)
            sock.close()

    async def close(self) -> None:
        """Those in the middle of a handshake are dropped."""
        for task in tuple(self._shaking):
            task.cancel()
        await asyncio.gather(*self._shaking, return_exceptions=True)

    def _client(self, visitor: Visitor) -> Client:
        settings = self._door.settings
        if settings.publish_rate or settings.publish_bytes_rate:
            return RatedClient(self._broker, visitor)
        return self._broker.client(visitor)

    def _web(self, visitor: Visitor) -> WebSocket:
        from .websocket import WebSocket

        return WebSocket(visitor, self._client)

    async def _shake_hands(self, sock: socket.socket, visitor: Visitor) -> None:
        settings, context = self._door.settings, self.context
        limit = int(self._broker.settings.write_buffer_max)
        loop = asyncio.get_running_loop()
        make = self._web if settings.kind is Kind.WEBSOCKET else self._client
        protocol = over_tls(make, visitor, self._wires, limit)
        try:
            await loop.connect_accepted_socket(
                lambda: protocol,
                sock,
                ssl=context,
                ssl_handshake_timeout=float(settings.handshake_timeout),
                ssl_shutdown_timeout=TLS_SHUTDOWN_S,
            )
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            self._door.turn_away(visitor.address, f"tls: {_told(error)}")
            self._door.left(visitor)
            sock.close()


def _told(error: Exception) -> str:
    """A few words of our own or OpenSSL's, no data: they become the label of a metric."""
    if isinstance(error, TimeoutError) or "longer than" in str(error):  # asyncio's and uvloop's way
        return "no handshake in time"
    # why a certificate is not believed: expired, revoked, of another authority
    if verdict := getattr(error, "verify_message", None):
        return f"client certificate: {verdict}"
    reason = getattr(error, "reason", None)
    return str(reason).lower().replace("_", " ") if reason else "handshake broken off"


def _address(sock: socket.socket) -> str:
    if sock.family == socket.AF_UNIX:
        return ""
    try:
        name = sock.getpeername()
    except OSError:  # gone already
        return ""
    return f"[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"
