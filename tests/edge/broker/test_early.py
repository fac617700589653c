"""Streams whose owner chose not to wait for the disk: who is answered at once, who is not, and in which order."""

from __future__ import annotations

import pytest

from headwater.edge.mqtt.packets import Acknowledgement, Packet, PacketType, Publish, Version
from headwater.edge.streams import Durability, StreamSettings

from .harness import Bench

EARLY = StreamSettings(name="early", filters=("e/#",), durability=Durability.INTERVAL)


def bench() -> Bench:
    made = Bench(streams=(EARLY,))
    made.journal.early.add("early")
    return made


def pubacks(packets: list[Packet]) -> list[int]:
    assert all(isinstance(p, Acknowledgement) and p.kind is PacketType.PUBACK for p in packets)
    return [p.packet_id for p in packets if isinstance(p, Acknowledgement)]


@pytest.mark.parametrize("version", Version)
def test_an_early_stream_is_acknowledged_at_once_and_others_are_not(version: Version) -> None:
    made = bench()
    peer = made.connect(version=version)
    peer.publish("e/1", id=1)
    assert pubacks(peer.take()) == [1]
    peer.publish("s/1", id=2)
    assert peer.take() == []
    made.sync()
    assert pubacks(peer.take()) == [2]
    assert made.broker.tally.acknowledged == 2
    assert made.broker.tally.early == 1
    assert made.broker.tally.published == [0, 2, 0]


@pytest.mark.parametrize("together", [True, False])
def test_pubacks_keep_the_order_of_their_publishes(together: bool) -> None:
    """[MQTT-4.6.0-2]: what need not wait does not overtake what must."""
    made = bench()
    peer = made.connect()
    topics = ["e/1", "s/1", "e/1", "s/2", "e/2"]
    packets = [
        Publish(topic=topic, payload=b"x", qos=1, packet_id=id_)
        for id_, topic in enumerate(topics, 1)
    ]
    for run in [packets] if together else [[packet] for packet in packets]:
        peer.send(*run)
    assert pubacks(peer.take()) == [1]
    made.sync()
    assert pubacks(peer.take()) == [2, 3, 4, 5]
    peer.publish("e/1", id=6)
    assert pubacks(peer.take()) == [6]


def test_an_early_one_behind_a_sealed_commit_leaves_with_it() -> None:
    made = bench()
    peer = made.connect()
    peer.publish("s/1", id=1)
    sealed = made.journal.seal()
    peer.publish("e/1", id=2)
    made.journal.complete(sealed)
    assert pubacks(peer.take()) == [1, 2], "it need not wait for the commit that holds it"


def test_what_is_not_reserved_waits_like_all_others() -> None:
    made = bench()
    made.journal.reserved = False
    peer = made.connect()
    peer.publish("e/1", id=1)
    assert peer.take() == []
    made.sync()
    assert pubacks(peer.take()) == [1]


def test_exactly_once_always_waits_for_the_disk() -> None:
    made = bench()
    peer = made.connect()
    requests = made.journal.requests
    peer.publish("e/1", qos=2, id=1)
    assert peer.take() == []
    assert made.journal.requests > requests
    made.sync()
    assert peer.take() == [Acknowledgement(PacketType.PUBREC, 1)]


@pytest.mark.parametrize("qos", [0, 1])
def test_subscribers_of_an_early_stream_get_messages_at_once(qos: int) -> None:
    made = bench()
    reader = made.connect("reader")
    reader.subscribe("#", qos=0)
    peer = made.connect("writer")
    peer.publish("e/1", b"now", qos=qos)
    peer.publish("s/1", b"later", qos=qos)
    peer.send(Publish(topic="e/2", payload=b"kept", qos=qos, packet_id=qos, retain=True))
    assert [p.payload for p in reader.take() if isinstance(p, Publish)] == [b"now", b"kept"]
    made.sync()
    assert [p.payload for p in reader.take() if isinstance(p, Publish)] == [b"later"]


def test_a_reader_of_its_own_messages_is_served_when_its_packet_is_done() -> None:
    made = bench()
    peer = made.connect()
    peer.subscribe("e/#", qos=0)
    peer.publish("e/1", b"echo", id=1)
    kinds = [type(packet) for packet in peer.take()]
    assert sorted(kind.__name__ for kind in kinds) == ["Acknowledgement", "Publish"]
