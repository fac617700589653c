"""The asyncio rim of the broker: TCP sockets in, ticks in, log lines out."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import cast

import structlog

from ...core.errors import Refused, Unavailable
from ..mqtt.packets import Connect
from .broker import Broker
from .client import Client
from .lifetimes import TICK_S
from .peer import Peer

# Connections the kernel holds for us while the loop is busy: a site that comes back after a power cut.
BACKLOG = 1024


class LogObserver:
    """Connections in the log: one line for each coming and going."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("edge.mqtt")

    def connected(self, client: Client, packet: Connect) -> None:
        self._log.debug("client connected", client=client.client_id, version=int(packet.version))

    def disconnected(self, client: Peer, why: str) -> None:
        self._log.debug("client gone", client=client.client_id, why=why)

    def crashed(self, client: Client, error: Exception) -> None:
        self._log.error(
            "client closed for an internal error", client=client.client_id, exc_info=error
        )


class MqttListener:
    def __init__(self, broker: Broker, *, host: str, port: int) -> None:
        self._broker = broker
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.Task[None] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it really listens (port 0 asks the kernel for one)."""
        assert self._server is not None
        name = self._server.sockets[0].getsockname()
        return str(name[0]), int(name[1])

    async def start(self) -> None:
        """Raises Refused (no such address), Unavailable (port in use, not allowed)."""
        loop = asyncio.get_running_loop()

        def connection() -> asyncio.Protocol:
            return cast("asyncio.Protocol", _Socket(self._broker))

        try:
            self._server = await loop.create_server(
                connection, self._host, self._port, backlog=BACKLOG
            )
        except OSError as error:
            raise _listening_error(self._host, self._port, error) from error
        self._ticker = asyncio.create_task(self._tick(), name="mqtt ticks")

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._broker.tick()

    async def stop_accepting(self) -> None:
        if self._server is not None:
            self._server.close()

    async def close(self) -> None:
        await self.stop_accepting()
        if self._ticker is not None:
            self._ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticker
            self._ticker = None


class _Socket(Client):
    """A client on a real socket: bounds what the transport buffers for it, and lets TCP find the dead."""

    __slots__ = ()

    def connection_made(self, transport: object) -> None:
        real = cast("asyncio.Transport", transport)
        real.set_write_buffer_limits(high=self._broker.settings.write_buffer_max)
        sock = real.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        super().connection_made(real)


def _listening_error(host: str, port: int, error: OSError) -> Refused | Unavailable:
    where = f"{host}:{port}"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return Refused(f"cannot listen on {where}: no such address on this machine")
    if error.errno == errno.EADDRINUSE:
        return Unavailable(
            f"cannot listen on {where}: the port is in use", hint=f"ss -ltnp 'sport = :{port}'"
        )
    if error.errno == errno.EACCES:
        return Unavailable(f"cannot listen on {where}: ports below 1024 need privileges")
    return Unavailable(f"cannot listen on {where}: {error.strerror or error}")
