"""What a new subscription is owed of what is retained: SUBACK promises it, whatever becomes of the connection, or of the
edge, before all of it was sent."""

from __future__ import annotations

import random

import pytest

from headwater.edge.broker import fanout
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt.packets import Acknowledgement, Packet, PacketType, Publish, Unsubscribe
from headwater.edge.mqtt.properties import Properties

from .harness import Bench, Peer
from .machine import Machine
from .subscriber import DEFAULT, KEPT, back, drain, payloads, publishes, settle

NARROW = Properties(session_expiry_interval=100_000, receive_maximum=1)
TOPICS = 6


class Life(Machine):
    def finish_reads(self) -> None:
        """Its log is read at once."""


def retain(bench: Bench, topic: str, payload: bytes, qos: int = 1) -> None:
    publisher = bench.connect("p")
    packet_id = 1 if qos else 0
    publisher.send(Publish(topic=topic, payload=payload, qos=qos, retain=True, packet_id=packet_id))
    bench.keep_promises()
    publisher.lose()


def with_retained(bench: Bench, qos: int) -> None:
    for number in reversed(range(TOPICS)):
        retain(bench, f"t/{number}", b"%d" % number, qos)


def subscribe(peer: Peer, bench: Bench, topic_filter: str, qos: int) -> list[Packet]:
    """Returns what it is sent at once."""
    packets = peer.subscribe(topic_filter, qos=qos)
    bench.keep_promises()
    return packets + peer.take()


def told(found: list[Publish]) -> list[tuple[bytes, bool]]:
    return [(each.payload, each.retain) for each in found]


@pytest.mark.parametrize("qos", [1, 2])
def test_what_was_not_sent_when_the_connection_ended_comes_when_the_session_goes_on(
    qos: int,
) -> None:
    bench = Bench()
    with_retained(bench, qos)
    peer = bench.connect("s", clean=False, properties=NARROW)
    assert payloads(subscribe(peer, bench, "t/#", qos)) == [b"0"]
    peer.lose()
    retain(bench, "t/4", b"new", qos)
    retain(bench, "t/3", b"", qos)
    found = told(drain(back(bench), bench))
    assert found == [
        *[(b"%d" % number, True) for number in (0, 1, 2, 5)],
        (b"new", False),
        (b"", False),
    ]
    assert bench.broker.sessions["s"].outbound.owed == {}


def test_it_is_not_owed_after_unsubscribing_nor_at_qos_0() -> None:
    bench = Bench()
    with_retained(bench, 1)
    peer = bench.connect("s", clean=False, properties=NARROW)
    peer.subscribe("t/#", qos=1)
    peer.subscribe("t/+", qos=0)
    bench.keep_promises()
    peer.send(Unsubscribe(packet_id=9, filters=("t/#",)))
    bench.keep_promises()
    peer.lose()
    assert [each.payload for each in drain(back(bench), bench)] == [b"0"]  # that was in flight


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("sent", [1, 3])
def test_it_comes_after_a_power_cut_and_what_may_have_been_sent_with_dup(
    sent: int, checkpointed: bool
) -> None:
    machine = Life()
    with_retained(machine, 1)
    peer = machine.connect("s", clean=False, properties=NARROW)
    packets = subscribe(peer, machine, "t/#", 1)
    for number in range(sent):
        (packet,) = publishes(packets)
        assert packet.payload == b"%d" % number
        if number < sent - 1:
            peer.send(Acknowledgement(PacketType.PUBACK, packet.packet_id))
            packets = peer.take()
    if checkpointed:
        machine.checkpoint()
    machine.power_cut(keep=0.0)
    found = drain(back(machine), machine)
    numbers = [int(each.payload) for each in found]
    assert numbers == list(range(numbers[0], TOPICS))
    assert numbers[0] <= sent - 1
    assert all(each.retain for each in found)
    assert all(each.dup for each in found[:sent])


@pytest.mark.parametrize("seed", range(5))
def test_it_comes_exactly_once_at_qos_2_whenever_the_power_goes(seed: int) -> None:
    rng = random.Random(seed)
    machine = Life()
    with_retained(machine, 2)
    peer = machine.connect("s", clean=False, properties=NARROW)
    packets = subscribe(peer, machine, "t/#", 2)
    received: list[bytes] = []
    begun: set[int] = set()
    for _ in range(100):
        for packet in packets:
            if isinstance(packet, Publish):
                if packet.packet_id not in begun:
                    begun.add(packet.packet_id)
                    received.append(packet.payload)
                peer.send(Acknowledgement(PacketType.PUBREC, packet.packet_id))
            elif isinstance(packet, Acknowledgement) and packet.kind is PacketType.PUBREL:
                begun.discard(packet.packet_id)
                peer.send(Acknowledgement(PacketType.PUBCOMP, packet.packet_id))
        if rng.random() < 0.5:
            machine.power_cut(keep=rng.choice((0.0, 0.5)))
            peer = back(machine, properties=NARROW)
        packets = settle(peer, machine)
    assert received == [b"%d" % number for number in range(TOPICS)]


def test_qos_0_is_not_sent_twice_because_the_power_went() -> None:
    machine = Life()
    with_retained(machine, 0)
    peer = machine.connect("s", clean=False, properties=KEPT)
    assert len(publishes(subscribe(peer, machine, "t/#", 1))) == TOPICS
    machine.power_cut(keep=0.0)
    assert drain(back(machine), machine) == []


@pytest.mark.parametrize("qos", [1, 2])
def test_what_is_in_flight_and_retained_still_outlives_its_record(qos: int) -> None:
    bench = Bench()
    retain(bench, "t", b"kept", qos)
    retain(bench, "u", b"replaced", qos)
    peer = bench.connect("s", clean=False, properties=KEPT)
    assert payloads(subscribe(peer, bench, "+", qos)) == [b"kept", b"replaced"]
    peer.lose()
    retain(bench, "u", b"new", qos)
    bench.journal.starts[DEFAULT] = 2  # both records are gone
    found = publishes(settle(back(bench), bench))
    assert [(each.payload, each.retain, each.dup) for each in found] == [
        (b"kept", True, True),
        (b"new", False, False),
    ]
    assert bench.broker.tally.delivery_dropped == {"retired in flight": 1}


def test_who_returns_again_and_again_pays_for_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """And beyond what one packet may ask for, the rest waits for the next return."""
    monkeypatch.setattr(fanout, "COMPARISONS_MAX", 2 * TOPICS)
    bench = Bench(settings=MqttSettings(inflight_max=1))
    with_retained(bench, 1)
    peer = bench.connect("s", clean=False, properties=KEPT)
    for topic_filter in ("#", "+/#", "t/#", "t/+"):
        peer.subscribe(topic_filter, qos=1)
    bench.keep_promises()
    peer.lose()
    session = bench.broker.sessions["s"]
    assert len(session.outbound.owed) == 4
    # the first filter's search and what it found, and a second search that is not made
    assert bench.broker.fanout.resume(session) == TOPICS + TOPICS - 1 + TOPICS
    found: list[bytes] = []
    while session.outbound.owed:
        peer = back(bench)
        found += [each.payload for each in drain(peer, bench)]
        peer.lose()
    assert sorted(found) == sorted(4 * [b"%d" % number for number in range(TOPICS)])
