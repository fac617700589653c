"""Who sends much that is costly is heard in turns, and others between them; what it sent keeps its order."""

from __future__ import annotations

import pytest

from headwater.edge.broker.client import TURN_PACKETS, TURN_S
from headwater.edge.broker.turns import CROWD, ROUND_S
from headwater.edge.mqtt.decoding import FILTERS_MAX
from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import (
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Publish,
    Subscribe,
    SubscriptionOptions,
    Unsubscribe,
    Version,
)
from headwater.edge.mqtt.reasons import Reason

from .harness import Bench, Peer

MANY = 100 * TURN_PACKETS


class Slow(Bench):
    """Each look at the clock finds it `step` later; turns are taken when `turn` says so."""

    def __init__(self, step: float = TURN_S * 0.6) -> None:
        super().__init__()
        self.asked: list[object] = []
        self.broker.turns.soon = self.asked.append
        look = self.clock.monotonic

        def monotonic() -> float:
            self.clock.advance(step)
            return look()

        self.clock.monotonic = monotonic  # type: ignore[method-assign]

    def turn(self) -> None:
        self.asked.clear()
        self.broker.turns.take()


def test_a_flood_of_pings_is_answered_in_turns_and_others_are_heard_between() -> None:
    bench = Slow()
    flood, good = bench.connect("flood"), bench.connect("good")
    flood.send_raw(b"\xc0\x00" * MANY)
    answered = len(flood.take())
    assert 0 < answered <= 4 * TURN_PACKETS
    assert not flood.transport.reading
    turns = 0
    while bench.asked:
        good.publish("t", id=turns % 100 + 1)
        bench.turn()
        turns += 1
        answered += len(flood.take())
        assert answered <= (turns * int(ROUND_S / TURN_S + 2) + 1) * 4 * TURN_PACKETS
    assert answered == MANY
    assert turns > 5
    assert len(bench.journal.stored) == turns
    assert flood.transport.reading
    flood.send(Pingreq())
    assert flood.take() == [Pingresp()]


def test_all_who_wait_have_their_turns_in_the_order_of_coming() -> None:
    bench = Slow(step=ROUND_S)  # one turn in each round
    floods = [bench.connect(str(number)) for number in range(5)]
    for peer in floods:
        peer.send_raw(b"\xc0\x00" * MANY)
        peer.take_raw()
    order: list[int] = []
    for _ in range(10):
        bench.turn()
        order += [number for number, peer in enumerate(floods) if peer.take_raw()]
    assert order == [0, 1, 2, 3, 4] * 2


def test_what_waits_for_a_turn_keeps_its_order() -> None:
    bench = Slow()
    peer = bench.connect("p")
    packets: list[Packet] = []
    for number in range(MANY):
        packets.append(
            Publish(
                topic="t",
                payload=b"%d" % number,
                qos=number % 2,
                packet_id=number if number % 2 else 0,
            )
        )
        packets.append(Pingreq())
    peer.send(*packets)
    while bench.asked:
        bench.turn()
    values = [int(stored.record.value or b"") for stored in bench.journal.stored]
    assert values == list(range(MANY))


def test_who_goes_while_it_waits_is_forgotten() -> None:
    bench = Slow()
    peer = bench.connect("p")
    peer.send_raw(b"\xc0\x00" * MANY)
    assert len(bench.broker.turns) == 1
    peer.lose()
    assert len(bench.broker.turns) == 0
    bench.turn()
    assert not bench.asked


def test_a_read_brings_little_while_many_wait() -> None:
    class Wires:
        read_bytes = 65_536
        share = 0
        unsent = 0

    bench = Slow(step=ROUND_S)
    wires = Wires()
    bench.broker.unsent.attach(wires)
    floods: list[Peer] = [bench.connect(str(number)) for number in range(CROWD + 1)]
    for peer in floods:
        assert wires.read_bytes == 65_536
        peer.send_raw(b"\xc0\x00" * MANY)
    assert wires.read_bytes < 4096
    while bench.asked:
        bench.turn()
    assert wires.read_bytes == 65_536


@pytest.mark.parametrize("kind", [Subscribe, Unsubscribe])
def test_a_packet_of_filters_ends_its_connection_before_they_are_all_read(kind: type) -> None:
    bench = Bench()
    peer = bench.connect("p")
    filters = ("a",) * (FILTERS_MAX + 1)
    packet = (
        Subscribe(
            packet_id=1, subscriptions=tuple(SubscriptionOptions(each, 0) for each in filters)
        )
        if kind is Subscribe
        else Unsubscribe(packet_id=1, filters=filters)
    )
    peer.send_raw(encode_packet(packet, Version.V5))
    (goodbye,) = peer.take()
    assert isinstance(goodbye, Disconnect)
    assert goodbye.reason is Reason.QUOTA_EXCEEDED


def test_no_more_is_taken_than_can_be_delivered_in_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A commit's deliveries are made in one go: what would make them many waits with its publisher."""
    monkeypatch.setattr("headwater.edge.broker.broker.DELIVERIES_MAX", 50)
    bench = Bench()
    subscribers = [bench.connect(f"s{number}") for number in range(10)]
    for each in subscribers:
        each.subscribe("t", qos=0)
    greedy, other = bench.connect("greedy"), bench.connect("other")
    for _ in range(20):
        greedy.publish("t", qos=0)
        if bench.broker.held:
            break
    assert len(bench.journal.stored) == 6
    assert bench.broker.paused is not None
    assert bench.broker.unready is None, "it is no trouble"
    other.publish("alone")
    other.send(Pingreq())
    assert other.take() == [Pingresp()]
    bench.sync()
    assert bench.broker.paused is None
    assert len(bench.journal.stored) == 8
    bench.sync()
    assert all(len(each.take()) == 7 for each in subscribers)
    assert bench.broker.gate.due == 0


def test_a_large_message_counts_as_several_deliveries() -> None:
    bench = Bench()
    bench.connect("s").subscribe("t")
    publisher = bench.connect("p")
    publisher.publish("t", bytes(100))
    assert bench.broker.gate.due == 1
    publisher.publish("t", bytes(50_000), id=2)
    assert bench.broker.gate.due == 1 + 13
    bench.sync()
    assert bench.broker.gate.due == 0


def test_who_gets_messages_of_before_a_subscription_is_searched_once_for_all_of_a_topic() -> None:
    bench = Bench()
    first, late = bench.connect("first"), bench.connect("late")
    first.subscribe("t", qos=0)
    publisher = bench.connect("p")
    for number in range(50):
        publisher.publish("t", id=number + 1)
    late.subscribe("t", qos=0)
    subscriptions = bench.broker.subscriptions
    searched: list[str] = []
    search = subscriptions._under
    subscriptions_class = type(subscriptions)

    def under(self: object, topic: str) -> object:
        searched.append(topic)
        return search(topic)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subscriptions_class, "_under", under)
        bench.sync()
    assert len(first.take()) == 50
    assert late.take() == []
    assert len(searched) <= 2
