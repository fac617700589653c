"""Publishers and kept sessions that keep count: the outside account of what the edge promised and what it delivered.

A counted device publishes sequences 0, 1, 2, … of its own, each once; QoS 1 and 2, in both versions. Those with a lasting
session cut their connection now and then with publishes in flight, and send them again as DUP: the edge promises to store
them once. Those without leave what was in flight in doubt. So an account is small whatever the hours: how many were
sent, and which are in doubt; all others were acknowledged.

A keeper is a kept session that follows one device, comes and goes, and must hear every sequence: at QoS 1 none is
skipped, at QoS 2 none comes twice either.
"""

from __future__ import annotations

import asyncio
import json
import random

import msgspec

from headwater.edge.mqtt.packets import (
    Acknowledgement,
    Packet,
    PacketType,
    Publish,
    Suback,
    Subscribe,
    SubscriptionOptions,
    Version,
)
from headwater.edge.mqtt.properties import NO_PROPERTIES, Properties

from .client import Client, Gone, Place, answer_to

WINDOW = 8
RETRY_S = 0.2
SESSION = Properties(session_expiry_interval=3600)


class Account(msgspec.Struct):
    """Of one device: sequences below `sent` were sent; all but `doubts` were acknowledged."""

    device: str
    stream: str
    sent: int = 0
    doubts: list[int] = []
    cuts: int = 0
    binary: bool = False

    @property
    def acknowledged(self) -> int:
        return self.sent - len(self.doubts)


class Device:
    """`rate` a second, `size` bytes and more each."""

    def __init__(
        self,
        place: Place,
        name: str,
        topic: str,
        account: Account,
        *,
        qos: int,
        version: Version,
        kept: bool,
        rate: float,
        size: int,
        rng: random.Random,
    ) -> None:
        self._place, self._name, self._topic, self._account = place, name, topic, account
        self._qos, self._version, self._kept = qos, version, kept
        self._pause, self._size, self._rng = 1 / rate, size, rng
        self._flying: dict[int, int] = {}  # packet identifier → sequence
        self._releasing: set[int] = set()
        self._packet_id = 0
        self._window = WINDOW
        self._alias_set = False
        self._room = asyncio.Event()
        self.stopping = False

    @property
    def done(self) -> bool:
        """Asked to stop, and nothing is in flight."""
        return self.stopping and not self._flying and not self._releasing

    async def live(self) -> None:
        """One connection, until it goes. Raises Gone or OSError."""
        client = await Client.open(
            self._place,
            self._name,
            version=self._version,
            clean=not self._kept,
            properties=SESSION if self._kept else NO_PROPERTIES,
        )
        self._alias_set = False
        self._window = min(WINDOW, client.connack.properties.receive_maximum or WINDOW)
        self._resume(client)
        reading = asyncio.create_task(self._read(client))
        try:
            await self._publish(client, reading)
        finally:
            reading.cancel()
            client.abort()
            await asyncio.gather(reading, return_exceptions=True)
            if not self._kept:
                self._forget()

    def _resume(self, client: Client) -> None:
        if not client.connack.session_present:
            self._forget()
        for packet_id, sequence in self._flying.items():
            client.send(self._packet(packet_id, sequence, dup=True))
        for packet_id in sorted(self._releasing):
            client.send(Acknowledgement(PacketType.PUBREL, packet_id))

    def _forget(self) -> None:
        self._account.doubts += self._flying.values()
        self._flying.clear()
        self._releasing.clear()

    async def _publish(self, client: Client, reading: asyncio.Task[None]) -> None:
        while not reading.done():
            if len(self._flying) + len(self._releasing) < self._window and not self.stopping:
                self._packet_id = self._packet_id % 0xFFFF + 1
                sequence = self._account.sent
                # counted before it is sent, which may fail: it is in flight then, and no other may have its sequence
                self._flying[self._packet_id] = sequence
                self._account.sent += 1
                client.send(self._packet(self._packet_id, sequence, dup=False))
            elif self.done:
                await client.leave()
                return
            await client.drain()
            if self._rng.random() < 0.001 and not self.stopping:
                self._account.cuts += 1
                return
            await asyncio.wait([reading], timeout=self._pause)
        reading.result()

    def _packet(self, packet_id: int, sequence: int, *, dup: bool) -> Publish:
        if self._account.binary:
            # of the sequence alone: a repetition says the same again, or it is another message
            payload = sequence.to_bytes(8, "big") + random.Random(sequence).randbytes(self._size)
        else:
            reading = {"device": self._name, "sequence": sequence, "value": 21.5}
            payload = json.dumps({**reading, "pad": "x" * self._size}).encode()
        topic, properties = self._topic, NO_PROPERTIES
        if self._version is Version.V5:
            # a repetition says the same again, but for the alias: those of the last connection mean nothing
            alias = None if dup else 1
            properties = Properties(
                topic_alias=alias, content_type="text/plain", user_properties=(("site", "north"),)
            )
            if not dup:
                topic = "" if self._alias_set else topic
                self._alias_set = True
        return Publish(
            topic=topic,
            payload=payload,
            qos=self._qos,
            dup=dup,
            packet_id=packet_id,
            properties=properties,
        )

    async def _read(self, client: Client) -> None:
        while True:
            for packet in await client.read():
                if isinstance(packet, Acknowledgement):
                    self._acknowledged(client, packet)

    def _acknowledged(self, client: Client, packet: Acknowledgement) -> None:
        # PUBCOMP 0x92 after a cut: the PUBREL had arrived, and its first PUBCOMP had not
        if packet.reason >= 0x80 and packet.kind is not PacketType.PUBCOMP:
            # its identifier is free and it may not come again as the same packet: not promised, and not there
            refused = self._flying.pop(packet.packet_id, None)
            if refused is not None:
                self._account.doubts.append(refused)
            raise Gone(f"{self._name} was answered {packet}")
        if packet.kind is PacketType.PUBACK:
            self._flying.pop(packet.packet_id)
        elif packet.kind is PacketType.PUBREC:
            self._flying.pop(packet.packet_id, None)
            self._releasing.add(packet.packet_id)
            client.send(Acknowledgement(PacketType.PUBREL, packet.packet_id))
        elif packet.kind is PacketType.PUBCOMP:
            self._releasing.discard(packet.packet_id)


