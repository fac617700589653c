"""Sessions that are away or slow: what waits for them is in the log, is bounded in memory, and comes once and in order."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from headwater.core.record import TopicPartition
from headwater.edge.broker.backlog import STRETCHES_MAX, Cursor
from headwater.edge.broker.outboundstate import OutboundState, unpack
from headwater.edge.broker.sessions import Session
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import (
    Acknowledgement,
    Connect,
    Packet,
    PacketType,
    Publish,
    Subscribe,
    SubscriptionOptions,
    Unsubscribe,
    Version,
)
from headwater.edge.mqtt.properties import Properties
from headwater.edge.mqtt.reasons import Reason

from .harness import Bench, Peer

KEPT = Properties(session_expiry_interval=100_000)
DEFAULT = TopicPartition("default", 0)


def publishes(packets: list[Packet]) -> list[Publish]:
    return [packet for packet in packets if isinstance(packet, Publish)]


def payloads(packets: list[Packet]) -> list[bytes]:
    return [packet.payload for packet in publishes(packets)]


def back(bench: Bench, client_id: str = "s", properties: Properties = KEPT) -> Peer:
    peer = bench.peer()
    peer.send(
        Connect(version=Version.V5, client_id=client_id, clean_start=False, properties=properties)
    )
    bench.keep_promises()
    return peer


def drain(peer: Peer, bench: Bench) -> list[Publish]:
    """Take and acknowledge until nothing comes."""
    found: list[Publish] = []
    while packets := settle(peer, bench):
        for packet in packets:
            if isinstance(packet, Publish):
                found.append(packet)
                if packet.qos == 1:
                    peer.send(Acknowledgement(PacketType.PUBACK, packet.packet_id))
                elif packet.qos == 2:
                    peer.send(Acknowledgement(PacketType.PUBREC, packet.packet_id))
            elif isinstance(packet, Acknowledgement) and packet.kind is PacketType.PUBREL:
                peer.send(Acknowledgement(PacketType.PUBCOMP, packet.packet_id))
    return found


def settle(peer: Peer, bench: Bench) -> list[Packet]:
    """What comes when the disk has done what it was asked to."""
    bench.finish_reads()
    bench.keep_promises()
    return peer.take()


def absent(bench: Bench, *filters: str, qos: int = 1) -> Session:
    subscriber = bench.connect("s", clean=False, properties=KEPT)
    subscriber.subscribe(*filters, qos=qos)
    subscriber.lose()
    return bench.broker.sessions["s"]


def test_an_absent_session_costs_no_memory_per_message() -> None:
    bench = Bench()
    session = absent(bench, "a/#")
    publisher = bench.connect("p")
    for number in range(5000):
        publisher.publish("a/b", b"%d" % number, id=number % 100 + 1)
        if number % 100 == 99:
            bench.sync()
            publisher.take()
    outbound = session.outbound
    assert (outbound.backlog.queued, outbound.backlog.memory, outbound.in_flight) == (0, 0, 0)
    (cursor,) = outbound.backlog.cursors.values()
    assert [(each.start, each.end) for each in cursor.stretches] == [(0, 5000)]
    assert bench.broker.departures.memory == 0
    assert session.queued == 5000
    got = drain(back(bench), bench)
    assert [int(each.payload) for each in got] == list(range(5000))
    assert not any(each.dup for each in got)
    assert not outbound.backlog
    assert bench.broker.departures.memory == 0


def test_only_stretches_with_matches_are_read_again() -> None:
    bench = Bench()
    session = absent(bench, "cmd/+")
    publisher = bench.connect("p")
    for number in range(3000):
        publisher.publish("cmd/1" if number % 1000 == 500 else "data", b"%d" % number, id=1)
        bench.sync()
    publisher.take()
    cursor = session.outbound.backlog.cursors[DEFAULT]
    assert [(each.start, each.end) for each in cursor.stretches] == [
        (500, 501), (1500, 1501), (2500, 2501),
    ]  # fmt: skip
    assert payloads(list(drain(back(bench), bench))) == [b"500", b"1500", b"2500"]
    assert bench.source.reads <= 3


def test_what_comes_while_it_is_read_again_comes_after_it_and_once() -> None:
    bench = Bench()
    bench.source.by_hand = True
    absent(bench, "a")
    publisher = bench.connect("p")
    for number in range(10):
        publisher.publish("a", b"%d" % number, id=number + 1)
    bench.sync()
    peer = back(bench)
    assert len(bench.source.waiting) == 1
    for number in range(10, 20):  # the read was asked for, and is not done
        publisher.publish("a", b"%d" % number, id=number + 1)
        if number % 3 == 0:
            bench.sync()
    bench.finish_reads()
    bench.sync()
    publisher.publish("a", b"20", id=30)
    bench.sync()
    assert [int(each.payload) for each in drain(peer, bench)] == list(range(21))
    assert not bench.broker.sessions["s"].outbound.backlog


def test_a_slow_subscriber_falls_back_to_the_log_and_catches_up() -> None:
    bench = Bench(settings=MqttSettings(burst_messages_max=10))
    publisher = bench.connect("p")
    slow = bench.connect("s", properties=Properties(receive_maximum=5))
    slow.subscribe("a", qos=1)
    for number in range(200):
        publisher.publish("a", b"%d" % number, id=number + 1)
    bench.sync()
    outbound = bench.broker.sessions["s"].outbound
    assert (outbound.in_flight, outbound.backlog.queued, outbound.backlog.behind) == (5, 10, 185)
    assert [int(each.payload) for each in drain(slow, bench)] == list(range(200))
    publisher.publish("a", b"live", id=500)
    bench.sync()
    assert payloads(slow.take()) == [b"live"]
    assert bench.source.reads > 0


def test_in_flight_is_sent_again_first_with_dup_and_its_identifier_from_the_log() -> None:
    bench = Bench()
    publisher = bench.connect("p")
    subscriber = bench.connect("s", properties=KEPT)
    subscriber.subscribe("a", qos=1)
    for number in range(3):
        publisher.publish("a", b"%d" % number, id=number + 1)
    bench.sync()
    first = publishes(subscriber.take())
    subscriber.send(Acknowledgement(PacketType.PUBACK, first[0].packet_id))
    subscriber.lose()
    assert all(
        flight.message is None for flight in bench.broker.sessions["s"].outbound._flights.values()
    )
    publisher.publish("a", b"3", id=4)
    bench.sync()
    again = publishes(back(bench).take())
    assert [(each.payload, each.dup) for each in again] == [
        (b"1", True), (b"2", True), (b"3", False),
    ]  # fmt: skip
    assert [each.packet_id for each in again[:2]] == [each.packet_id for each in first[1:]]


def test_what_was_retired_before_it_was_read_is_counted_and_the_session_goes_on() -> None:
    bench = Bench()
    absent(bench, "a")
    publisher = bench.connect("p")
    for number in range(10):
        publisher.publish("a", b"%d" % number, id=number + 1)
    bench.sync()
    bench.journal.starts[DEFAULT] = 4
    assert payloads(list(drain(back(bench), bench))) == [b"4", b"5", b"6", b"7", b"8", b"9"]
    assert bench.broker.tally.delivery_dropped == {"retired before it was read": 4}


@pytest.mark.parametrize("qos", [1, 2])
def test_a_flight_that_was_retired_is_given_up_and_its_identifier_freed(qos: int) -> None:
    bench = Bench()
    publisher = bench.connect("p")
    subscriber = bench.connect("s", properties=KEPT)
    subscriber.subscribe("a", qos=2)
    publisher.publish("a", b"0", qos=qos)
    bench.sync()
    bench.keep_promises()
    assert payloads(subscriber.take()) == [b"0"]
    subscriber.lose()
    publisher.publish("a", b"1", qos=qos, id=2)
    bench.sync()
    bench.journal.starts[DEFAULT] = 1
    peer = back(bench)
    _, *rest = settle(peer, bench)
    if qos == 2:  # the receiver may know the identifier
        assert rest.pop(0) == Acknowledgement(PacketType.PUBREL, 1)
        peer.send(Acknowledgement(PacketType.PUBCOMP, 1))
        rest += settle(peer, bench)
    assert payloads(rest) == [b"1"]
    assert bench.broker.tally.delivery_dropped == {"retired in flight": 1}
    assert bench.broker.sessions["s"].in_flight == 1


def test_qos_0_is_neither_kept_for_the_absent_nor_found_again_in_the_log() -> None:
    bench = Bench()
    absent(bench, "a")
    publisher = bench.connect("p")
    for number in range(6):
        publisher.publish("a", b"%d" % number, qos=number % 2, id=number + 1)
    bench.sync()
    assert payloads(list(drain(back(bench), bench))) == [b"1", b"3", b"5"]


def test_a_new_subscription_does_not_reach_back_into_what_is_read_again() -> None:
    bench = Bench(settings=MqttSettings(burst_messages_max=1))
    publisher = bench.connect("p")
    slow = bench.connect("s", properties=Properties(receive_maximum=1))
    slow.subscribe("a", qos=1)
    for number in range(10):
        publisher.publish("a", b"a%d" % number, id=number + 1)
        publisher.publish("b", b"b%d" % number, id=number + 100)
    bench.sync()
    publisher.publish("a", b"late", id=50)
    publisher.publish("b", b"not durable when b was subscribed to", id=51)
    got = publishes(slow.take())
    slow.send(Subscribe(packet_id=9, subscriptions=(SubscriptionOptions("b", 1),)))
    publisher.publish("b", b"new", id=52)
    bench.sync()
    slow.send(Acknowledgement(PacketType.PUBACK, got[0].packet_id))
    got += drain(slow, bench)
    assert [each.payload for each in got] == [b"a%d" % n for n in range(10)] + [b"late", b"new"]
    assert not bench.broker.sessions["s"].outbound._floors


def test_what_is_read_again_keeps_the_rules_of_subscriptions() -> None:
    bench = Bench()
    subscriber = bench.connect("s", properties=KEPT)
    for identifier, options in enumerate(
        (
            SubscriptionOptions("a/#", 1, retain_as_published=True),
            SubscriptionOptions("a/+", 2, retain_as_published=True),
            SubscriptionOptions("own", 1, no_local=True),
        ),
        5,
    ):
        properties = Properties(subscription_identifiers=(identifier,))
        subscriber.send(Subscribe(packet_id=1, subscriptions=(options,), properties=properties))
    bench.keep_promises()
    subscriber.client.pause_writing()
    subscriber.take()
    bench.broker.departures.messages_max = 0  # everything by way of the log
    publisher = bench.connect("p")
    publisher.send(Publish(topic="a/b", payload=b"r", qos=2, retain=True, packet_id=1))
    publisher.publish("own", b"theirs", qos=1, id=2)
    subscriber.client.data_received(  # what it sends is taken, though it does not read
        encode_packet(Publish(topic="own", payload=b"mine", qos=1, packet_id=7), Version.V5)
    )
    bench.sync()
    subscriber.client.resume_writing()
    got = drain(subscriber, bench)
    assert [each.payload for each in got] == [b"r", b"theirs"]
    assert (got[0].qos, got[0].retain) == (2, True)
    assert sorted(got[0].properties.subscription_identifiers) == [5, 6]
    assert bench.broker.tally.replayed >= 2


def test_what_was_unsubscribed_is_not_read_again() -> None:
    bench = Bench()
    bench.source.by_hand = True
    session = absent(bench, "a", "b")
    publisher = bench.connect("p")
    publisher.publish("a", b"a", id=1)
    publisher.publish("b", b"b", id=2)
    bench.sync()
    peer = back(bench)
    peer.send(Unsubscribe(packet_id=1, filters=("a",)))
    bench.finish_reads()
    assert payloads(list(drain(peer, bench))) == [b"b"]
    assert not session.outbound.backlog


def test_a_failed_read_is_tried_again_and_nothing_is_lost() -> None:
    bench = Bench()
    absent(bench, "a")
    publisher = bench.connect("p")
    publisher.publish("a", b"1")
    bench.sync()
    bench.source.failing = True
    peer = back(bench)
    assert publishes(peer.take()) == []
    bench.source.failing = False
    bench.wait(2)
    assert payloads(peer.take()) == [b"1"]


def test_a_thousand_sessions_that_return_share_one_memory_and_all_get_everything() -> None:
    settings = MqttSettings(replay_memory_max=64 * 1024, replay_read_bytes=4096)  # type: ignore[arg-type]
    bench = Bench(settings=settings)
    names = [f"s{number}" for number in range(300)]
    for name in names:
        peer = bench.connect(name, properties=KEPT)
        peer.subscribe("a", qos=1)
        peer.lose()
    publisher = bench.connect("p")
    for number in range(120):
        publisher.publish("a", b"%04d" % number + bytes(100), id=number + 1)
    bench.sync()
    peers = [
        back(bench, name, Properties(session_expiry_interval=9, receive_maximum=3))
        for name in names
    ]
    peak = bench.broker.departures.memory
    got: dict[str, list[bytes]] = {name: [] for name in names}
    for _ in range(1000):
        moved = False
        for name, peer in zip(names, peers, strict=True):
            for packet in publishes(peer.take()):
                moved = True
                got[name].append(packet.payload[:4])
                peer.send(Acknowledgement(PacketType.PUBACK, packet.packet_id))
            peak = max(peak, bench.broker.departures.memory)
        bench.wait(0.5)
        if not moved and not bench.broker.departures.replaying:
            break
    assert all(each == [b"%04d" % n for n in range(120)] for each in got.values())
    assert peak <= 64 * 1024 + 4 * 8192
    assert bench.broker.departures.memory == 0


def test_one_that_acknowledges_nothing_gives_its_memory_to_those_who_wait() -> None:
    settings = MqttSettings(replay_memory_max=8192, replay_read_bytes=4096)  # type: ignore[arg-type]
    bench = Bench(settings=settings)
    for name in ("stuck1", "stuck2", "good"):
        peer = bench.connect(name, properties=KEPT)
        peer.subscribe("a", qos=1)
        peer.lose()
    publisher = bench.connect("p")
    for number in range(200):
        publisher.publish("a", b"%04d" % number + bytes(100), id=number + 1)
    bench.sync()
    small = Properties(session_expiry_interval=9, receive_maximum=1)
    back(bench, "stuck1", small)
    back(bench, "stuck2", small)
    good = back(bench, "good", small)
    got: list[Publish] = []
    for _ in range(400):
        bench.wait(1)
        for packet in publishes(good.take()):
            got.append(packet)
            good.send(Acknowledgement(PacketType.PUBACK, packet.packet_id))
    assert [each.payload[:4] for each in got] == [b"%04d" % n for n in range(200)]


# --- durable state ------------------------------------------------------------------------------------------------


class MemoryBook:
    """Notes outbound states in the memory journal; `survivors` are those whose commit became durable."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.notes: list[tuple[int, str, bytes]] = []

    def outbound(self, session: Session) -> int:
        commit = self._bench.journal.open_commit
        self._bench.journal.note(7, b"")
        self.notes.append((commit, session.client_id, session.outbound_state()))
        return commit

    def survivor(self, client_id: str) -> OutboundState | None:
        durable = self._bench.journal.durable
        states = [p for c, who, p in self.notes if who == client_id and c <= durable]
        return unpack(states[-1]) if states else None


