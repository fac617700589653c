"""Sessions that are away or slow: what waits for them is in the log, is bounded in memory, and comes once and in order."""

from __future__ import annotations

import random

import pytest

from headwater.edge.broker.backlog import STRETCHES_MAX, Cursor
from headwater.edge.broker.sessions import Session
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import (
    Acknowledgement,
    PacketType,
    Publish,
    Subscribe,
    SubscriptionOptions,
    Unsubscribe,
    Version,
)
from headwater.edge.mqtt.properties import Properties

from .harness import Bench
from .subscriber import DEFAULT, KEPT, back, drain, payloads, publishes, settle


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


@pytest.mark.parametrize("first", ["back", "error", "done"])
def test_what_happens_to_a_flight_in_one_session_is_nothing_to_the_others(first: str) -> None:
    """At QoS 1 one object stands for a delivery in every session that was sent it."""
    bench = Bench()
    bench.source.by_hand = True
    peers = [bench.connect(name, clean=False, properties=KEPT) for name in ("s", "t")]
    for peer in peers:
        peer.subscribe("a", qos=1)
    publisher = bench.connect("p")
    publisher.publish("a", b"1", id=1)
    publisher.publish("a", b"2", id=2)
    bench.sync()
    ids = [[each.packet_id for each in publishes(peer.take())] for peer in peers]
    assert ids == [[1, 2], [1, 2]]
    one, other = peers
    if first == "back":
        one.lose()
        one = back(bench)  # its messages are being read again …
    else:
        # PUBREC of a delivery at QoS 1 closes the connection, and nothing is done with
        kind = PacketType.PUBREC if first == "error" else PacketType.PUBACK
        one.send(Acknowledgement(kind, 1))
    other.lose()  # … while the other one goes
    other = back(bench, "t")
    for _ in range(4):
        bench.finish_reads()
    again = [(each.packet_id, each.payload, each.dup) for each in publishes(other.take())]
    assert again == [(1, b"1", True), (2, b"2", True)]
    got = [(each.packet_id, each.payload) for each in publishes(one.take())]
    assert got == ([(1, b"1"), (2, b"2")] if first == "back" else [])
    for peer in (other,) if first == "error" else (one, other):
        peer.send(Acknowledgement(PacketType.PUBACK, 2))
    left = {"back": 1, "error": 2, "done": 0}[first]
    assert bench.broker.sessions["s"].in_flight == left
    assert bench.broker.sessions["t"].in_flight == 1


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
