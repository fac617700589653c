"""The well-behaved crowd: each function is one life of one client, run again and again; nothing here is counted but mishaps.

fan-out and shared subscribers, slow ones, those who retain and clear, those who die and leave a will, those who only look
in, those who subscribe and unsubscribe, requests and their answers.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from headwater.edge.mqtt.packets import (
    Publish,
    Subscribe,
    SubscriptionOptions,
    Unsubscribe,
    Version,
    Will,
)
from headwater.edge.mqtt.properties import NO_PROPERTIES, Properties

from .client import Client, Place, answer_to

Life = Callable[[], Awaitable[None]]
RETAINED_TOPICS = 2000


async def _follow(client: Client, seconds: float, *, pause: float = 0.0) -> None:
    """Read and answer for so long; a `pause` after each read makes it slow."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                for packet in await client.read():
                    owed = answer_to(packet)
                    if owed is not None:
                        client.send(owed)
                await client.drain()
                if pause:
                    await asyncio.sleep(pause)
    except TimeoutError:
        return


class Crowd:
    def __init__(self, plain: Place, tls: Place, rng: random.Random) -> None:
        self.plain, self.tls, self.rng = plain, tls, rng
        self._names = 0

    def lives(self) -> list[Life]:
        """Who there is, each as often as it stands here."""
        return [
            *(lambda n=n: self.subscriber(f"fan-{n}", "site/#", n % 3) for n in range(4)),
            *(
                lambda n=n: self.subscriber(f"share-{n}", "$share/group/site/#", 1)
                for n in range(3)
            ),
            lambda: self.subscriber("secret", "machine/#", 1, place=self.tls),
            lambda: self.slow("slow-0"),
            lambda: self.slow("slow-1"),
            self.retainer,
            self.mourned,
            *(self.passer for _ in range(4)),
            self.passer_over_tls,
            self.fickle,
            self.answerer,
            self.asker,
            self.sprinkler,
        ]

    def _version(self) -> Version:
        return self.rng.choice((Version.V311, Version.V5))

    def _fresh(self, kind: str) -> str:
        self._names += 1
        return f"{kind}-{self._names}"

    async def subscriber(
        self, name: str, topic_filter: str, qos: int, *, place: Place | None = None
    ) -> None:
        version = Version.V5 if qos else self._version()
        properties = Properties(topic_alias_maximum=8, receive_maximum=50)
        client = await Client.open(
            place or self.plain, name, version=version, properties=properties
        )
        try:
            client.send(
                Subscribe(
                    packet_id=1,
                    subscriptions=(SubscriptionOptions(topic_filter, qos),),
                    properties=Properties(subscription_identifiers=(7,))
                    if version is Version.V5
                    else NO_PROPERTIES,
                )
            )
            await _follow(client, self.rng.uniform(30, 120))
            await client.leave()
        finally:
            client.abort()

    async def slow(self, name: str) -> None:
        """Reads a piece now and then: what waits for it must wait in the log."""
        client = await Client.open(self.plain, name, version=self._version())
        try:
            client.send(Subscribe(packet_id=1, subscriptions=(SubscriptionOptions("site/#", 1),)))
            await _follow(client, self.rng.uniform(40, 100), pause=1.0)
        finally:
            client.abort()

    async def retainer(self) -> None:
        """Sets and clears retained messages among RETAINED_TOPICS, then looks at them all."""
        client = await Client.open(self.plain, "retainer", version=self._version())
        try:
            for _ in range(100):
                topic = f"state/{self.rng.randrange(RETAINED_TOPICS)}"
                payload = b"" if self.rng.random() < 0.3 else self.rng.randbytes(60)
                client.send(Publish(topic=topic, payload=payload, retain=True))
                await client.drain()
                await asyncio.sleep(0.05)
            client.send(Subscribe(packet_id=1, subscriptions=(SubscriptionOptions("state/#", 1),)))
            await _follow(client, 3)
            await client.leave()
        finally:
            client.abort()

    async def mourned(self) -> None:
        version = self._version()
        delayed = version is Version.V5 and self.rng.random() < 0.5
        will = Will(
            topic=f"machine/wills/{self.rng.randrange(50)}",
            payload=b"gone",
            qos=self.rng.randrange(3),
            retain=self.rng.random() < 0.3,
            properties=Properties(will_delay_interval=2) if delayed else NO_PROPERTIES,
        )
        client = await Client.open(
            self.plain,
            self._fresh("mourned"),
            version=version,
            will=will,
            properties=Properties(session_expiry_interval=5) if delayed else NO_PROPERTIES,
        )
        await asyncio.sleep(self.rng.uniform(0, 0.5))
        client.abort()

    async def passer(self) -> None:
        """Connects, says one thing, leaves: thousands of short connections an hour."""
        client = await Client.open(self.plain, self._fresh("passer"), version=self._version())
        try:
            client.send(
                Publish(
                    topic=f"machine/passers/{self._names % 500}",
                    payload=b"hello",
                    qos=1,
                    packet_id=1,
                )
            )
            await client.read()
            if self.rng.random() < 0.7:
                await client.leave()
        finally:
            client.abort()
        await asyncio.sleep(self.rng.uniform(0.05, 0.4))

    async def passer_over_tls(self) -> None:
        client = await Client.open(self.tls, self._fresh("guest"), version=self._version())
        try:
            client.send(Publish(topic="machine/guests", payload=b"hello", qos=1, packet_id=1))
            await client.read()
            await client.leave()
        finally:
            client.abort()
        await asyncio.sleep(0.5)

    async def fickle(self) -> None:
        """Subscribes and unsubscribes, to a hundred filters a round."""
        client = await Client.open(self.plain, "fickle", version=Version.V5)
        try:
            for number in range(100):
                mine = f"site/+/{number}/#"
                options = (SubscriptionOptions(mine, number % 3),)
                client.send(
                    Subscribe(packet_id=1, subscriptions=options),
                    Unsubscribe(packet_id=2, filters=(mine,)),
                )
                await client.read()
                await asyncio.sleep(0.05)
            await client.leave()
        finally:
            client.abort()

    async def answerer(self) -> None:
        client = await Client.open(self.plain, "answerer", version=Version.V5)
        try:
            client.send(Subscribe(packet_id=1, subscriptions=(SubscriptionOptions("ask/#", 0),)))
            while True:
                for packet in await client.read():
                    if isinstance(packet, Publish) and packet.properties.response_topic:
                        answer = Properties(correlation_data=packet.properties.correlation_data)
                        client.send(
                            Publish(
                                topic=packet.properties.response_topic,
                                payload=packet.payload,
                                properties=answer,
                            )
                        )
        finally:
            client.abort()

    async def asker(self) -> None:
        """A question a moment; each under another topic of a great many."""
        name = self._fresh("asker")
        client = await Client.open(self.plain, name, version=Version.V5)
        try:
            client.send(
                Subscribe(packet_id=1, subscriptions=(SubscriptionOptions(f"answers/{name}", 0),))
            )
            for number in range(50):
                question = Properties(
                    response_topic=f"answers/{name}",
                    correlation_data=number.to_bytes(4, "big"),
                    message_expiry_interval=30,
                    user_properties=((f"name-{number}", "value"),),
                )
                client.send(Publish(topic=f"ask/{name}", payload=b"?", properties=question))
                await asyncio.sleep(0.1)
            await client.leave()
        finally:
            client.abort()

    async def sprinkler(self) -> None:
        """QoS 0 and 1 on topics that never come again: what is remembered of topics must be bounded."""
        client = await Client.open(self.plain, "sprinkler", version=self._version())
        try:
            for _ in range(200):
                self._names += 1
                client.send(
                    Publish(topic=f"machine/once/{self._names}", payload=b"x"),
                    Publish(
                        topic=f"machine/once/{self._names}/q", payload=b"x", qos=1, packet_id=1
                    ),
                )
                await client.read()
                await asyncio.sleep(0.02)
            await client.leave()
        finally:
            client.abort()
