"""What is kept of outbound sides across kills of the process: QoS 2 exactly once, groups, positions."""

from __future__ import annotations

import random

import pytest

from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt.packets import Acknowledgement, PacketType, Publish
from headwater.edge.mqtt.reasons import Reason

from .subscriber import KEPT, back, payloads, publishes, restarted, to, with_book


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


def test_a_state_that_nothing_changed_is_noted_again_every_hour_and_at_the_end() -> None:
    bench, book = with_book()
    bench.connect("quiet", properties=KEPT).subscribe("cmd/#", qos=1)
    publisher = bench.connect("p")

    def noted() -> int:
        state = book.survivor("quiet")
        assert state is not None
        return state.positions[0].next if state.positions else 0

    for number in range(10):
        publisher.publish("data", b"x", id=number + 1)
    bench.sync()
    assert noted() == 0
    bench.wait(3700)
    bench.sync()
    assert noted() == 10
    publisher.publish("data", b"x", id=50)
    bench.sync()
    bench.broker.close()
    bench.sync()
    assert noted() == 11
