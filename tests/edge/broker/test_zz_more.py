"""Publishers, and subscribers that leave, return, do not read, acknowledge late; a disk that takes its time; kills.

The model: of every durable record a subscriber gets each that its filter matches, at QoS 2 exactly once, at QoS 1 at least
once; of a shared group some member does. First arrivals are in order for each topic. Nobody's waiting costs memory.
"""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from headwater.edge.broker.sessions import Session
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt.packets import (
    Acknowledgement,
    Packet,
    PacketType,
    Publish,
    Subscribe,
    SubscriptionOptions,
)
from headwater.edge.mqtt.properties import Properties
from headwater.edge.mqtt.topics import matches
from headwater.edge.streams import StreamSettings

from .harness import Bench, Peer
from .subscriber import MemoryBook, back, restarted

STREAMS = (StreamSettings(name="wide", filters=("w/#",), partitions=4),)
TOPICS = ("w/1", "w/2", "w/3", "n/1", "n/2", "other")
SUBSCRIBERS = {
    "all": ("#", 1),
    "wide": ("w/#", 2),
    "narrow": ("n/+", 1),
    "exact": ("w/2", 2),
    "lazy": ("+/1", 1),
    "g1": ("$share/g/w/#", 1),
    "g2": ("$share/g/w/#", 1),
    "g3": ("$share/g/w/#", 1),
    "h1": ("$share/h/n/#", 2),
    "h2": ("$share/h/n/#", 2),
}


