"""Listening sockets: bound, watched by the loop, and every connection handed on.

When the process is out of file descriptors nobody is accepted for `PAUSE_S` (the newcomers wait in the kernel's queue), as
asyncio does; the error is told once for each such pause.

What every connection is to have is set on the socket that listens, and inherited (tcp(7)): nothing a connection. Among it
how much the kernel takes of what a peer does not read, since its own limit is for a server of files: 4 MiB each
(net.ipv4.tcp_wmem), 760 MiB for two hundred subscribers that read nothing, and past net.ipv4.tcp_mem the whole machine's
connections are slow. What is on its way to a peer that reads does not count, so a long fast link is filled all the same.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

# A round of accepting; a site that comes back after a power cut is a thousand at once.
ACCEPTS_MAX = 128
PAUSE_S = 1.0
# Bytes the kernel holds of what was never sent; it asks for more below half of it.
NOTSENT_BYTES = 128 * 1024
_SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


async def bind(host: str, port: int, *, backlog: int) -> list[socket.socket]:
    """A listening socket for each address of `host`. Raises OSError (socket.gaierror where there is none)."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listening: list[socket.socket] = []
    try:
        for family, kind, protocol, _, wanted in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            listening.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_BYTES)
            # port 0: the kernel chooses, once for all addresses
            chosen = listening[0].getsockname()[1] if len(listening) > 1 else port
            sock.bind((wanted[0], chosen, *wanted[2:]))
            sock.setblocking(False)
            sock.listen(backlog)
    except OSError:
        for sock in listening:
            sock.close()
        raise
    return listening


class Acceptor:
    """`take(socket)` for every connection; `refused(error)` when none can be accepted for a while."""

    def __init__(
        self,
        listening: socket.socket,
        take: Callable[[socket.socket], None],
        *,
        refused: Callable[[OSError], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._take = take
        self._refused = refused
        self._timer: asyncio.TimerHandle | None = None
        self._watch()

    @property
    def address(self) -> tuple[str, int]:
        name = self._listening.getsockname()
        return str(name[0]), int(name[1])

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening)
        self._listening.close()

    def _watch(self) -> None:
        self._timer = None
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_MAX):
            try:
                sock, _address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _SHORT:
                    raise
                self._loop.remove_reader(self._listening)
                self._timer = self._loop.call_later(PAUSE_S, self._watch)
                self._refused(error)
                return
            self._take(sock)
