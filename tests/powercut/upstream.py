"""Another broker, to which the edge subscribes (`edge.sources.mqtt`): as much of one as a witness needs.

Rule: it keeps one session with a window of QoS 1 messages, and is not under the power cut. It sends again, as DUP under the
same identifier, on each connection what the edge had not acknowledged. A message's `acked` is the count at which that PUBACK
was read, as of a publisher (publishers.py); it takes the lowest free identifier, so that each is used again and again.
"""

from __future__ import annotations

import asyncio
import random
import time

from tests.bench import wire

from . import wire5
from .publishers import Ledger, Message
from .story import Story

TOPICS = ("up/0", "up/1")
FINISH_SECONDS = 20.0
PAUSE_SECONDS = 0.02
ACCEPTED = b"\x20\x03\x00\x00\x00"
ACCEPTED_PRESENT = b"\x20\x03\x01\x00\x00"
SUBSCRIBE = 8


class Upstream:
    """A `Client` of the crowd, though it is the edge that connects. `name`: under which its messages are noted."""

    def __init__(
        self, name: str, ledger: Ledger, story: Story, *, window: int, rng: random.Random
    ) -> None:
        self.name = name
        self._ledger = ledger
        self._story = story
        self._window = window
        self._rng = rng
        self._sequence = 0
        self._in_flight: dict[int, Message] = {}
        self._connection: _Connection | None = None
        self._known = False  # the edge has been here
        self._stopping = False
        self._done = asyncio.Event()

    async def run(self, port: int, upstream: int) -> None:
        del port
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", upstream)
        try:
            await self._done.wait()
        finally:
            server.close()

    async def finish(self) -> None:
        self._stopping = True
        deadline = asyncio.get_running_loop().time() + FINISH_SECONDS
        while self._in_flight and self._connection is not None:
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.01)
        if self._connection is not None:
            self._connection.close()
        self._done.set()

    # --- what a connection tells -----------------------------------------------------------------------------

    def opened(self, connection: _Connection) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = connection
        connection.write(ACCEPTED_PRESENT if self._known else ACCEPTED)
        self._known = True
        self._story.sessions.setdefault(self.name, self._ledger.count())

    def subscribed(self, connection: _Connection) -> None:
        """What is in flight comes again, then new ones."""
        for packet_id, message in self._in_flight.items():
            message.repeats += 1
            connection.write(sent(message, packet_id, dup=True))
        self._fill()

    def acknowledged(self, packet: wire.Packet) -> None:
        message = self._in_flight.pop(packet.packet_id, None)
        if message is None:
            return
        if wire5.reason(packet) >= 0x80:
            self._story.complaints.append(f"refused: {message.name} by the bridge")
        self._ledger.acknowledge(message)
        if self._rng.random() < 0.3:
            pause = self._rng.uniform(0, PAUSE_SECONDS)
            asyncio.get_running_loop().call_later(pause, self._fill)
        elif self._rng.random() < 0.01 and self._connection is not None:
            self._connection.close()
        else:
            self._fill()

    def closed(self, connection: _Connection) -> None:
        if self._connection is connection:
            self._connection = None

    def _fill(self) -> None:
        while (
            self._connection is not None
            and not self._stopping
            and len(self._in_flight) < self._window
        ):
            self._sequence += 1
            packet_id = next(n for n in range(1, self._window + 1) if n not in self._in_flight)
            name = f"{self.name}/{self._sequence}"
            message = self._in_flight[packet_id] = self._ledger.messages[name] = Message(
                self.name,
                self._sequence,
                self._rng.choice(TOPICS),
                f"{name} {self._rng.randbytes(40).hex()}",
                self._ledger.count(),
                packet_id=packet_id,
                is_bridged=True,
                clock=time.monotonic(),
            )
            self._connection.write(sent(message, packet_id, dup=False))


def sent(message: Message, packet_id: int, *, dup: bool) -> bytes:
    return wire5.publish(message.topic, message.payload.encode(), packet_id, qos=1, dup=dup)


class _Connection(asyncio.Protocol):
    """The edge's connection to us."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._reader = wire.PacketReader()
        self._transport: asyncio.Transport | None = None
        self._ending = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._upstream.closed(self)

    def data_received(self, data: bytes) -> None:
        for packet in self._reader.feed(data):
            if packet.kind == wire.CONNECT:
                self._upstream.opened(self)
            elif packet.kind == SUBSCRIBE:
                self.write(suback(packet))
                self._upstream.subscribed(self)
            elif packet.kind == wire.PUBACK:
                self._upstream.acknowledged(packet)

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._ending:
            self._transport.write(data)

    def close(self) -> None:
        """By end-of-file: what the edge has acknowledged is read."""
        if self._transport is not None and not self._ending:
            self._ending = True
            self._transport.write_eof()


def suback(packet: wire.Packet) -> bytes:
    """To a SUBSCRIBE with one filter: granted QoS 1."""
    return wire.packet(wire5.SUBACK << 4, packet.body[:2] + b"\0\x01")