class Receiver:
    """A client that keeps its QoS 2 identifiers, as it must, whatever happens to its connection."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.peer: Peer | None = None
        self.unanswered: list[Packet] = []
        self.pending: set[int] = set()
        self.got: list[tuple[str, int]] = []

    def take(self, rng: random.Random, *, all_of_it: bool) -> None:
        peer = self.peer
        assert peer is not None
        for packet in peer.take():
            if isinstance(packet, Publish):
                if packet.qos != 2 or packet.packet_id not in self.pending:
                    self.got.append((packet.topic, int(packet.payload)))
                if packet.qos == 2:
                    self.pending.add(packet.packet_id)
                if not packet.qos:
                    continue
                kind = PacketType.PUBACK if packet.qos == 1 else PacketType.PUBREC
                self.unanswered.append(Acknowledgement(kind, packet.packet_id))
            elif isinstance(packet, Acknowledgement) and packet.kind is PacketType.PUBREL:
                self.pending.discard(packet.packet_id)
                self.unanswered.append(Acknowledgement(PacketType.PUBCOMP, packet.packet_id))
        count = len(self.unanswered) if all_of_it else rng.randrange(len(self.unanswered) + 1)
        now, self.unanswered = self.unanswered[:count], self.unanswered[count:]
        if now and peer.transport.reading:
            peer.send(*now)
        else:
            self.unanswered = now + self.unanswered

    def gone(self) -> None:
        self.peer = None
        self.unanswered = []


class World:
    def __init__(self, seed: int, *, kills: bool) -> None:
        self.rng = rng = random.Random(seed)
        self.kills = kills
        self.settings = MqttSettings(
            burst_messages_max=rng.choice([1, 4, 500]),
            inflight_max=rng.choice([1, 5, 30]),
            replay_reads_max=rng.choice([1, 3]),
            replay_read_bytes=rng.choice([1, 40, 4096]),
            replay_memory_max=rng.choice([4096, 1 << 20]),
            progress_interval=rng.choice([1, 30]),  # type: ignore[arg-type]
        )
        self.bench = Bench(settings=self.settings, streams=STREAMS)
        self.book = MemoryBook(self.bench)
        self.bench.broker.departures.book = self.book
        self.bench.source.by_hand = True
        self.receivers = {name: Receiver(name) for name in SUBSCRIBERS}
        self.sent = 0
        for name, (topic_filter, qos) in SUBSCRIBERS.items():
            peer = self.bench.connect(
                name, properties=Properties(session_expiry_interval=90_000, receive_maximum=20)
            )
            peer.send(
                Subscribe(packet_id=1, subscriptions=(SubscriptionOptions(topic_filter, qos),))
            )
            self.bench.sync()
            peer.take()
            self.receivers[name].peer = peer
        self.publisher = self.bench.connect("publisher")

    def publish(self) -> None:
        qos = self.rng.choice([1, 1, 2, 2, 0])
        topic = self.rng.choice(TOPICS)
        self.sent += 1
        self.publisher.publish(topic, b"%d" % self.sent, qos=qos, id=self.sent)
        if qos == 2:
            self.publisher.send(Acknowledgement(PacketType.PUBREL, self.sent))
        self.publisher.take()

    def kill(self) -> None:
        def subscribe(bench: Bench, name: str, session: Session) -> None:
            topic_filter, qos = SUBSCRIBERS[name]
            bench.broker.subscriptions.add(session, SubscriptionOptions(topic_filter, qos), 0)

        self.bench, self.book = restarted(
            self.bench, self.book, subscribe, *SUBSCRIBERS, streams=STREAMS
        )
        self.bench.source.by_hand = True
        for receiver in self.receivers.values():
            receiver.gone()
        self.publisher = self.bench.connect("publisher")

    def step(self) -> None:
        rng = self.rng
        action = rng.random()
        receiver = self.receivers[rng.choice(list(SUBSCRIBERS))]
        if action < 0.4:
            for _ in range(rng.randrange(1, 8)):
                self.publish()
        elif action < 0.6:
            self.bench.sync()
        elif action < 0.72:
            self.bench.finish_reads()
        elif action < 0.76:
            self.bench.wait(rng.choice([0.5, 2.0]))
        elif action < 0.80 and receiver.peer is not None:
            receiver.peer.lose()
            receiver.gone()
        elif action < 0.86 and receiver.peer is None:
            self.connect(receiver)
        elif action < 0.88 and receiver.peer is not None:
            client = receiver.peer.client
            (client.resume_writing if not client.writable else client.pause_writing)()
        elif action < 0.885 and self.kills:
            self.kill()
        elif receiver.peer is not None:
            receiver.take(rng, all_of_it=False)
        for name, session in self.bench.broker.sessions.items():
            if session.link is None and name in SUBSCRIBERS:
                assert session.outbound.backlog.memory == 0
        memory = self.bench.broker.departures.memory
        assert 0 <= memory <= self.settings.replay_memory_max + 3 * 4096

    def connect(self, receiver: Receiver) -> None:
        properties = Properties(session_expiry_interval=90_000, receive_maximum=20)
        receiver.peer = back(self.bench, receiver.name, properties)

    def finish(self) -> None:
        for receiver in self.receivers.values():
            if receiver.peer is None:
                self.connect(receiver)
            assert receiver.peer is not None
            if not receiver.peer.client.writable:
                receiver.peer.client.resume_writing()
        quiet = 0
        for _ in range(20_000):
            self.bench.sync()
            self.bench.finish_reads()
            self.bench.wait(0.5)
            before = sum(len(each.got) for each in self.receivers.values())
            for receiver in self.receivers.values():
                receiver.take(self.rng, all_of_it=True)
            after = sum(len(each.got) for each in self.receivers.values())
            quiet = 0 if after > before or self.bench.broker.departures.replaying else quiet + 1
            assert not any(
                each.peer and each.peer.transport.closed for each in self.receivers.values()
            )
            if quiet > 10:
                break

    def check(self) -> None:
        wanted: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for stored in self.bench.journal.stored:
            record = stored.record
            topic = (record.key or b"").decode()
            qos = int(dict(record.headers).get("mqtt.qos") or b"1")
            for name, (topic_filter, _) in SUBSCRIBERS.items():
                if qos and matches(
                    topic_filter.removeprefix("$share/").split("/", 1)[1]
                    if topic_filter.startswith("$share/")
                    else topic_filter,
                    topic,
                ):
                    wanted[name].append((topic, int(record.value or b"0")))
        qos_0 = {
            int(each.record.value or b"0")
            for each in self.bench.journal.stored
            if dict(each.record.headers).get("mqtt.qos") == b"0"
        }
        exactly = {
            int(each.record.value or b"0")
            for each in self.bench.journal.stored
            if dict(each.record.headers).get("mqtt.qos") == b"2"
        }
        for name, (_, qos) in SUBSCRIBERS.items():
            if name in {"g1", "g2", "g3", "h1", "h2"}:
                continue
            got = [each for each in self.receivers[name].got if each[1] not in qos_0]
            first = list(dict.fromkeys(got))
            assert set(first) == set(wanted[name]), name
            for topic in TOPICS:
                mine = [number for at, number in first if at == topic]
                assert mine == sorted(mine), (name, topic)
            if qos == 2:
                counted = [number for _, number in got if number in exactly]
                assert len(counted) == len(set(counted)), name
        for names, qos in ((("g1", "g2", "g3"), 1), (("h1", "h2"), 2)):
            got = [
                each for name in names for each in self.receivers[name].got if each[1] not in qos_0
            ]
            assert set(got) == set(wanted[names[0]]), names
            if qos == 2:
                counted = [number for _, number in got if number in exactly]
                assert len(counted) == len(set(counted)), names
        broker = self.bench.broker
        assert broker.departures.memory == 0
        assert not any(group.backlog or group._out for group in broker.subscriptions.groups())
        assert not any(session.in_flight or session.queued for session in broker.sessions.values())


@pytest.mark.parametrize("seed", range(100, 250))
@pytest.mark.parametrize("kills", [False, True])
def test_everyone_gets_what_it_should(seed: int, kills: bool) -> None:
    world = World(seed, kills=kills)
    for _ in range(700):
        world.step()
    world.finish()
    world.check()
