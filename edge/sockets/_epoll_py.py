"""Connections on one epoll, in pure Python: the twin of `_epoll.pyx`, under the same tests.

`Sockets` is registered in the loop as one reader. `Connection` has asyncio.Transport's shape as far as a broker uses it.

A connection's life: OPEN → (close: CLOSING until what was written is sent) → GONE. Its file descriptor leaves the epoll
and the table at the same moment, so an event can never reach a later connection with the same number: sockets are adopted
between rounds only, by the acceptor's callback. What fails in `send` or `recv` ends the connection; the protocol is told
once, by `connection_lost`, from the loop.

Moderation: with a hundred clients that each wait for their answer, a wake for every few of their messages costs more than
reading them. While `patient` says that nobody is in a hurry (the committer waits for company) a round begins with
`PAUSE_S`, as a network card moderates its interrupts, if the last one heard several: where one client sends all, there is
nobody to wait for.

What was written and not sent is memory that the peers decide about, so all of it is counted (`unsent`), and while many
connections are laden with some, each may hold less before it is told to pause: its equal part of `share`.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from typing import Protocol

from .lingering import Lingering, forget_unsent

# Of one read: more than a round trip's worth on any link a sensor has, and reused for all connections.
RECV_BYTES = 65_536
# Of all reads of one round, however many have something to be read ...
ROUND_BYTES = 1 << 20
# ... but of each no less than this: a reading.
READ_BYTES_MIN = 4096
# Of all that is unsent, what is shared out among those laden with it, where nobody says otherwise.
SHARE = 1 << 40
# Of one round, so that the disk's news and timers are not kept waiting.
EVENTS_MAX = 256
# Linux adds its timer slack, 50 us: well below a sync of any flash.
PAUSE_S = 50e-6
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_BROKEN = select.EPOLLERR | select.EPOLLHUP


class StreamProtocol(Protocol):
    """asyncio.Protocol, as far as it is used."""

    def data_received(self, data: bytes, /) -> None: ...
    def eof_received(self) -> bool | None: ...
    def connection_lost(self, error: Exception | None, /) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Sockets:
    """All plain connections of one loop. `on_round` is called when every readable one has been heard."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_round: Callable[[], None] | None = None,
        patient: Callable[[], bool] | None = None,
    ) -> None:
        self._loop = loop
        self._patient = patient
        self._heard = 0  # connections, in the last round
        self._on_round = on_round
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._buffer = bytearray(RECV_BYTES)
        self._view = memoryview(self._buffer)
        self.read_bytes = RECV_BYTES  # of one read, at most RECV_BYTES
        self._limit = RECV_BYTES  # the same, in this round
        self.share = SHARE
        self.unsent = 0  # bytes, of all connections
        self.laden = 0  # connections that have some
        self.lingering = Lingering(loop)
        loop.add_reader(self._epoll.fileno(), self._round)

    def __len__(self) -> int:
        return len(self._connections)

    def adopt(
        self, sock: socket.socket, protocol: StreamProtocol, *, write_buffer_max: int
    ) -> Connection:
        """Take over a connected socket. `pause_writing` is called above `write_buffer_max` unsent bytes, or its part of
        `share`."""
        sock.setblocking(False)
        connection = Connection(self, sock, protocol, write_buffer_max)
        self._connections[sock.fileno()] = connection
        self._epoll.register(sock.fileno(), _IN)
        return connection

    def close(self) -> None:
        """Every connection is aborted; none is adopted any more."""
        for connection in tuple(self._connections.values()):
            connection.abort()
        self.lingering.close()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _round(self) -> None:
        connections = self._connections
        if self._heard > 1 and self._patient is not None and self._patient():
            select.select((), (), (), PAUSE_S)
        ready = self._epoll.poll(0, EVENTS_MAX)
        self._heard = len(ready)
        self._limit = min(self.read_bytes, max(READ_BYTES_MIN, ROUND_BYTES // (self._heard or 1)))
        for fd, events in ready:
            connection = connections.get(fd)
            if connection is not None:  # else it was closed within this round
                connection.handle(events)
        if self._on_round is not None:
            self._on_round()

    def watch(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def drop(self, fd: int) -> None:
        del self._connections[fd]
        self._epoll.unregister(fd)

    def recv(self, sock: socket.socket) -> bytes:
        return bytes(self._view[: sock.recv_into(self._buffer, self._limit)])

    def soon(self, callback: Callable[..., None], *arguments: object) -> None:
        self._loop.call_soon(callback, *arguments)


class Connection:
    __slots__ = (
        "_closing",
        "_events",
        "_fd",
        "_full",
        "_high",
        "_owner",
        "_protocol",
        "_reading",
        "_socket",
        "_unsent",
        "ending",
    )

    def __init__(
        self, owner: Sockets, sock: socket.socket, protocol: StreamProtocol, high: int
    ) -> None:
        self._owner = owner
        self._socket: socket.socket | None = sock
        self._fd = sock.fileno()
        self._protocol = protocol
        self._high = high
        self._events = _IN
        self._reading = True
        self._closing = False
        self._full = False
        self._unsent = bytearray()
        self.ending: Callable[[], None] | None = (
            None  # the socket can still be asked, for the last time
        )

    # --- asyncio.Transport ------------------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: object = None) -> object:
        sock = self._socket
        if sock is None:
            return default
        if name == "socket":
            return sock
        try:
            if name == "peername":
                return sock.getpeername()
            if name == "sockname":
                return sock.getsockname()
        except OSError:
            pass
        return default

    def is_closing(self) -> bool:
        return self._closing or self._socket is None

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def write(self, data: bytes) -> None:
        """Sent at once as far as the kernel takes it, the rest when it can. Nothing after `close`."""
        if self._socket is None or self._closing:
            return
        owner = self._owner
        if self._unsent:
            self._unsent += data
            owner.unsent += len(data)
        else:
            sent = self._send(data)
            if sent == len(data) or sent < 0:
                return
            self._unsent += data[sent:]
            owner.unsent += len(data) - sent
            owner.laden += 1
            self._watch()
        if not self._full and len(self._unsent) > min(self._high, owner.share // owner.laden):
            self._full = True
            self._protocol.pause_writing()

    def pause_reading(self) -> None:
        self._reading = False
        self._watch()

    def resume_reading(self) -> None:
        self._reading = True
        self._watch()

    def linger(self) -> None:
        """Before `close`, where the other side was told why: it gets to read that (lingering.py)."""
        if self._socket is not None and not self._closing and not self._unsent:
            self._owner.lingering.take(self._socket)

    def close(self) -> None:
        """Read no more; send what was written, then end."""
        if self._socket is None or self._closing:
            return
        self._closing = True
        if self._unsent:
            self._watch()
        else:
            self._end(None)

    def abort(self) -> None:
        self._end(None)

    def reset(self) -> None:
        if self._socket is not None:
            forget_unsent(self._socket)
        self._end(None)

    # --- events -----------------------------------------------------------------------------------------------

    def handle(self, events: int) -> None:
        if events & _OUT and self._unsent:
            self._flush()
        if self._socket is None:
            return
        if self._reading and not self._closing:
            if events & (_IN | _BROKEN):
                self._read()
        elif events & _BROKEN:
            self._end(None)  # nothing can be sent any more, and nothing is wanted

    def _read(self) -> None:
        assert self._socket is not None
        try:
            data = self._owner.recv(self._socket)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error)
            return
        if data:
            self._protocol.data_received(data)
        elif not self._protocol.eof_received():
            self.close()

    def _send(self, data: bytes | bytearray) -> int:
        """Bytes taken by the kernel; -1 where the connection is broken."""
        assert self._socket is not None
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self._end(error)
            return -1

    def _flush(self) -> None:
        sent = self._send(self._unsent)
        if sent < 0:
            return
        owner = self._owner
        del self._unsent[:sent]
        owner.unsent -= sent
        high = min(self._high, owner.share // owner.laden)
        if not self._unsent:
            owner.laden -= 1
            if self._closing:
                self._end(None)
                return
            self._watch()
        if self._full and len(self._unsent) <= high // 4:
            self._full = False
            self._protocol.resume_writing()

    def _watch(self) -> None:
        if self._socket is None:
            return
        events = (_IN if self._reading and not self._closing else 0) | (_OUT if self._unsent else 0)
        if events != self._events:
            self._events = events
            self._owner.watch(self._fd, events)

    def _end(self, error: Exception | None) -> None:
        sock = self._socket
        if sock is None:
            return
        if self.ending is not None:
            self.ending()
        self._socket = None
        self._owner.drop(self._fd)
        if self._unsent:
            self._owner.unsent -= len(self._unsent)
            self._owner.laden -= 1
            self._unsent = bytearray()
        sock.close()
        self._owner.soon(self._protocol.connection_lost, error)
