"""Outside clients with sessions that last: publishers that repeat what was not acknowledged, subscribers that come and go.

Rules beyond publishers.py:
  a lasting publisher   sends again what has no PUBACK (PUBREC), as DUP under its identifier, on every connection whose
                        CONNACK says that the session is present; which it must, once it was. It takes the lowest free
                        identifier, so that each is used again and again. It ends connections by end-of-file and reads
                        what still comes, because an acknowledgement that its TCP took is one that it was given.
  `heard`               a PUBACK may lie in the socket before it is read, and the edge may know from TCP that it does. It was
                        not there when the loop last looked at all sockets (`Arrivals`): at that count it was not heard.
  a subscriber          keeps its QoS 2 identifiers from PUBLISH to PUBREL over all connections, as MQTT asks
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import selectors
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from tests.bench import wire

from . import wire5
from .publishers import RECONNECT_SECONDS, Ledger, Message, Pace, name_of
from .story import Delivery, Parting, Story, Subscription

CONNECT_SECONDS = 5.0
FINISH_SECONDS = 20.0
# A recording of five thousand acknowledgements is over within little more than a second: time for a handful of visits.
AWAY_S = (0.03, 0.25)
STAY_S = (0.05, 0.3)
QUOTA_EXCEEDED = 0x97


class Arrivals(selectors.DefaultSelector):
    """Notes the device's count each time it has looked at the sockets: what is read now came after `before`."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Callable[[], int] = lambda: 0
        self.before = 0
        self._now = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.before = self._now
        found = super().select(timeout)
        self._now = self.count()
        return found


class Client(Protocol):
    async def run(self, port: int, upstream: int) -> None:
        """`upstream`: where the edge's source looks for another broker."""

    async def finish(self) -> None:
        """Nothing new; what is in flight may end."""


class _Connected(asyncio.Protocol):
    """A client through all its connections."""

    def __init__(self, name: str, ledger: Ledger, story: Story, *, lasting: bool) -> None:
        self.name = name
        self._ledger = ledger
        self._story = story
        self._lasting = lasting
        self._transport: asyncio.Transport | None = None
        self._reader = wire.PacketReader()
        self._gone = asyncio.Event()
        self._accepted = False
        self._ending = False
        self.stopping = False

    async def run(self, port: int, upstream: int) -> None:
        del upstream
        loop = asyncio.get_running_loop()
        while not self.stopping:
            self._gone.clear()
            with contextlib.suppress(OSError):
                await loop.create_connection(lambda: self, "127.0.0.1", port)
                await self._gone.wait()
            await self.between()

    async def between(self) -> None:
        await asyncio.sleep(RECONNECT_SECONDS)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._reader = wire.PacketReader()
        self._ending = False
        transport.write(self.hello())

    def hello(self) -> bytes:
        """CONNECT."""
        return wire5.connect(self.name, expiry_s=wire5.DAY_SECONDS if self._lasting else 0)

    def connection_lost(self, exc: Exception | None) -> None:
        self._accepted = False
        self._transport = None
        self._gone.set()

    def data_received(self, data: bytes) -> None:
        for packet in self._reader.feed(data):
            if packet.kind == wire.CONNACK:
                if (
                    packet.body[1] == 0
                ):  # else the edge is stopping: it closes, and the client comes again
                    self._connected(present=bool(packet.body[0] & 1))
            elif packet.kind != wire5.DISCONNECT:
                self.take(packet)

    def _connected(self, *, present: bool) -> None:
        if self._lasting:
            if not present and self.name in self._story.sessions:
                self._story.complaints.append(f"forgotten: the session of {self.name}, by a kill")
            self._story.sessions.setdefault(self.name, self._ledger.count())
        self._accepted = True
        self.resume(present=present)

    def resume(self, *, present: bool) -> None: ...
    def take(self, packet: wire.Packet) -> None: ...

    def write(self, data: bytes) -> None:
        transport = self._transport
        if transport is not None and not self._ending and not transport.is_closing():
            transport.write(data)

    def leave(self) -> None:
        """End-of-file to the edge; what it still sends is read."""
        self._accepted = False
        if self._transport is not None and not self._ending:
            self._ending = True
            self._transport.write_eof()


