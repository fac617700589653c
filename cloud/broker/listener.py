"""The node's door: accepts Kafka connections, keeps count of them, drains them at the end.

The address is taken first of all (`bind`) and served last (`serve`): a second daemon started by mistake finds the port in
use before it takes the shard away from the first.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from ...core.errors import Refused
from .connection import Connection
from .node import Node

if TYPE_CHECKING:
    import ssl

_log = structlog.get_logger()
# A client that begins a handshake and says nothing more holds a socket for so long: a bad mobile link needs some seconds.
_HANDSHAKE_S = 20.0


class Listener:
    def __init__(self) -> None:
        self._serving: Node | None = None
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._tls: asyncio.Server | None = None
        self._emptied = asyncio.Event()

    @property
    def port(self) -> int:
        """The port listened on, also where 0 was asked for."""
        assert self._server is not None, "bound"
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def tls_port(self) -> int:
        """The TLS door's port."""
        assert self._tls is not None, "bound"
        return int(self._tls.sockets[0].getsockname()[1])

    @property
    def _node(self) -> Node:
        assert self._serving is not None, "served"
        return self._serving

    async def bind(self, host: str, port: int) -> None:
        """Raises Refused where the address cannot be listened on."""
        self._server = await self._listen(host, port, None)

    async def bind_tls(self, host: str, port: int, context: ssl.SSLContext) -> None:
        """A second door. Raises Refused."""
        self._tls = await self._listen(host, port, context)

    async def _listen(self, host: str, port: int, context: ssl.SSLContext | None) -> asyncio.Server:
        try:
            return await asyncio.get_running_loop().create_server(
                lambda: Connection(self._node, self),
                host,
                port,
                backlog=1024,
                ssl=context,
                ssl_handshake_timeout=_HANDSHAKE_S if context else None,
                start_serving=False,
            )
        except OSError as error:
            raise Refused(
                f"kafka address {host}:{port} cannot be listened on: {error.strerror}",
                hint="--kafka HOST:PORT with a free port",
            ) from error

    async def serve(self, node: Node) -> None:
        assert self._server is not None, "bound"
        self._serving = node
        await self._server.start_serving()
        if self._tls is not None:
            await self._tls.start_serving()

    def joined(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._node.metrics.connections.inc()
        if len(self._connections) > self._node.settings.connections_max:
            connection.abort("too many")

    def left(self, connection: Connection, reason: str) -> None:
        self._connections.discard(connection)
        self._node.metrics.connections.dec()
        self._node.metrics.closed.labels(reason).inc()
        if not self._connections:
            self._emptied.set()

    def close_idle(self) -> None:
        now = self._node.clock.monotonic()
        for connection in list(self._connections):
            if connection.is_idle(now):
                connection.close("idle")

    async def drain(self) -> None:
        """No new connections; those open finish what is under way, within the setting's time."""
        for server in (self._server, self._tls):
            if server is not None:
                server.close()
        self._node.draining = True
        self._node.groups.close()
        for shard in self._node.shards.owned():
            shard.watchers.wake_all()
        self._emptied.clear()
        for connection in list(self._connections):
            connection.drain()
        if self._connections:
            try:
                async with asyncio.timeout(self._node.settings.drain_timeout):
                    await self._emptied.wait()
            except TimeoutError:
                _log.warning("connections cut off", count=len(self._connections))
        self.abort()

    def abort(self) -> None:
        """At once, as a crash would."""
        for server in (self._server, self._tls):
            if server is not None:
                server.close()
        for connection in list(self._connections):
            connection.abort("stopped")
