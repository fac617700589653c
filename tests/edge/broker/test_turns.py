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