class Keeper:
    """A kept session that follows one device's topic; `complaints` takes what it was not promised."""

    def __init__(
        self,
        place: Place,
        name: str,
        topic: str,
        *,
        qos: int,
        version: Version,
        rng: random.Random,
        complaints: list[str],
    ) -> None:
        self._place, self._name, self._topic = place, name, topic
        self._qos, self._version, self._rng = qos, version, rng
        self._complaints = complaints
        self._began = False
        self._expected: int | None = None
        self._releasing: set[int] = set()
        self.heard = self.twice = 0
        self.away_max_s = 40.0

    async def live(self) -> None:
        """There for a while, cut, away for a while."""
        client = await Client.open(
            self._place, self._name, version=self._version, clean=False, properties=SESSION
        )
        try:
            if self._began and not client.connack.session_present:
                self._complaints.append(f"{self._name}: its session was forgotten")
            if not self._began:
                options = (SubscriptionOptions(self._topic, self._qos),)
                client.send(Subscribe(packet_id=1, subscriptions=options))
            async with asyncio.timeout(self._rng.uniform(2, 20)):
                while True:
                    for packet in await client.read():
                        self._take(client, packet)
                    await client.drain()
        except TimeoutError:
            pass
        finally:
            client.abort()
        await asyncio.sleep(self._rng.uniform(0.1, self.away_max_s))

    def _take(self, client: Client, packet: Packet) -> None:
        if isinstance(packet, Suback):
            self._began = True
            return
        owed = answer_to(packet)
        if isinstance(packet, Publish):
            again = packet.qos == 2 and packet.packet_id in self._releasing
            if packet.qos == 2:
                self._releasing.add(packet.packet_id)
            if not again:
                self._hear(json.loads(packet.payload)["sequence"], packet)
        elif isinstance(packet, Acknowledgement) and packet.kind is PacketType.PUBREL:
            self._releasing.discard(packet.packet_id)
        if owed is not None:
            client.send(owed)

    def _hear(self, sequence: int, packet: Publish) -> None:
        self.heard += 1
        expected = sequence if self._expected is None else self._expected
        if sequence > expected:
            self._complaints.append(f"{self._name}: {expected} to {sequence - 1} never came")
        elif sequence < expected:
            self.twice += 1
            if self._qos == 2 or not packet.dup:
                self._complaints.append(f"{self._name}: {sequence} came again")
        self._expected = max(expected, sequence + 1)
