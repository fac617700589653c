"""Outside clients whose promises are about others: wills, shared subscriptions, message expiry, aliases, a broker upstream.

What is owed after a cut, and by which answer it was promised (MQTT 5.0; ADR 6 and 7; edge/README.md):

  a will              CONNACK: it waits for the disk with the session's note. Of a kept session whose connection ended with
                      no DISCONNECT, or was open when the power failed, the will is said once its delay is over, or its
                      session ends, whichever is first ([MQTT-3.1.2-8], [MQTT-3.1.3-9]): a record like any other, once, for
                      its subscribers and as what is retained. The delay of who was connected begins with the start.
  withdrawn           CONNACK of the next connection: a will whose delay was not over is never said; nor is one whose
                      connection ended with DISCONNECT, if the same daemon took both. By then an immediate one is in the log.
  a shared message    PUBACK, PUBREC of its publisher: while the group has a member whose SUBACK was read and that stays, it
                      reaches some member. At QoS 2 one, once: it is not begun with another when its first one goes
                      ([MQTT-4.8.2-4], [MQTT-4.8.2-5]); at QoS 1 what a member left goes to another.
  expiry              nothing promises that a message is kept for long. Over a cut its life goes on: what is over is not
                      begun with a subscriber that was away, and what is not reaches it with what is left ([MQTT-3.3.2-6]).
  an alias            PUBACK: the record has the topic that the alias stood for; an alias ends with its connection
  an upstream's       our PUBACK to it: on disk. What it sends again in the same session is stored once (edge/sources).
  message

Not owed: a will of a session that ends with its connection ("a power cut ends them unsaid"), what was under way at QoS 2 to
a member whose session ended, what DISCONNECT says before anything proves that it was heard.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import NamedTuple

from tests.bench import wire

from . import wire5
from .lasting import Client, LastingPublisher, Manner, Subscriber, Wish, _Connected
from .publishers import Ledger, Message, Pace
from .story import LastWill, Story
from .upstream import Upstream

# above all that a recording and its replay take: such a will is never said
NEVER_S = 36_000


class Bequest(NamedTuple):
    """`orderly`: the share of connections that end with DISCONNECT; `away`, `stay`: seconds at the most."""

    delay_s: int = 0
    expiry_s: int = wire5.DAY_SECONDS
    qos: int = 1
    retain: bool = False
    orderly: float = 0.0
    away: float = 0.6
    stay: float = 0.4


class Testator(_Connected):
    """Connects with a will, goes with or without a word, and comes again."""

    def __init__(
        self, name: str, ledger: Ledger, story: Story, bequest: Bequest, rng: random.Random
    ) -> None:
        super().__init__(name, ledger, story, lasting=bequest.expiry_s == wire5.DAY_SECONDS)
        self._bequest = bequest
        self._rng = rng
        self._sequence = 0
        self._leaving: asyncio.TimerHandle | None = None
        self._attempts: list[LastWill] = []
        # of the last connection: its will, when it ended, how often the daemon had been started by then
        self._last: tuple[LastWill, float, int] | None = None

    async def finish(self) -> None:
        self.stopping = True
        if self._transport is not None:
            self._transport.abort()

    async def between(self) -> None:
        await asyncio.sleep(self._rng.uniform(0.02, self._bequest.away))

    def hello(self) -> bytes:
        wish = self._bequest
        self._sequence += 1
        message = Message(
            self.name,
            self._sequence,
            f"wills/{self.name}",
            f"{self.name}/{self._sequence} {self._rng.randbytes(20).hex()}",
            self._ledger.count(),
            qos=wish.qos,
            retain=wish.retain,
            is_will=True,
            clock=time.monotonic(),
        )
        if min(wish.delay_s, wish.expiry_s) >= NEVER_S:
            message.withdrawn = message.sent
        self._ledger.messages[message.name] = message
        last_will = LastWill(self.name, message.name, wish.delay_s, wish.expiry_s)
        self._story.last_wills.append(last_will)
        self._attempts.append(last_will)
        will = wire5.Will(
            message.topic, message.payload.encode(), wish.qos, wish.retain, wish.delay_s
        )
        return wire5.connect(self.name, expiry_s=wish.expiry_s, will=will)

    def resume(self, *, present: bool) -> None:
        last_will = self._attempts[-1]
        last_will.connected = self._ledger.count()
        if self._last is not None:
            self._settle(*self._last, present=present, missed=len(self._attempts) - 1)
        self._attempts.clear()
        self._last = (last_will, 0.0, len(self._story.starts))
        stay = self._rng.uniform(0.02, self._bequest.stay)
        self._leaving = asyncio.get_running_loop().call_later(stay, self._go)

    def _settle(
        self, last: LastWill, ended: float, starts: int, *, present: bool, missed: int
    ) -> None:
        """The fate of the last connection's will is sealed by this CONNACK. `missed`: attempts without one between."""
        count = self._ledger.count()
        message = self._ledger.messages[last.message]
        if message.withdrawn >= 0:
            return
        if last.parted >= 0:
            if len(self._story.starts) == starts:
                message.withdrawn = count
        elif last.delay_s == 0:
            message.acked = count
        elif last.expiry_s < last.delay_s:
            if not missed and present:
                message.withdrawn = count
            elif not missed:
                message.acked = count
        elif present and time.monotonic() - ended < last.delay_s:
            message.withdrawn = count

    def _go(self) -> None:
        if self._transport is None or self._last is None:
            return
        if self._rng.random() < self._bequest.orderly:
            self._last[0].parted = self._ledger.count()
            self.write(wire.DISCONNECT_PACKET)  # the edge closes
        else:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._leaving is not None:
            self._leaving.cancel()
        if self._last is not None and not self._attempts:
            self._last = (self._last[0], time.monotonic(), self._last[2])


