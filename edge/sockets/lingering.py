"""The end of a connection that we end: who is told why gets to read it.

A socket closed with bytes unread, or that more come to, answers with a reset, and a client in the middle of sending a large
packet then learns "connection reset" from its own send and never reads our DISCONNECT (RFC 9112 9.6 has the same for HTTP;
RFC 1122 4.2.2.13 the reset). So such a socket is kept for a while: half closed (the client reads what we said, then the
end), and what it sends is thrown away, until it ends too.

Bounded: `HELD_MAX` sockets at once (beyond it one is just closed), `LINGER_S` and `LINGER_BYTES` for each, one read a turn
of the loop into one buffer. What is thrown away was never acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Any

HELD_MAX = 64
LINGER_S = 2.0
LINGER_BYTES = 16 * 1024 * 1024
READ_BYTES = 64 * 1024
_AT_ONCE = struct.pack("ii", 1, 0)


def forget_unsent(sock: Any) -> None:
    """Closing `sock` (or what asyncio shows of one) resets it: the kernel keeps nothing for a peer that reads nothing."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)


class Lingering:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._left: dict[socket.socket, tuple[int, asyncio.TimerHandle]] = {}
        self._buffer = bytearray(READ_BYTES)

    def __len__(self) -> int:
        return len(self._left)

    def take(self, sock: socket.socket) -> None:
        """All was sent to `sock`, which is about to be closed: a second handle of it lives on here."""
        if len(self._left) >= HELD_MAX:
            return
        try:
            own = sock.dup()
        except OSError:  # no more files: it is just closed
            return
        try:
            own.shutdown(socket.SHUT_WR)
        except OSError:  # broken already
            own.close()
            return
        timer = self._loop.call_later(LINGER_S, self._let_go, own)
        self._left[own] = (LINGER_BYTES, timer)
        self._loop.add_reader(own, self._read, own)

    def close(self) -> None:
        for own in tuple(self._left):
            self._let_go(own)

    def _read(self, own: socket.socket) -> None:
        size = 0  # its end, or a broken connection
        with contextlib.suppress(OSError):
            try:
                size = own.recv_into(self._buffer)
            except (BlockingIOError, InterruptedError):
                return
        left, timer = self._left[own]
        if size == 0 or size >= left:
            self._let_go(own)
        else:
            self._left[own] = (left - size, timer)

    def _let_go(self, own: socket.socket) -> None:
        _, timer = self._left.pop(own)
        timer.cancel()
        self._loop.remove_reader(own)
        own.close()