def with_book(settings: MqttSettings | None = None) -> tuple[Bench, MemoryBook]:
    bench = Bench(settings=settings)
    book = MemoryBook(bench)
    bench.broker.departures.book = book
    return bench, book


def restarted(
    bench: Bench, book: MemoryBook, subscribe: Callable[[Bench, str, Session], None], *names: str
) -> tuple[Bench, MemoryBook]:
    """The process is killed: what is durable is there, and nothing else."""
    after = Bench(settings=bench.broker.settings, journal=bench.journal.crashed())
    again = MemoryBook(after)
    again.notes = [note for note in book.notes if note[0] <= after.journal.durable]
    after.broker.departures.book = again
    for name in names:
        session = Session(name, after.broker.departures)
        session.expiry_s = 1e6
        after.broker.sessions[name] = session
        subscribe(after, name, session)
        session.outbound.restore(book.survivor(name))
    after.broker.fanout.restored()
    return after, again


def to(topic_filter: str, qos: int) -> Callable[[Bench, str, Session], None]:
    def subscribe(bench: Bench, _: str, session: Session) -> None:
        bench.broker.subscriptions.add(session, SubscriptionOptions(topic_filter, qos), 0)

    return subscribe


def test_a_qos_2_publish_leaves_only_when_its_flight_is_durable_and_pubrel_when_released_is() -> (
    None
):
    bench, book = with_book()
    publisher, subscriber = bench.connect("p"), bench.connect("s", properties=KEPT)
    subscriber.subscribe("a", qos=2)
    publisher.publish("a", b"1", qos=2)
    bench.sync()
    assert subscriber.take() == []
    bench.sync()
    (publish,) = publishes(subscriber.take())
    state = book.survivor("s")
    assert state is not None
    assert [(each.packet_id, each.offset, each.released) for each in state.flights] == [
        (publish.packet_id, 0, False)
    ]
    subscriber.send(Acknowledgement(PacketType.PUBREC, publish.packet_id))
    subscriber.send(Acknowledgement(PacketType.PUBREC, publish.packet_id))
    assert subscriber.take() == []
    bench.sync()
    assert subscriber.take() == [Acknowledgement(PacketType.PUBREL, publish.packet_id)]
    state = book.survivor("s")
    assert state is not None
    assert state.flights[0].released


