"""Connections over TLS: their transports are asyncio's, and what lies unsent is counted as `edge/sockets` counts its own.

Such a transport tells nobody what it holds; it pauses and resumes its protocol at a mark. So each write looks at what is
held after it, and sets the mark at this connection's part (broker/unsent.py has the rule). What the peer takes meanwhile is
seen at the next look: of the next write, or of all that held something (`look`), once a second and before one is cut off.

Below what a transport counts lies what it has encrypted, 64 KiB and one write at most: taken to be full where there is
anything above it, and not seen where there is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from ...sockets._epoll_py import SHARE
from ...sockets.lingering import forget_unsent
from ..client import Client
from .door import Visitor
from .outstanding import unacknowledged

if TYPE_CHECKING:
    from .websocket import WebSocket

# The high mark of the socket below (libuv's and asyncio's alike).
ENCRYPTED_BYTES = 64 * 1024
# A part is no smaller: a TLS record.
PART_BYTES_MIN = 16 * 1024


class TlsWires:
    """All connections over TLS of an edge."""

    def __init__(self) -> None:
        self.unsent = 0
        self.share = SHARE
        self.laden: set[TlsWire] = set()

    def look(self) -> None:
        for wire in tuple(self.laden):
            wire.look()


class TlsWire:
    """A transport, with what it holds counted."""

    __slots__ = (
        "_held", "_limit", "_mark", "_transport", "_wires",
        "close", "get_extra_info", "pause_reading", "resume_reading",
    )  # fmt: skip

    def __init__(self, wires: TlsWires, transport: asyncio.Transport, limit: int) -> None:
        self._wires = wires
        self._transport: asyncio.Transport | None = transport
        self._limit = limit
        self._mark = limit
        self._held = 0
        transport.set_write_buffer_limits(high=limit)
        self.close = transport.close
        self.get_extra_info = transport.get_extra_info
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
            self.look()

    def get_write_buffer_size(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def look(self) -> None:
        held = self.get_write_buffer_size()
        if held:
            held += ENCRYPTED_BYTES
        elif not self._held:
            return
        wires = self._wires
        wires.unsent += held - self._held
        self._held = held
        if not held:
            wires.laden.discard(self)
            return
        wires.laden.add(self)
        part = max(PART_BYTES_MIN, min(self._limit, wires.share // len(wires.laden)))
        # it pauses or resumes at once where that is called for, so not for every one that comes or goes
        if self._transport is not None and not part <= self._mark <= part + part // 4:
            self._mark = part
            self._transport.set_write_buffer_limits(high=part)

    def abort(self) -> None:
        """`connection_lost` follows."""
        if self._transport is not None:
            self._transport.abort()
            self.gone()

    def reset(self) -> None:
        sock = self.get_extra_info("socket")
        if sock is not None:
            forget_unsent(sock)
        self.abort()

    def gone(self) -> None:
        self._transport = None
        self.look()


class OverTls:
    """Between TLS and the client, or its WebSocket, which is made when hands were shaken. By shape an asyncio Protocol; what
    that is asked often is the other's own from then on."""

    def __init__(
        self,
        make: Callable[[Visitor], Client | WebSocket],
        visitor: Visitor,
        *,
        wires: TlsWires,
        limit: int,
    ) -> None:
        self._make = make
        self._visitor = visitor
        self._wires = wires
        self._limit = limit
        self._wire: TlsWire | None = None
        self._made: Client | WebSocket | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        from .tls import learn_subject

        learn_subject(transport, self._visitor)
        wire = self._wire = TlsWire(self._wires, transport, self._limit)
        made = self._made = self._make(self._visitor)
        if isinstance(made, Client):
            made.unacknowledged = unacknowledged(wire)
        self.data_received = made.data_received
        self.eof_received = made.eof_received
        self.pause_writing = made.pause_writing
        self.resume_writing = made.resume_writing
        made.connection_made(wire)

    def connection_lost(self, error: BaseException | None) -> None:
        if self._wire is not None:
            self._wire.gone()
        if self._made is not None:
            self._made.connection_lost(error)
        else:  # nothing could be made
            self._visitor.door.left(self._visitor)


def over_tls(
    make: Callable[[Visitor], Client | WebSocket], visitor: Visitor, wires: TlsWires, limit: int
) -> asyncio.Protocol:
    """`limit`: of what one holds unsent."""
    return cast("asyncio.Protocol", OverTls(make, visitor, wires=wires, limit=limit))