class Manner(NamedTuple):
    """How a publisher says it: by topic aliases where it can; with one of these message expiries."""

    aliases: bool = False
    expiries_s: Sequence[int] = (-1,)


class LastingPublisher(_Connected):
    def __init__(
        self,
        name: str,
        ledger: Ledger,
        story: Story,
        *,
        topics: Sequence[str],
        window: int,
        qos: int,
        lasting: bool,
        pace: Pace,
        rng: random.Random,
        manner: Manner = Manner(),  # noqa: B008
    ) -> None:
        super().__init__(name, ledger, story, lasting=lasting)
        self._manner = manner
        self._aliased: list[
            str
        ] = []  # on this connection: the topics that the edge has aliases for
        self._topics = topics
        self._window = window
        self._qos = qos
        self._pace = pace
        self._rng = rng
        self._sequence = 0
        self._in_flight: dict[int, Message] = {}
        self._releasing: dict[int, Message] = {}

    async def finish(self) -> None:
        self.stopping = True
        deadline = asyncio.get_running_loop().time() + FINISH_SECONDS
        while (self._in_flight or self._releasing) and (
            asyncio.get_running_loop().time() < deadline
        ):
            if self._transport is None:
                break
            await asyncio.sleep(0.01)
        if self._transport is not None:
            self.leave()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), FINISH_SECONDS)

    def resume(self, *, present: bool) -> None:
        if not present:
            self._in_flight.clear()
            self._releasing.clear()
        self._aliased.clear()
        for packet_id, message in self._in_flight.items():
            message.repeats += 1
            self._send(message, packet_id, dup=True)
        for packet_id in self._releasing:
            self.write(wire5.answer(wire.PUBREL, packet_id))
        self._fill()

    def take(self, packet: wire.Packet) -> None:
        packet_id = packet.packet_id
        if packet.kind in (wire.PUBACK, wire.PUBREC):
            message = self._in_flight.pop(packet_id, None)
            if message is not None:
                reason = wire5.reason(packet)
                if reason >= 0x80:
                    # a log that is small enough can be full for the moment that a checkpoint takes
                    if reason != QUOTA_EXCEEDED or not message.topic.startswith("dropped/"):
                        self._story.complaints.append(f"refused: {message.name} {packet.body!r}")
                    self._turn()
                    return
                message.receipt = wire5.receipt(packet)
                self._ledger.acknowledge(message)
            if packet.kind == wire.PUBREC:
                if message is not None:
                    self._releasing[packet_id] = message
                self.write(wire5.answer(wire.PUBREL, packet_id))
        elif packet.kind == wire.PUBCOMP:
            message = self._releasing.pop(packet_id, None)
            if message is not None:
                message.completed = self._ledger.count()
        self._turn()

    def _turn(self) -> None:
        if self._lasting and self._rng.random() < 0.01:
            self.leave()
        elif self._rng.random() < self._pace.share:
            pause = self._rng.uniform(0, self._pace.seconds)
            asyncio.get_running_loop().call_later(pause, self._fill)
        else:
            self._fill()

    def _fill(self) -> None:
        if not self._accepted or self.stopping:
            return
        while len(self._in_flight) + len(self._releasing) < self._window:
            self._sequence += 1
            packet_id = next(
                each
                for each in range(1, self._window + 1)
                if each not in self._in_flight and each not in self._releasing
            )
            message = self._next(packet_id)
            self._in_flight[packet_id] = message
            self._ledger.messages[message.name] = message
            self._send(message, packet_id, dup=False)

    def _send(self, message: Message, packet_id: int, *, dup: bool) -> None:
        topic, alias = message.topic, 0
        if self._manner.aliases:
            if topic in self._aliased:
                topic = ""
            elif len(self._aliased) < wire5.ALIASES:
                self._aliased.append(topic)
            if message.topic in self._aliased:
                alias = self._aliased.index(message.topic) + 1
        self.write(
            wire5.publish(
                *(topic, message.payload.encode(), packet_id),
                qos=message.qos,
                dup=dup,
                retain=message.retain,
                expiry_s=message.expiry_s,
                alias=alias,
            )
        )

    def _next(self, packet_id: int) -> Message:
        topic = self._rng.choice(self._topics)
        filler = self._rng.randbytes(self._rng.choice((10, 50, 50, 200))).hex()
        return Message(
            self.name,
            self._sequence,
            topic,
            f"{self.name}/{self._sequence} {filler}",
            self._ledger.count(),
            qos=self._qos,
            packet_id=packet_id,
            lasting=self._lasting,
            retain=topic.startswith("retained/"),
            expiry_s=self._rng.choice(self._manner.expiries_s),
            clock=time.monotonic(),
            is_aliased=self._manner.aliases,
        )