def test_a_session_that_ends_with_its_connection_waits_for_no_note() -> None:
    bench, book = with_book()
    publisher, subscriber = bench.connect("p"), bench.connect("s")
    subscriber.subscribe("a", qos=2)
    publisher.publish("a", b"1", qos=2)
    bench.sync()
    assert payloads(subscriber.take()) == [b"1"]
    assert book.notes == []


@pytest.mark.parametrize("seed", range(30))
def test_qos_2_is_delivered_exactly_once_and_in_order_across_kills(seed: int) -> None:
    """One kept subscriber with a receiver that keeps its QoS 2 identifiers; the broker is killed again and again."""
    rng = random.Random(seed)
    settings = MqttSettings(
        burst_messages_max=rng.choice([1, 5, 500]), inflight_max=rng.choice([1, 3, 20])
    )
    bench, book = with_book(settings)
    bench.source.by_hand = True
    peer = bench.connect("s", properties=KEPT)
    peer.subscribe("a", qos=2)
    bench.sync()
    publisher = bench.connect("p")
    received: list[int] = []
    pending: set[int] = set()  # identifiers between PUBLISH and PUBREL at the receiver
    sent = 0
    alive = True
    for step in range(600):
        action = rng.random()
        if action < 0.35 and step < 500:
            publisher.publish("a", b"%d" % sent, qos=2, id=sent + 1)
            publisher.send(Acknowledgement(PacketType.PUBREL, sent + 1))
            sent += 1
        elif action < 0.6 or step >= 500:
            bench.sync()
            bench.finish_reads()
        elif action < 0.65 and alive:
            peer.lose()
            alive = False
        elif action < 0.68:
            # what was not durable is gone; its publisher would send it again, so it is sent again here
            durable = len(bench.journal.crashed().values)
            bench, book = restarted(bench, book, to("a", 2), "s")
            bench.source.by_hand = True
            publisher = bench.connect("p")
            sent = durable
            alive = False
        if not alive and (action > 0.8 or step >= 500):
            peer = back(bench)
            alive = True
        if alive:
            packets = peer.take()
            for packet in packets:
                if isinstance(packet, Publish):
                    if packet.packet_id not in pending:
                        pending.add(packet.packet_id)
                        received.append(int(packet.payload))
                    peer.send(Acknowledgement(PacketType.PUBREC, packet.packet_id))
                elif isinstance(packet, Acknowledgement) and packet.kind is PacketType.PUBREL:
                    pending.discard(packet.packet_id)
                    peer.send(Acknowledgement(PacketType.PUBCOMP, packet.packet_id, Reason.SUCCESS))
    for _ in range(300):
        bench.sync()
        bench.finish_reads()
        for packet in peer.take():
            if isinstance(packet, Publish):
                if packet.packet_id not in pending:
                    pending.add(packet.packet_id)
                    received.append(int(packet.payload))
                peer.send(Acknowledgement(PacketType.PUBREC, packet.packet_id))
            elif isinstance(packet, Acknowledgement) and packet.kind is PacketType.PUBREL:
                pending.discard(packet.packet_id)
                peer.send(Acknowledgement(PacketType.PUBCOMP, packet.packet_id))
    assert received == list(range(sent)), seed


# --- the cursor by itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(50))
def test_a_cursor_covers_what_was_noted_in_few_stretches(seed: int) -> None:
    rng = random.Random(seed)
    cursor = Cursor()
    noted: set[int] = set()
    offset = 1000
    for _ in range(300):
        offset += rng.choice([1, 1, 1, 5, 300, 1000])
        cursor.note(offset)
        noted.add(offset)
    for at in (900, 899, 100):
        cursor.put_first(at)
        noted.add(at)
    assert len(cursor.stretches) <= STRETCHES_MAX + 2
    assert cursor.count == len(noted)
    drawn = {at for at in range(offset + 10) if cursor.stretches and cursor.passes(at)}
    assert noted <= drawn
    assert not cursor.stretches
