"""One Kafka connection: frames in, requests to their handlers, answers out in the order of the requests.

Requests are read ahead: while one waits for its object in the store, those behind it are taken too and go into the same
object. Answers leave in order, each as soon as it and all before it are known.

Reading stops, and with it the client, while any of these holds:
  * as many requests are under way as the setting allows, or as many bytes
  * the node holds as many produced bytes as it may, and the next request is a Produce
  * the next request is a Fetch and one is under way: else one client could hold all the memory for answers
  * the client does not take its answers
A client that takes nothing for `send_timeout` is cut off, since its answers hold memory that others wait for.

What ends a connection: a frame above the limit (before it is allocated), a header or body that does not decode, an API or
version that was not advertised, an error of ours. Each is counted by its reason; the node lives on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import structlog

from ...core.errors import HeadwaterError, Refused
from ...core.kafka.frames import FrameReader, UnsupportedVersion, decode_request, response_parts
from ...core.kafka.messages import ApiVersionsRequest, FetchRequest, ProduceRequest
from ...core.kafka.primitives import Buffer
from ...core.kafka.schema import Message
from .answer import Answer, Sent
from .dispatch import HANDLERS, api_name
from .handlers import api_versions
from .node import Asker, Node

if TYPE_CHECKING:
    from .listener import Listener

_log = structlog.get_logger()

_PRODUCE_KEY = ProduceRequest.KEY.to_bytes(2, "big")
_FETCH_KEY = FetchRequest.KEY.to_bytes(2, "big")


class _Slot:
    """One request's place in the order of answers."""

    __slots__ = ("correlation_id", "done", "kind", "parts", "size", "started", "version")

    def __init__(
        self, kind: type[Message], version: int, correlation_id: int, *, size: int, started: float
    ) -> None:
        self.kind = kind
        self.version = version
        self.correlation_id = correlation_id
        self.size = size
        self.started = started
        self.parts: list[Buffer] | None = None
        self.done: Callable[[], None] | None = None


