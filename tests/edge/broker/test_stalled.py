"""While the disk takes nothing: publishers wait, with little of theirs held; whoever sends no publish does not notice."""

from __future__ import annotations

import pytest

from headwater.core.record import Record, TopicPartition
from headwater.edge.broker.client import HELD_BYTES
from headwater.edge.broker.gathering import SMALL_BYTES
from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import (
    Acknowledgement,
    Connack,
    Connect,
    PacketType,
    Pingreq,
    Pingresp,
    Publish,
    Suback,
    Subscribe,
    SubscriptionOptions,
    Unsuback,
    Unsubscribe,
    Version,
    Will,
)
from headwater.edge.mqtt.properties import Properties

from .harness import Bench, Peer

PUBACK, PUBREC, PUBREL, PUBCOMP = (
    PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBREL, PacketType.PUBCOMP,
)  # fmt: skip
READING = encode_packet(Publish(topic="t", payload=bytes(100), qos=1, packet_id=1), Version.V5)


def stall(bench: Bench, *, overfull: bool = True) -> None:
    bench.journal.overfull = overfull
    bench.journal.stalled = None if overfull else "no space left on /data"
    bench.broker.tick()
    assert bench.broker.paused is not None


def go_on(bench: Bench) -> None:
    bench.journal.overfull, bench.journal.stalled = False, None
    bench.broker.tick()
    assert bench.broker.paused is None


@pytest.fixture(params=[True, False], ids=["overfull", "refusing"])
def bench(request: pytest.FixtureRequest) -> Bench:
    made = Bench()
    made.overfull = request.param  # type: ignore[attr-defined]
    return made


def test_who_pings_subscribes_and_comes_anew_is_served(bench: Bench) -> None:
    old = bench.connect("old", keep_alive=10)
    stall(bench, overfull=bench.overfull)  # type: ignore[attr-defined]
    old.send(Pingreq())
    assert old.take() == [Pingresp()]
    fresh = bench.connect("fresh", version=Version.V311)
    (suback,) = fresh.subscribe("a/#")
    assert isinstance(suback, Suback)
    fresh.send(Unsubscribe(packet_id=2, filters=("a/#",)))
    assert isinstance(fresh.take()[0], Unsuback)
    assert bench.journal.stored == []
    assert not bench.journal.notes


def test_a_publisher_is_held_answered_its_pings_and_never_closed_for_silence(bench: Bench) -> None:
    peer = bench.connect("p", keep_alive=10)
    stall(bench, overfull=bench.overfull)  # type: ignore[attr-defined]
    peer.publish("a", b"1", id=1)
    peer.send(Pingreq())
    peer.publish("a", b"2", id=2)
    peer.send(Pingreq(), Pingreq())
    assert peer.take() == [Pingresp()] * 3
    assert bench.journal.stored == []
    bench.wait(120)
    assert not peer.transport.closed, "it may do nothing else until its PUBACK comes"
    go_on(bench)
    assert [stored.record.value for stored in bench.journal.stored] == [b"1", b"2"]
    bench.sync()
    assert peer.take() == [Acknowledgement(PUBACK, 1), Acknowledgement(PUBACK, 2)]
    bench.wait(10)
    assert not peer.transport.closed, "keep-alive counts from when the disk accepted"
    bench.wait(10)
    assert peer.transport.closed


def test_a_subscriber_goes_on_acknowledging(bench: Bench) -> None:
    subscriber = bench.connect("s")
    subscriber.subscribe("t")
    publisher = bench.connect("p")
    publisher.publish("t", b"1", id=1)
    publisher.publish("t", b"2", qos=2, id=2)
    bench.sync()
    stall(bench, overfull=bench.overfull)  # type: ignore[attr-defined]
    ids = {each.qos: each.packet_id for each in subscriber.take() if isinstance(each, Publish)}
    subscriber.send(Acknowledgement(PUBACK, ids[1]), Acknowledgement(PUBREC, ids[2]))
    assert subscriber.take() == [Acknowledgement(PUBREL, ids[2])]
    subscriber.send(Acknowledgement(PUBCOMP, ids[2]))
    session = subscriber.client.session
    assert session is not None
    assert not session.outbound.in_flight


def test_little_is_held_of_a_flood_and_all_of_it_is_taken_later_in_order() -> None:
    bench = Bench()
    peer = bench.connect("p", version=Version.V311)
    stall(bench)
    sent = 0
    while peer.transport.reading:
        piece = READING[: sent % 7 + 1] if sent % 2 else READING
        data = encode_packet(
            Publish(topic="t", payload=b"%d" % sent + piece, qos=1, packet_id=sent + 1),
            Version.V311,
        )
        peer.send_raw(data[:50])
        if peer.transport.reading:
            peer.send_raw(data[50:])
        sent += 1
    assert HELD_BYTES < peer.client.gathered <= SMALL_BYTES
    assert bench.journal.stored == []
    held = peer.client.gathered
    go_on(bench)
    assert peer.transport.reading
    values = [stored.record.value or b"" for stored in bench.journal.stored]
    assert [int(value[: len(b"%d" % number)]) for number, value in enumerate(values)] == list(
        range(len(values))
    )
    assert len(values) in (sent - 1, sent)
    assert peer.client.gathered < held


