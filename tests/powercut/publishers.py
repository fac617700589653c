"""Outside publishers: what was sent, and after how many device operations it was acknowledged.

Rule: a message's `acked` is the device's counter read *after* its PUBACK was read from the socket. The sync that the
acknowledgement stands for was counted before, so every record cut at `acked` or later holds it. What a connection left
in flight is never sent again: it may be there once, or not.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from tests.bench import wire

RECONNECT_SECONDS = 0.02


class Message(msgspec.Struct):
    """`sent`, `acked`, `heard`, `completed` are counts of device operations; -1: never.

    `heard`: then its acknowledgement had surely not arrived yet. `completed`: PUBCOMP was read. `repeats`: how often it
    was sent again as DUP.
    A will is a message that is sent with CONNECT: `acked` once it must have been said, `withdrawn` once it never may be.
    `clock`: monotonic, when it was sent; `expiry_s`: its life from then on, -1: without end.
    """

    client: str
    sequence: int
    topic: str
    payload: str
    sent: int
    acked: int = -1
    heard: int = -1
    completed: int = -1
    qos: int = 1
    packet_id: int = 0
    lasting: bool = False
    retain: bool = False
    repeats: int = 0
    receipt: str = ""
    is_will: bool = False
    is_bridged: bool = False
    is_aliased: bool = False
    withdrawn: int = -1
    expiry_s: int = -1
    clock: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.client}/{self.sequence}"


def name_of(payload: bytes) -> str:
    """Which message this is: the payload's first word."""
    return payload.partition(b" ")[0].decode("ascii", "replace")


class Ledger:
    """Everything that was sent and acknowledged. `before`: a count at which what is read now had not arrived."""

    def __init__(self, count: Callable[[], int], before: Callable[[], int]) -> None:
        self.count = count
        self._before = before
        self.messages: dict[str, Message] = {}
        self.acknowledged = 0
        self._wanted = 0
        self._reached = asyncio.Event()

    async def more(self, messages: int) -> None:
        """Until so many more are acknowledged."""
        self._wanted = self.acknowledged + messages
        self._reached.clear()
        await self._reached.wait()

    def acknowledge(self, message: Message) -> None:
        message.heard = self._before()
        message.acked = self.count()
        self.acknowledged += 1
        if self.acknowledged >= self._wanted:
            self._reached.set()


class Pace(NamedTuple):
    """Before this `share` of its turns a client pauses for up to so many seconds."""

    share: float = 0.02
    seconds: float = 0.02


class Publisher(asyncio.Protocol):
    """One MQTT client over all its connections; `window` publishes in flight, each to one of its topics."""

    def __init__(
        self,
        name: str,
        ledger: Ledger,
        *,
        topics: Sequence[str],
        window: int,
        pace: Pace,
        rng: random.Random,
    ) -> None:
        self.name = name
        self._ledger = ledger
        self._topics = topics
        self._window = window
        self._pace = pace
        self._rng = rng
        self._sequence = 0
        self._packet_id = 0
        self._in_flight: deque[tuple[int, Message]] = deque()
        self._transport: asyncio.Transport | None = None
        self._reader = wire.PacketReader()
        self._lost = asyncio.Event()
        self.stopping = False

    async def run(self, port: int, upstream: int) -> None:
        del upstream
        loop = asyncio.get_running_loop()
        while not self.stopping:
            self._lost.clear()
            try:
                await loop.create_connection(lambda: self, "127.0.0.1", port)
                await self._lost.wait()
            except OSError:
                pass
            await asyncio.sleep(RECONNECT_SECONDS)

    async def finish(self) -> None:
        self.stopping = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._reader = wire.PacketReader()
        self._in_flight.clear()
        transport.write(wire.connect(self.name))

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()

    def data_received(self, data: bytes) -> None:
        for packet in self._reader.feed(data):
            if packet.kind == wire.PUBACK:
                self._acknowledged(packet.packet_id)
        if self._rng.random() < self._pace.share:  # so that the disk has nothing to do at times
            pause = self._rng.uniform(0, self._pace.seconds)
            asyncio.get_running_loop().call_later(pause, self._fill)
        else:
            self._fill()

    def _acknowledged(self, packet_id: int) -> None:
        expected, message = self._in_flight.popleft()
        assert expected == packet_id, "acknowledged in the order of sending"
        self._ledger.acknowledge(message)

    def _fill(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or self.stopping:
            return
        packets = []
        while len(self._in_flight) < self._window:
            message = self._next()
            self._packet_id = self._packet_id % 65535 + 1
            self._in_flight.append((self._packet_id, message))
            self._ledger.messages[message.name] = message
            packets.append(wire.publish(message.topic, message.payload.encode(), self._packet_id))
        if packets:
            transport.write(b"".join(packets))

    def _next(self) -> Message:
        self._sequence += 1
        size = self._rng.choice((20, 100, 100, 400, 1500))
        filler = self._rng.randbytes(size // 2).hex()
        return Message(
            self.name,
            self._sequence,
            self._rng.choice(self._topics),
            f"{self.name}/{self._sequence} {filler}",
            self._ledger.count(),
        )


def save(messages: Sequence[Message], path: Path) -> None:
    path.write_bytes(msgspec.json.encode(messages))


def load(path: Path) -> list[Message]:
    return msgspec.json.decode(path.read_bytes(), type=list[Message])