_USUAL = Pace(share=0.2, seconds=0.05)


def crowded(ledger: Ledger, story: Story, rng: random.Random, prefix: str) -> list[Client]:
    """The crowded scenario: what subscribers have not taken gives way to what is new, and alarms in between do not."""

    def publisher(
        name: str, topics: Sequence[str], window: int, qos: int, pace: Pace = _USUAL
    ) -> LastingPublisher:
        return LastingPublisher(
            prefix + name,
            ledger,
            story,
            topics=topics,
            window=window,
            qos=qos,
            lasting=True,
            pace=pace,
            rng=random.Random(rng.getrandbits(32)),
        )

    def subscriber(name: str, visits: int, qos: int) -> Subscriber:
        own = random.Random(rng.getrandbits(32))
        wishes = [Wish("dropped/#", qos)]
        return Subscriber(prefix + name, ledger, story, wishes=wishes, visits=visits, rng=own)

    return [
        subscriber("away", 1, 1),
        subscriber("away-exactly", 2, 2),
        subscriber("often", 0, 2),
        publisher("one", ["dropped/1", "dropped/0"], 1, 1),
        publisher("many", ["dropped/2", "dropped/0"], 8, 1),
        publisher("exactly", ["dropped/1", "dropped/0"], 4, 2),
        publisher("alarm", ["alarms/0"], 1, 1, Pace(share=1.0, seconds=0.3)),
    ]


def crowd(ledger: Ledger, story: Story, rng: random.Random, prefix: str) -> list[Client]:
    """The company scenario."""

    def own() -> random.Random:
        return random.Random(rng.getrandbits(32))

    def publisher(
        name: str,
        topics: Sequence[str],
        window: int,
        *,
        qos: int = 1,
        manner: Manner = Manner(),  # noqa: B008
    ) -> LastingPublisher:
        return LastingPublisher(
            prefix + name,
            ledger,
            story,
            topics=topics,
            window=window,
            qos=qos,
            lasting=True,
            pace=Pace(share=0.3, seconds=0.05),
            rng=own(),
            manner=manner,
        )

    def subscriber(
        name: str, visits: int, *wishes: Wish, lasting: bool = True, aliases: bool = False
    ) -> Subscriber:
        return Subscriber(
            prefix + name,
            ledger,
            story,
            wishes=wishes,
            visits=visits,
            rng=own(),
            lasting=lasting,
            aliases=aliases,
        )

    def testator(name: str, bequest: Bequest) -> Testator:
        return Testator(prefix + name, ledger, story, bequest, own())

    each, once = f"$share/{prefix}each/shared/#", f"$share/{prefix}once/exact/#"
    return [
        subscriber("heir", 0, Wish("wills/#", 2), aliases=True),
        subscriber("absent-heir", 1, Wish("wills/#", 1)),
        subscriber("late", 2, Wish("brief/#", 1), aliases=True),
        subscriber("each-away", 1, Wish(each, 1)),
        subscriber("each-often", 0, Wish(each, 1)),
        subscriber("each-guest", 0, Wish(each, 1), lasting=False),
        subscriber("once-away", 2, Wish(once, 2)),
        subscriber("once-often", 0, Wish(once, 2), aliases=True),
        subscriber("once-leaves", 0, Wish(once, 2, until=2)),
        testator("will-now", Bequest(qos=2, orderly=0.3)),
        testator("will-kept", Bequest(retain=True, orderly=0.3)),
        testator("will-later", Bequest(delay_s=1, qos=2, away=2.0, stay=1.0)),
        testator("will-kept-later", Bequest(delay_s=1, retain=True, away=1.2, stay=1.0)),
        testator("will-never", Bequest(delay_s=NEVER_S, orderly=0.2)),
        testator("will-ends", Bequest(delay_s=NEVER_S, expiry_s=1, away=2.0, stay=1.0)),
        publisher("one", ["shared/0", "shared/1"], 1),
        publisher("many", ["shared/1", "shared/2"], 8, manner=Manner(aliases=True)),
        publisher("exact", ["exact/0", "exact/1"], 4, qos=2),
        publisher("exacts", ["exact/2"], 1, qos=2, manner=Manner(aliases=True)),
        publisher(
            "brief", ["brief/0", "brief/1"], 2, manner=Manner(expiries_s=(1, 1, wire5.DAY_SECONDS))
        ),
        Upstream(prefix + "plant", ledger, story, window=8, rng=own()),
    ]