def test_pings_cut_in_pieces_are_found_and_nothing_else_is_taken_for_one() -> None:
    bench = Bench()
    peer = bench.connect("p")
    stall(bench)
    tricky = encode_packet(
        Publish(topic="t", payload=b"\xc0\x00" * 50, qos=1, packet_id=9), Version.V5
    )
    stream = tricky + b"\xc0\x00" + tricky + b"\xc0\x00"
    for at in range(len(stream)):
        peer.send_raw(stream[at : at + 1])
    assert peer.take() == [Pingresp()] * 2
    assert peer.client.gathered == 2 * len(tricky)
    go_on(bench)
    assert [stored.record.value for stored in bench.journal.stored] == [b"\xc0\x00" * 50] * 2


def test_garbage_behind_a_held_publish_ends_the_connection_when_its_turn_comes() -> None:
    bench = Bench()
    peer, good = bench.connect("p"), bench.connect("good")
    stall(bench)
    peer.send_raw(READING + b"\xc0\xff\xff\xff\xff\xff")
    good.send(Pingreq())
    assert good.take() == [Pingresp()]
    assert not peer.transport.closed
    go_on(bench)
    assert len(bench.journal.stored) == 1
    assert peer.transport.closed


def test_what_first_came_to_wait_is_taken_first_and_the_rest_waits_where_it_is_enough_again() -> (
    None
):
    bench = Bench()
    peers = [bench.connect(str(number)) for number in range(3)]
    stall(bench)
    for number in (1, 0, 2):
        peers[number].publish("t", b"%d" % number)
    bench.journal.overfull = False
    append = bench.journal.append

    def fill(tp: TopicPartition, record: Record) -> int:
        offset = append(tp, record)
        bench.journal.overfull = len(bench.journal.stored) == 2
        return offset

    bench.journal.append = fill  # type: ignore[method-assign]
    bench.broker.tick()
    assert [stored.record.value for stored in bench.journal.stored] == [b"1", b"0"]
    assert bench.broker.paused is not None
    go_on(bench)
    assert [stored.record.value for stored in bench.journal.stored] == [b"1", b"0", b"2"]


KEPT = Properties(session_expiry_interval=100)


@pytest.mark.parametrize(
    "more",
    [{"clean_start": False}, {"properties": KEPT}, {"will": Will(topic="w", payload=b"", qos=1)}],
    ids=["resumed", "kept", "will"],
)
def test_a_connect_that_the_log_would_have_to_know_of_waits_for_room(
    more: dict[str, object],
) -> None:
    bench = Bench()
    stall(bench)
    peer = bench.peer()
    peer.send_raw(
        encode_packet(
            Connect(version=Version.V5, client_id="c", keep_alive=10, **more),  # type: ignore[arg-type]
            Version.V5,
        )
        + READING
    )
    bench.wait(60)
    assert peer.take() == []
    assert not peer.transport.closed, "its CONNECT came in time"
    assert not bench.journal.notes
    go_on(bench)
    bench.sync()
    bench.sync()
    answers = peer.take()
    assert isinstance(answers[0], Connack)
    assert answers[1] == Acknowledgement(PUBACK, 1)
    assert peer.transport.reading


def test_half_a_connect_is_not_waited_for_however_long_the_disk_takes() -> None:
    bench = Bench()
    stall(bench)
    loris = bench.peer()
    loris.send_raw(b"\x10\x20\x00")
    bench.wait(12)
    assert loris.transport.closed


@pytest.mark.parametrize("gone", ["knocking", "held"])
def test_who_goes_while_it_waits_leaves_nothing(gone: str) -> None:
    bench = Bench()
    peer = bench.connect("p") if gone == "held" else bench.peer()
    stall(bench)
    if gone == "held":
        peer.publish("t")
    else:
        peer.send(Connect(version=Version.V5, client_id="c", properties=KEPT))
    peer.lose()
    assert not bench.broker.held
    assert not bench.broker.knocking
    go_on(bench)
    assert bench.journal.stored == []


def floods(peer: Peer) -> None:
    for number in range(200):
        peer.send(
            Subscribe(packet_id=1, subscriptions=(SubscriptionOptions(f"f/{number}", 1),)),
            Unsubscribe(packet_id=2, filters=(f"f/{number}",)),
        )
        if not peer.transport.reading:
            return


def test_a_kept_session_puts_no_notes_into_a_commit_that_is_full() -> None:
    bench = Bench()
    kept = bench.connect("k", properties=KEPT)
    kept.take_raw()
    before = len(bench.journal.notes)
    stall(bench)
    floods(kept)
    bench.wait(30)  # in which progress would be noted
    assert len(bench.journal.notes) == before
    assert not kept.transport.reading
    assert kept.client.gathered <= SMALL_BYTES
    go_on(bench)
    bench.sync()
    assert all(isinstance(each, Suback | Unsuback) for each in kept.take())
    assert len(bench.journal.notes) > before
