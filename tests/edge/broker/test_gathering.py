"""Large packets that have not wholly arrived share one memory; small ones and other clients are unharmed."""

from __future__ import annotations

import pytest

from headwater.core.units import KIB, ByteSize
from headwater.edge.broker.gathering import PROGRESS_S
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt.aliases import TOPICS_BYTES_MAX, OutboundAliases
from headwater.edge.mqtt.connection import ALIASES_BYTES_MAX
from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import Connect, Disconnect, Packet, Publish, Version
from headwater.edge.mqtt.properties import Properties
from headwater.edge.mqtt.reasons import Reason

from .harness import Bench, Peer

LARGE = encode_packet(Publish(topic="t", payload=bytes(50 * KIB), qos=1, packet_id=1), Version.V5)
PART = 10 * KIB


def bench(room: int = 100 * KIB) -> Bench:
    return Bench(settings=MqttSettings(gather_memory_max=ByteSize(room)))


def begin(bench: Bench, name: str, size: int = PART) -> Peer:
    peer = bench.connect(name)
    peer.send_raw(LARGE[:size])
    return peer


def end(bench: Bench, peer: Peer, size: int = PART) -> list[Packet]:
    peer.send_raw(LARGE[size:])
    bench.sync()
    return peer.take()


def test_who_finds_no_room_is_not_read_until_another_is_done() -> None:
    room = bench()
    first, second = begin(room, "1"), begin(room, "2")
    assert first.transport.reading
    assert not second.transport.reading
    assert len(end(room, first)) == 1
    assert second.transport.reading
    assert len(end(room, second)) == 1
    assert room.broker.gathering.reserved == 0
    assert room.broker.gathering.waits == 1


@pytest.mark.parametrize("holder", [True, False])
def test_who_goes_gives_its_room_and_its_place_back(holder: bool) -> None:
    room = bench()
    first, second, third = (begin(room, name) for name in "123")
    (first if holder else second).lose()
    assert second.transport.reading is holder
    if not holder:
        end(room, first)
    assert third.transport.reading is not holder


def test_small_packets_are_taken_while_large_ones_wait() -> None:
    room = bench()
    begin(room, "1")
    begin(room, "2")
    other = room.connect("3")
    other.publish("t", b"reading")
    room.sync()
    assert len(other.take()) == 1


def test_a_packet_larger_than_all_the_room_comes_alone() -> None:
    room = bench(KIB)
    first, second = begin(room, "1"), begin(room, "2", 5000)
    assert first.transport.reading
    del second
    assert len(end(room, first)) == 1


def test_of_more_waiting_than_may_wait_the_newest_is_closed() -> None:
    room = bench(30 * KIB)
    peers = [begin(room, str(number)) for number in range(6)]
    assert [peer.transport.closed for peer in peers] == [False, False, False, False, True, True]
    (goodbye,) = peers[-1].take()
    assert isinstance(goodbye, Disconnect)
    assert goodbye.reason is Reason.SERVER_BUSY


def test_a_holder_that_stops_is_closed_where_others_wait_and_only_there() -> None:
    room = bench()
    first = begin(room, "1")
    room.wait(5 * PROGRESS_S)
    assert not first.transport.closed
    second = begin(room, "2")
    room.wait(3 * PROGRESS_S)
    assert first.transport.closed
    assert second.transport.reading


def test_a_holder_that_goes_on_is_not_closed() -> None:
    room = bench()
    first, second = begin(room, "1"), begin(room, "2")
    at = PART
    for _ in range(6):
        room.wait(PROGRESS_S / 2)
        first.send_raw(LARGE[at : at + 5000])
        at += 5000
    assert not first.transport.closed
    assert len(end(room, first, at)) == 1
    assert second.transport.reading


def test_what_comes_behind_a_connect_that_waits_is_counted_and_heard() -> None:
    room = bench()
    peer = room.peer()
    kept = Properties(session_expiry_interval=10)
    connect = Connect(version=Version.V5, client_id="c", clean_start=False, properties=kept)
    peer.send_raw(encode_packet(connect, Version.V5) + LARGE)
    assert room.broker.gathering.reserved == len(LARGE)
    room.sync()
    room.sync()
    assert len(peer.take()) == 2
    assert room.broker.gathering.reserved == 0


def test_topic_aliases_are_bounded_in_bytes() -> None:
    room = bench()
    peer = room.connect("c")
    length = ALIASES_BYTES_MAX // 4
    for alias in range(1, 6):
        topic = f"{alias}" * length
        peer.send(Publish(topic=topic, payload=b"", properties=Properties(topic_alias=alias)))
        assert peer.transport.closed is (alias == 5)
    ours = OutboundAliases(64)
    assert ours.find(b"x" * TOPICS_BYTES_MAX) == (1, False)
    assert ours.find(b"another") == (0, False)
    ours.unsent(b"x" * TOPICS_BYTES_MAX)
    assert ours.find(b"another") == (1, False)
