"""All listeners of an edge: bound, opened, reloaded, closed. The asyncio rim of the broker, with its ticks.

Reloading has two halves, so that a wrong file changes nothing: `prepare` reads certificates, `apply` puts limits and
certificates in force for those who come from now on. Addresses and kinds stay until the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from ....core.address import split_address
from ....core.errors import Refused, Unavailable
from ...sockets.accepting import Acceptor, bind
from ...sockets.sockets import Sockets
from ..broker import Broker
from ..lifetimes import TICK_S
from .door import Door, TurnedAway
from .opening import Opening
from .overtls import TlsWires
from .settings import UNIX, ListenerSettings, key_of
from .unixpath import bind_unix

if TYPE_CHECKING:
    import ssl

# Connections the kernel holds for us while the loop is busy: a site that comes back after a power cut.
BACKLOG = 1024

_log = structlog.get_logger("edge.mqtt")
Contexts = dict[str, "ssl.SSLContext"]


class Listener:
    """One of them: a door and the sockets that lead to it."""

    def __init__(self, door: Door, opening: Opening) -> None:
        self.door = door
        self.opening = opening
        self.acceptors: list[Acceptor] = []

    @property
    def address(self) -> tuple[str, int]:
        """Where it really listens (port 0 asks the kernel for one); of a unix socket its path and 0."""
        settings = self.door.settings
        if settings.address.startswith(UNIX):
            return settings.address.removeprefix(UNIX), 0
        return self.acceptors[0].address


class Listeners:
    def __init__(
        self,
        broker: Broker,
        settings: Sequence[ListenerSettings],
        *,
        turned_away: TurnedAway | None = None,
    ) -> None:
        self._broker = broker
        self._settings = settings
        self._turned_away = turned_away
        self.sockets: Sockets | None = None
        self._ticker: asyncio.Task[None] | None = None
        self.all: list[Listener] = []

    @property
    def address(self) -> tuple[str, int]:
        """Of the first."""
        return self.all[0].address

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [listener.address for listener in self.all]

    async def start(self) -> None:
        """Raises Refused (no such address, a wrong certificate), Unavailable (port in use, not allowed)."""
        contexts = prepare(self._settings)
        committer = self._broker.committer
        self.sockets = Sockets(
            asyncio.get_running_loop(), self._broker.received, lambda: committer.gathering
        )
        wires = TlsWires()
        self._broker.unsent.attach(self.sockets, wires)
        self._broker.turns.soon = asyncio.get_running_loop().call_soon
        for settings in self._settings:
            door = Door(settings, self._broker.clock, self._turned_away)
            opening = Opening(self._broker, door, self.sockets, wires, self._crowd)
            opening.context = contexts.get(settings.label)
            listener = Listener(door, opening)
            try:
                for sock in await _bind(settings.address):
                    listener.acceptors.append(Acceptor(sock, opening.take, refused=_short))
            except OSError as error:
                raise _listening_error(settings.address, error) from error
            self.all.append(listener)
        self._ticker = asyncio.create_task(self._tick(), name="mqtt ticks")

    def apply(self, settings: Sequence[ListenerSettings], contexts: Contexts) -> None:
        """What `prepare` made ready: listeners are known by their name; what is new or gone waits for a restart."""
        known = {listener.door.label: listener for listener in self.all}
        for each in settings:
            listener = known.get(each.label)
            if listener is not None:
                listener.door.change(each)
                listener.opening.context = contexts.get(each.label, listener.opening.context)

    def _crowd(self) -> int:
        return sum(listener.door.open for listener in self.all)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._broker.tick()

    async def stop_accepting(self) -> None:
        for listener in self.all:
            for acceptor in listener.acceptors:
                acceptor.close()
            await listener.opening.close()

    async def close(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticker
            self._ticker = None
        if self.sockets is not None:
            self.sockets.close()
            self.sockets = None


def prepare(settings: Sequence[ListenerSettings]) -> Contexts:
    """The TLS contexts by listener, made from the files as they are now. Raises Misconfigured."""
    contexts: Contexts = {}
    for each in settings:
        if each.tls is not None:
            from .tls import make_context

            contexts[each.label] = make_context(each.tls, key=key_of(each))
    return contexts


async def _bind(address: str) -> list[socket.socket]:
    if address.startswith(UNIX):
        return [bind_unix(address.removeprefix(UNIX), backlog=BACKLOG)]
    host, port = split_address(address, key="edge.listeners.address")
    return await bind(host, port, backlog=BACKLOG)


def _short(error: OSError) -> None:
    _log.warning("no more connections can be accepted for now", reason=error.strerror)


def _listening_error(where: str, error: OSError) -> Refused | Unavailable:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return Refused(f"cannot listen on {where}: no such address on this machine")
    if error.errno == errno.EADDRINUSE:
        port = where.rpartition(":")[2]
        return Unavailable(
            f"cannot listen on {where}: the port is in use", hint=f"ss -ltnp 'sport = :{port}'"
        )
    if error.errno == errno.EACCES:
        return Unavailable(f"cannot listen on {where}: ports below 1024 need privileges")
    return Unavailable(f"cannot listen on {where}: {error.strerror or error}")
