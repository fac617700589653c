"""A client behind a WebSocket: by shape an asyncio Protocol towards the socket and a Transport towards the client.

    HTTP upgrade (with a deadline) ──▶ frames ──▶ Client

The client is made and admitted when the upgrade is whole. Every write of the broker is one binary frame.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ..client import Client
from ..transport import Transport
from .door import Visitor
from .frames import CloseCode, Unframer, close_frame, frame
from .outstanding import Connected, unacknowledged
from .upgrade import BadHandshake, Upgrade

# Pongs and other bytes that a client has not read; a flood of pings ends here.
UNREAD_BYTES_MAX = 65_536
# How long the last words may take to be read.
LINGER_S = 5.0


class Wire(Transport, Connected, Protocol):
    """What carries the frames: a connection of `edge/sockets`, or TLS."""


class WebSocket:
    """`admitted(self)` makes the client; until then `visitor` is only at the door."""

    __slots__ = (
        "_client",
        "_closing",
        "_deadline",
        "_make_client",
        "_timeout_s",
        "_transport",
        "_unframer",
        "_upgrade",
        "in_rounds",
        "visitor",
    )

    def __init__(self, visitor: Visitor, make_client: Callable[[Visitor], Client]) -> None:
        settings = visitor.door.settings
        self.visitor = visitor
        self._make_client = make_client
        self._upgrade: Upgrade | None = Upgrade(
            settings.path, settings.origins, is_local=settings.is_local
        )
        self._timeout_s = float(settings.handshake_timeout)
        self.in_rounds = False  # the broker is told once for many reads
        self._unframer = Unframer()
        self._client: Client | None = None
        self._transport: Wire | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._closing = False

    # --- called by the transport ------------------------------------------------------------------------------------

    def connection_made(self, transport: Wire) -> None:
        self._transport = transport
        self._deadline = asyncio.get_running_loop().call_later(self._timeout_s, self._too_slow)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if self._upgrade is not None:
            data = self._shake_hands(data)
            if self._upgrade is not None or not data:
                return
        payload = self._unframer.feed(data)
        self._answer()
        if payload and self._client is not None:
            self._client.data_received(payload)
        if self._unframer.end is not None:
            self._close_with(self._unframer.end.answer)

    def eof_received(self) -> bool:
        if self._client is not None:
            return self._client.eof_received()
        return False

    def connection_lost(self, error: BaseException | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        client, self._client = self._client, None
        if client is not None:
            client.connection_lost(error)
        elif self._upgrade is not None:
            self.visitor.door.left(self.visitor)
        self._upgrade = None

    def pause_writing(self) -> None:
        if self._client is not None:
            self._client.pause_writing()

    def resume_writing(self) -> None:
        if self._client is not None:
            self._client.resume_writing()

    # --- called by the client ---------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        assert self._transport is not None
        if not self._closing:
            self._transport.write(frame(data))

    def close(self) -> None:
        self._close_with(close_frame(CloseCode.NORMAL))

    def abort(self) -> None:
        assert self._transport is not None
        self._closing = True
        self._transport.abort()

    def reset(self) -> None:
        assert self._transport is not None
        self._closing = True
        self._transport.reset()

    def pause_reading(self) -> None:
        assert self._transport is not None
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        assert self._transport is not None
        if not self._closing:
            self._transport.resume_reading()

    def get_write_buffer_size(self) -> int:
        assert self._transport is not None
        return self._transport.get_write_buffer_size()

    # --- inside -----------------------------------------------------------------------------------------------

    def _shake_hands(self, data: bytes) -> bytes:
        """What came after the request; `_upgrade` is None when it was whole."""
        assert self._upgrade is not None
        assert self._transport is not None
        try:
            done = self._upgrade.feed(data)
        except BadHandshake as error:
            self.visitor.door.turn_away(self.visitor.address, f"websocket: {error}")
            self._close_with(error.answer)
            return b""
        if done is None:
            return b""
        answer, rest = done
        self._transport.write(answer)
        self._upgrade = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._client = self._make_client(self.visitor)
        self._client.in_rounds = self.in_rounds
        self._client.unacknowledged = unacknowledged(self._transport)
        transport: Transport = self
        self._client.connection_made(transport)
        return rest

    def _answer(self) -> None:
        answers = self._unframer.answers
        if answers and self._transport is not None:
            if self._transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
                self.abort()  # it pings and does not read
            elif not self._closing:
                self._transport.write(b"".join(answers))
            answers.clear()

    def _close_with(self, last: bytes) -> None:
        if self._closing or self._transport is None:
            return
        self._closing = True
        self._transport.write(last)
        linger = getattr(self._transport, "linger", None)
        if linger is not None:
            linger()
        self._transport.close()
        if self._deadline is not None:
            self._deadline.cancel()
        # what it does not read in time it does not get
        self._deadline = asyncio.get_running_loop().call_later(LINGER_S, self._transport.reset)

    def _too_slow(self) -> None:
        self._deadline = None
        if self._upgrade is not None:
            self.visitor.door.turn_away(self.visitor.address, "websocket: no request in time")
            self.abort()