class Connection(asyncio.Protocol):
    def __init__(self, node: Node, listener: Listener) -> None:
        self._node = node
        self._settings = node.settings
        self._listener = listener
        self._reader = FrameReader(node.settings.request_bytes_max)
        self._frames: deque[bytes] = deque()
        self._slots: deque[_Slot] = deque()
        self._tasks: set[asyncio.Task[Message | Sent | None]] = set()
        self._unsent: list[Callable[[], None]] = []
        self._transport: asyncio.Transport | None = None
        self._host = ""
        self._is_tls = False
        self._bytes = 0
        self._reading = True
        self._writable = True
        self._draining = False
        self._flush_is_due = False
        self._waits_for_budget = False
        self._stuck: asyncio.TimerHandle | None = None
        self._last_at = node.clock.monotonic()
        self._reason = "client"

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by shape alone
        peer = transport.get_extra_info("peername")
        self._host = str(peer[0]) if isinstance(peer, tuple) else ""
        self._is_tls = transport.get_extra_info("ssl_object") is not None
        self._listener.joined(self)

    def data_received(self, data: bytes) -> None:
        self._last_at = self._node.clock.monotonic()
        try:
            self._frames.extend(self._reader.receive(data))
        except Refused as error:
            self._end("oversized", error)
            return
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._frames.clear()
        for task in self._tasks:
            task.cancel()
        if self._stuck is not None:
            self._stuck.cancel()
        for slot in self._slots:
            if slot.done is not None:
                slot.done()
        self._slots.clear()
        self._release_unsent()
        self._listener.left(self, self._reason)

    def pause_writing(self) -> None:
        self._writable = False
        self._watch_sending()

    def resume_writing(self) -> None:
        self._writable = True
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
        self._release_unsent()
        self._advance()

    # -- what the listener asks

    def is_idle(self, now: float) -> bool:
        return not self._slots and now - self._last_at >= self._settings.idle_timeout

    def drain(self) -> None:
        """Take nothing more; close when what is under way is answered."""
        self._draining = True
        self._frames.clear()
        self._flush()

    def close(self, reason: str) -> None:
        if self._transport is not None:
            self._reason = reason
            self._transport.close()

    def abort(self, reason: str) -> None:
        if self._transport is not None:
            self._reason = reason
            self._transport.abort()

    # -- requests

    def _advance(self) -> None:
        """Take what may be taken, and let the client send only if everything was."""
        while self._frames and self._transport is not None and self._has_room():
            self._take(self._frames.popleft())
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        should_read = not self._frames and self._writable and not self._draining
        if should_read != self._reading:
            self._reading = should_read
            if should_read:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def _has_room(self) -> bool:
        settings = self._settings
        if (
            self._draining
            or not self._writable
            or len(self._slots) >= settings.requests_in_flight_max
            or (self._slots and self._bytes >= settings.connection_bytes_in_flight_max)
        ):
            return False
        if self._frames[0].startswith(_FETCH_KEY) and any(
            slot.kind is FetchRequest for slot in self._slots
        ):
            return False
        if self._node.produce_budget.full and self._frames[0].startswith(_PRODUCE_KEY):
            if not self._waits_for_budget:
                self._waits_for_budget = True
                self._node.produce_budget.call_when_free(self._budget_freed)
            return False
        return True

    def _budget_freed(self) -> None:
        self._waits_for_budget = False
        self._advance()

    def _take(self, frame: bytes) -> None:
        try:
            header, request = decode_request(frame)
        except UnsupportedVersion as error:
            if error.header.api_key == ApiVersionsRequest.KEY:
                slot = self._slot(ApiVersionsRequest, 0, error.header.correlation_id, len(frame))
                self._complete(slot, api_versions.unsupported())
            else:
                self._end("unsupported", error)
            return
        except Refused as error:
            self._end("malformed", error)
            return
        kind = type(request)
        asker = Asker(header.client_id or "", self._host, header.api_version, self._is_tls)
        self._node.metrics.taken(api_name(kind))
        try:
            answer = HANDLERS[kind](self._node, asker, request)
        except Exception:
            self._broken(kind)
            return
        if answer is not None:
            slot = self._slot(kind, header.api_version, header.correlation_id, len(frame))
            self._expect(slot, answer)

    def _slot(self, kind: type[Message], version: int, correlation_id: int, size: int) -> _Slot:
        slot = _Slot(kind, version, correlation_id, size=size, started=self._node.clock.monotonic())
        self._slots.append(slot)
        self._bytes += size
        return slot

    def _expect(self, slot: _Slot, answer: Answer) -> None:
        if isinstance(answer, Message):
            self._complete(slot, answer)
        elif isinstance(answer, asyncio.Future):
            answer.add_done_callback(lambda done: self._complete(slot, done.result()))
        elif answer is not None:
            task = asyncio.get_running_loop().create_task(answer)
            if (
                slot.kind is FetchRequest
            ):  # reading for a client that left is of no use; changes are carried out
                self._tasks.add(task)
            task.add_done_callback(lambda done: self._finished(slot, done))

    def _finished(self, slot: _Slot, task: asyncio.Task[Message | Sent | None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._broken(slot.kind, error)
            return
        answer = task.result()
        if isinstance(answer, Sent):
            if self._transport is None:
                answer.done()
                return
            slot.done = answer.done
            answer = answer.message
        assert answer is not None
        self._complete(slot, answer)

    # -- answers

    def _complete(self, slot: _Slot, message: Message) -> None:
        if self._transport is None:
            return
        try:
            slot.parts = response_parts(message, slot.version, correlation_id=slot.correlation_id)
        except HeadwaterError as error:
            self._broken(slot.kind, error)
            return
        self._bytes -= slot.size
        waited = self._node.clock.monotonic() - slot.started
        self._node.metrics.answered(api_name(slot.kind), waited)
        if self._slots[0] is slot and not self._flush_is_due:
            # once a turn: an object that becomes durable completes many requests of a connection at once
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush_and_advance)

    def _flush_and_advance(self) -> None:
        self._flush_is_due = False
        self._flush()
        if self._frames or not self._reading:
            self._advance()

    def _flush(self) -> None:
        """Write the answers that are known, up to the first that is not."""
        transport = self._transport
        if transport is None:
            return
        out: list[Buffer] = []
        while self._slots and self._slots[0].parts is not None:
            slot = self._slots.popleft()
            assert slot.parts is not None
            out += slot.parts
            if slot.done is not None:
                self._unsent.append(slot.done)
        if out:
            transport.writelines(out)
        if self._unsent:
            asyncio.get_running_loop().call_soon(self._maybe_sent)
        if self._draining and not self._slots:
            self.close("drained")

    def _maybe_sent(self) -> None:
        """What the socket has not taken by now is in the transport's buffer, and pause_writing has said so."""
        if self._writable:
            self._release_unsent()

    def _release_unsent(self) -> None:
        unsent, self._unsent = self._unsent, []
        for done in unsent:
            done()

    def _watch_sending(self, before: int | None = None) -> None:
        """Cut off a client that took nothing since the last look."""
        transport = self._transport
        if transport is None or self._writable:
            return
        left = transport.get_write_buffer_size()
        if before is not None and left >= before:
            self.abort("slow")
            return
        loop = asyncio.get_running_loop()
        self._stuck = loop.call_later(self._settings.send_timeout, self._watch_sending, left)

    # -- ends

    def _end(self, reason: str, error: Refused) -> None:
        _log.warning("connection closed", client=self._host, reason=reason, error=str(error))
        self._frames.clear()
        self.close(reason)

    def _broken(self, kind: type[Message], error: BaseException | None = None) -> None:
        """An error of ours: this client is sent away to try again, everybody else stays."""
        _log.error("request failed", api=api_name(kind), client=self._host, exc_info=error or True)
        self._frames.clear()
        self.close("internal")