class Wish(NamedTuple):
    """At its visit of that number (from 0) a subscriber asks for this; at `until` it no longer wants it."""

    topic_filter: str
    qos: int
    visit: int = 0
    until: int = -1


class Subscriber(_Connected):
    """`visits`: after so many it does not come back (0: it always does). `aliases`: it takes some."""

    def __init__(
        self,
        name: str,
        ledger: Ledger,
        story: Story,
        *,
        wishes: Sequence[Wish],
        visits: int,
        rng: random.Random,
        lasting: bool = True,
        aliases: bool = False,
    ) -> None:
        super().__init__(name, ledger, story, lasting=lasting)
        self._aliases = wire5.Aliases() if aliases else None
        self._wishes = wishes
        self._visits = visits
        self._rng = rng
        self._visit = -1
        self._asked: dict[int, Subscription] = {}  # SUBSCRIBE or UNSUBSCRIBE under way
        self._known: dict[str, Subscription] = {}
        self._held: dict[int, Delivery] = {}
        self._twice: set[str] = set()
        self._finished = asyncio.Event()

    async def finish(self) -> None:
        self.stopping = True
        self._finished.set()
        if self._transport is not None:
            self._transport.abort()

    def hello(self) -> bytes:
        expiry_s = wire5.DAY_SECONDS if self._lasting else 0
        aliases = 0
        if self._aliases is not None:
            self._aliases.clear()
            aliases = wire5.ALIASES
        return wire5.connect(self.name, expiry_s=expiry_s, aliases=aliases)

    async def between(self) -> None:
        if self._visits and self._visit + 1 >= self._visits:
            parting = Parting(self._ledger.count(), time.monotonic())
            self._story.partings.setdefault(self.name, parting)
            await self._finished.wait()
        await asyncio.sleep(self._rng.uniform(*AWAY_S))

    def resume(self, *, present: bool) -> None:
        self._visit += 1
        self._asked.clear()
        if not present:  # of a session that ends with its connection
            self._known.clear()
        packet_id = 0x7000
        for wish in self._wishes:
            known = self._known.get(wish.topic_filter)
            if wish.visit <= self._visit and (known is None or known.acked < 0):
                if known is None:
                    count = self._ledger.count()
                    known = Subscription(self.name, wish.topic_filter, wish.qos, count)
                    self._known[wish.topic_filter] = known
                    self._story.subscriptions.append(known)
                packet_id += 1
                self._asked[packet_id] = known
                self.write(wire5.subscribe(packet_id, [(wish.topic_filter, wish.qos)]))
            elif known is not None and 0 < wish.until <= self._visit and known.left < 0:
                if known.leaving < 0:
                    known.leaving = self._ledger.count()
                packet_id += 1
                self._asked[packet_id] = known
                self.write(wire5.unsubscribe(packet_id, [wish.topic_filter]))
        self._leave_soon()

    def _leave_soon(self) -> None:
        asyncio.get_running_loop().call_later(self._rng.uniform(*STAY_S), self._leave)

    def _leave(self) -> None:
        if self._asked and self._transport is not None:  # what it came for
            self._leave_soon()
        elif self._transport is not None:
            self._transport.abort()

    def take(self, packet: wire.Packet) -> None:
        if packet.kind == wire.PUBLISH:
            self._take(wire5.published(packet, self._aliases))
        elif packet.kind == wire.PUBREL:
            held = self._held.pop(packet.packet_id, None)
            if held is not None:
                held.released = self._ledger.count()
            self.write(wire5.answer(wire.PUBCOMP, packet.packet_id))
        elif packet.kind == wire5.SUBACK:
            self._asked.pop(packet.packet_id).acked = self._ledger.count()
        elif packet.kind == wire5.UNSUBACK:
            self._asked.pop(packet.packet_id).left = self._ledger.count()

    def _take(self, got: wire5.Published) -> None:
        name = name_of(got.payload)
        message = self._ledger.messages.get(name)
        if message is not None and got.topic != message.topic:
            self._story.complaints.append(f"misdirected: {name} to {self.name} by {got.topic}")
        held = self._held.get(got.packet_id) if got.qos == 2 else None
        if held is None:
            count = self._ledger.count()
            delivery = Delivery(self.name, name, got.packet_id, got.qos, count)
            self._story.deliveries.append(delivery)
            if got.qos == 2:
                self._held[got.packet_id] = delivery
                if name in self._twice:
                    self._story.complaints.append(f"delivered twice: {name} to {self.name}")
                self._twice.add(name)
        elif held.message != name:
            self._story.complaints.append(
                f"identifier: {got.packet_id} of {self.name} is {name}, was {held.message}"
            )
        self.write(wire5.answer(wire.PUBREC if got.qos == 2 else wire.PUBACK, got.packet_id))


def crowd(ledger: Ledger, story: Story, rng: random.Random, prefix: str) -> list[Client]:
    """The sessions scenario: eight publishers and three subscribers."""

    def publisher(
        name: str, topics: Sequence[str], window: int, *, qos: int = 1, lasting: bool = True
    ) -> LastingPublisher:
        return LastingPublisher(
            prefix + name,
            ledger,
            story,
            topics=topics,
            window=window,
            qos=qos,
            lasting=lasting,
            pace=Pace(share=0.1, seconds=0.03),
            rng=random.Random(rng.getrandbits(32)),
        )

    def subscriber(name: str, visits: int, *wishes: Wish) -> Subscriber:
        own = random.Random(rng.getrandbits(32))
        return Subscriber(prefix + name, ledger, story, wishes=wishes, visits=visits, rng=own)

    return [
        subscriber("away", 1, Wish("kept/#", 1), Wish("exact/#", 2)),
        subscriber("often", 0, Wish("kept/#", 2), Wish("exact/#", 2)),
        subscriber(
            "later", 0, Wish("exact/#", 2), Wish("kept/0", 1, until=1), Wish("kept/1", 1, visit=1)
        ),
        publisher("one", ["kept/0", "kept/1"], 1),
        publisher("four", ["kept/1", "kept/2"], 4),
        publisher("many", ["kept/0", "kept/3"], 16),
        publisher("state", [f"retained/{prefix}{n}" for n in range(4)], 2),
        publisher("exact", ["exact/0"], 1, qos=2),
        publisher("exacts", ["exact/1", f"retained/{prefix}x"], 8, qos=2),
        publisher("soon", ["soon/0", "soon/1"], 4, lasting=False),
        publisher("brisk", ["brisk/0", "brisk/1"], 4, lasting=False),
    ]
