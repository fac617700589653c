"""Sections 3.3 to 3.7, 4.3 to 4.6, 4.9: acknowledgements, repeats, order, quotas, what is sent again."""

from __future__ import annotations

import pytest

from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt.packets import Version

from ..harness import Bench
from .wire import (
    MALFORMED,
    PINGREQ,
    PINGRESP,
    PROTOCOL,
    V5,
    Wire,
    ack,
    arrived,
    both,
    connect,
    covers,
    expect_refused,
    kept,
    number,
    opened,
    packet,
    pair_of,
    publish,
    subscribe,
)

PUBACK, PUBREC, PUBREL, PUBCOMP = 0x40, 0x50, 0x62, 0x70


# --- in -----------------------------------------------------------------------------------------------------------


@both
@covers(v4="3.3.1-4", v5="3.3.1-4")
def test_qos_3_closes(version: Version) -> None:
    for flags in (6, 7, 14, 15):
        expect_refused(opened(Bench(), version), publish(version, flags=flags, id=1), MALFORMED)


@both
@covers(v4="3.3.1-2", v5="3.3.1-2")
def test_dup_at_qos_0_closes(version: Version) -> None:
    expect_refused(opened(Bench(), version), publish(version, flags=8), MALFORMED)


@both
@covers(v4="3.3.4-1 4.3.2-2", v5="3.3.4-1 4.3.2-4")
def test_ownership_is_taken_when_the_disk_has_it(version: Version) -> None:
    wire = opened(Bench(), version)
    wire.peer.send_raw(publish(version, flags=2, id=1) + publish(version, flags=4, id=2))
    assert wire.peer.take_raw() == b""
    assert wire.hear() == ack(PUBACK, 1) + ack(PUBREC, 2)


@both
@covers(v4="4.3.2-2", v5="4.3.2-5")
def test_after_puback_the_identifier_is_a_new_message(version: Version) -> None:
    wire = opened(Bench(), version)
    for payload in (b"1", b"2"):
        assert wire.say(publish(version, payload=payload, flags=2, id=1)) == ack(PUBACK, 1)
    assert wire.bench.journal.values == [b"1", b"2"]


@both
@covers(v4="4.3.3-2", v5="4.3.3-8 4.3.3-10 4.3.3-11 4.3.3-12")
def test_qos_2_is_taken_once_until_its_release(version: Version) -> None:
    bench = Bench()
    reader, wire = opened(bench, version, b"r"), opened(bench, version, b"w")
    reader.say(subscribe(version, (b"a", 0)))
    once = publish(version, payload=b"1", flags=4, id=7)
    assert wire.say(once) == ack(PUBREC, 7)
    assert wire.say(publish(version, payload=b"1", flags=12, id=7)) == ack(PUBREC, 7)
    assert wire.say(once) == ack(PUBREC, 7)
    assert wire.say(ack(PUBREL, 7)) == ack(PUBCOMP, 7)
    assert wire.say(publish(version, payload=b"2", flags=4, id=7)) == ack(PUBREC, 7)
    assert [payload for _, _, payload in arrived(reader)] == [b"1", b"2"]
    assert bench.journal.values == [b"1", b"2"]


@both
@covers(v4="4.3.3-2 4.4.0-1", v5="4.3.3-10")
def test_qos_2_is_taken_once_across_a_reconnect(version: Version) -> None:
    bench = Bench()
    wire = opened(bench, version, b"k", **kept(version))
    wire.say(publish(version, flags=4, id=7))
    wire.lose()
    wire = opened(bench, version, b"k", **kept(version))
    assert wire.say(publish(version, flags=12, id=7)) == ack(PUBREC, 7)
    assert wire.say(ack(PUBREL, 7)) == ack(PUBCOMP, 7)
    assert len(bench.journal.stored) == 1


@covers(v5="4.3.3-9 3.5.2-1 3.4.2-1")
def test_a_refused_publish_leaves_its_identifier_free() -> None:
    wire = opened(Bench(), V5)
    for flags, kind in ((2, PUBACK), (4, PUBREC)):
        answer = wire.say(publish(V5, b"$SYS/x", flags=flags, id=3))
        assert (answer[0], answer[2:5]) == (kind, b"\0\x03\x90")
        assert wire.say(publish(V5, b"a", flags=flags, id=3)) == ack(kind, 3)
    assert len(wire.bench.journal.stored) == 2


@covers(v4="3.3.5-2")
def test_3_1_1_is_closed_where_a_publish_is_refused() -> None:
    for flags in (2, 4):
        bench = Bench()
        wire = opened(bench, Version.V311)
        assert wire.say(publish(Version.V311, b"$SYS/x", flags=flags, id=3)) == b""
        assert wire.closed
        assert bench.journal.stored == []


@covers(v5="3.7.2-1 3.6.2-1")
def test_a_release_of_nothing_is_answered_with_0x92() -> None:
    assert opened(Bench(), V5).say(ack(PUBREL, 9)) == ack(PUBCOMP, 9, 0x92)


@pytest.mark.parametrize(
    ("kind", "allowed"),
    [
        pytest.param(PUBACK, {0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}, marks=covers(v5="3.4.2-1")),
        pytest.param(PUBREC, {0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}, marks=covers(v5="3.5.2-1")),
        pytest.param(PUBREL, {0, 0x92}, marks=covers(v5="3.6.2-1")),
        pytest.param(PUBCOMP, {0, 0x92}, marks=covers(v5="3.7.2-1")),
    ],
)  # fmt: skip
def test_acknowledgements_have_reasons_of_their_own(kind: int, allowed: set[int]) -> None:
    for reason in range(256):
        wire = opened(Bench(), V5)
        wire.say(ack(kind, 1, reason))
        assert wire.closed is (reason not in allowed), hex(reason)


@covers(v5="3.14.2-1 4.13.2-1")
def test_disconnect_has_reasons_of_its_own() -> None:
    allowed = {0, 4, *range(0x80, 0xA3)} - {0x84, 0x85, 0x86, 0x88, 0x8A, 0x8C, 0x91, 0x92}
    for reason in range(256):
        wire = opened(Bench(), V5)
        answer = wire.say(packet(0xE0, bytes((reason,))))
        assert wire.closed
        assert (answer == b"") is (reason in allowed), hex(reason)


@both
@covers(v4="4.6.0-2 4.6.0-3", v5="4.3.2-4 4.3.3-8")
def test_answers_leave_in_the_order_of_their_publishes(version: Version) -> None:
    wire = opened(Bench(), version)
    order = (5, 3, 9, 1)
    data = b"".join(publish(version, flags=2 if id % 2 else 4, id=id) for id in (*order, 2, 8, 4))  # noqa: A001
    answers = [int.from_bytes(body[:2], "big") for _, body in wire.frames(data)]
    assert answers == [*order, 2, 8, 4]


@covers(v5="3.3.4-7 4.9.0-1")
@pytest.mark.parametrize("flags", [2, 4])
def test_more_than_the_receive_maximum_we_told_closes(flags: int) -> None:
    bench = Bench(settings=MqttSettings(receive_maximum=3))
    wire = Wire(bench, V5)
    assert b"\x21\x00\x03" in wire.say(connect(V5))
    for id in (1, 2, 3):  # noqa: A001
        wire.peer.send_raw(publish(V5, flags=flags, id=id))
    assert not wire.closed
    wire.peer.send_raw(publish(V5, flags=flags, id=4))
    assert wire.closed
    assert wire.peer.take_raw()[2] == 0x93


# --- out ----------------------------------------------------------------------------------------------------------


@both
@covers(v4="3.3.1-3 4.3.1-1 4.3.2-1 4.3.3-1", v5="3.3.1-3 4.3.1-1 4.3.2-2 4.3.3-2")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_dup_is_not_forwarded(version: Version, qos: int) -> None:
    reader, writer = pair_of(version, qos)
    writer.say(publish(version, flags=12, id=1))
    ((first, _, _),) = arrived(reader)
    assert first == 0x30 | qos << 1


@both
@covers(v4="4.3.3-1 4.6.0-4", v5="4.3.3-4 4.3.3-5 4.3.3-6")
def test_qos_2_out_is_released_after_pubrec_in_order(version: Version) -> None:
    reader, writer = pair_of(version)
    for id in (1, 2, 3):  # noqa: A001
        writer.say(publish(version, flags=4, id=id))
    ids = [packet_id for _, packet_id, _ in arrived(reader)]
    released = reader.say(*(ack(PUBREC, each) for each in (ids[1], ids[0], ids[2])))
    assert released == b"".join(ack(PUBREL, each) for each in (ids[1], ids[0], ids[2]))
    assert reader.say(*(ack(PUBCOMP, each) for each in ids)) == b""


@both
@covers(
    v4="3.3.1-1 2.3.1-3 4.4.0-1 4.6.0-1 4.3.3-1",
    v5="3.3.1-1 4.4.0-1 4.3.2-3 4.3.3-3 4.3.3-5 4.3.3-6",
)
def test_what_was_unacknowledged_is_sent_again_in_its_order(version: Version) -> None:
    """PUBLISH with DUP under its identifier; once PUBREC came PUBREL alone; nothing without a reconnect."""
    reader, writer = pair_of(version, **kept(version))
    bench = reader.bench
    for id in range(1, 5):  # noqa: A001
        writer.say(publish(version, payload=b"%d" % id, flags=2 if id % 2 else 4, id=id))
    first = arrived(reader)
    assert [kind for kind, _, _ in first] == [0x32, 0x34, 0x32, 0x34]
    ids = [packet_id for _, packet_id, _ in first]
    reader.say(ack(PUBACK, ids[0]), ack(PUBREC, ids[1]))
    bench.wait(30)
    assert reader.hear() == b""
    reader.lose()
    again = Wire(bench, version)
    frames = again.frames(connect(version, b"r", **kept(version))) + again.frames()
    publishes = [(kind, body[3:5], body[-1:]) for kind, body in frames if kind >> 4 == 3]
    assert publishes == [(0x3A, number(ids[2]), b"3"), (0x3C, number(ids[3]), b"4")]
    assert [body for kind, body in frames if kind == PUBREL] == [number(ids[1])]


@covers(v5="4.4.0-2")
@pytest.mark.parametrize(("flags", "kind"), [(2, PUBACK), (4, PUBREC)])
def test_what_was_answered_with_an_error_is_not_sent_again(flags: int, kind: int) -> None:
    reader, writer = pair_of(V5, **kept(V5))
    writer.say(publish(V5, flags=flags, id=1))
    ((_, packet_id, _),) = arrived(reader)
    assert reader.say(ack(kind, packet_id, 0x83)) == b""
    reader.lose()
    again = opened(reader.bench, V5, b"r", **kept(V5))
    assert again.hear() == b""


@both
@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        pytest.param(2, PUBREC, marks=covers(v4="4.3.2-1 4.8.0-1", v5="4.3.2-3 4.13.1-1")),
        pytest.param(2, PUBCOMP, marks=covers(v4="4.3.2-1 4.8.0-1", v5="4.3.2-3 4.13.1-1")),
        pytest.param(4, PUBACK, marks=covers(v4="4.3.3-1 4.8.0-1", v5="4.3.3-3 4.13.1-1")),
        pytest.param(4, PUBCOMP, marks=covers(v4="4.3.3-1 4.8.0-1", v5="4.3.3-3 4.13.1-1")),
    ],
)
def test_the_answer_to_another_qos_closes_and_acknowledges_nothing(
    version: Version, flags: int, kind: int
) -> None:
    reader, writer = pair_of(version, **kept(version))
    writer.say(publish(version, flags=flags, id=1))
    ((_, packet_id, _),) = arrived(reader)
    expect_refused(reader, ack(kind, packet_id), PROTOCOL)
    again = Wire(reader.bench, version)
    frames = again.frames(connect(version, b"r", **kept(version))) + again.frames()
    assert [first for first, _ in frames if first >> 4 == 3] == [0x38 | flags]


@both
@covers(v4="4.3.3-1", v5="4.3.3-5")
def test_what_is_released_is_done_with_at_pubcomp_alone(version: Version) -> None:
    reader, writer = pair_of(version)
    writer.say(publish(version, flags=4, id=1))
    ((_, packet_id, _),) = arrived(reader)
    for _ in range(2):  # PUBREC comes again where PUBLISH did
        assert reader.say(ack(PUBREC, packet_id)) == ack(PUBREL, packet_id)
    expect_refused(reader, ack(PUBACK, packet_id), PROTOCOL)


@both
@covers(v4="4.6.0-5 4.6.0-6", v5="4.6.0-5 4.6.0-6")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_of_one_client_keep_their_order(version: Version, qos: int) -> None:
    reader, writer = pair_of(version, qos)
    heard = []
    for turn in range(0, 60, 6):
        writer.peer.send_raw(
            b"".join(
                publish(version, payload=bytes((turn + n,)), flags=qos << 1, id=turn + n + 1)
                for n in range(6)
            )
        )
        got = arrived(reader)
        heard += [payload for _, _, payload in got]
        for _, packet_id, _ in got:
            if qos == 1:
                reader.say(ack(PUBACK, packet_id))
            elif qos == 2:
                reader.say(ack(PUBREC, packet_id), ack(PUBCOMP, packet_id))
    assert heard == [bytes((n,)) for n in range(60)]


@covers(v5="3.3.4-9 3.3.4-10 4.9.0-1 4.9.0-2 4.9.0-3")
def test_the_clients_receive_maximum_is_kept_and_stops_nothing_else() -> None:
    reader, writer = pair_of(V5, 2, properties=b"\x21\x00\x02")
    for id in range(1, 6):  # noqa: A001
        writer.say(publish(V5, payload=b"%d" % id, flags=2 if id % 2 else 4, id=id))
    got = arrived(reader)
    assert [payload for _, _, payload in got] == [b"1", b"2"]
    assert reader.say(PINGREQ) == PINGRESP
    assert reader.say(publish(V5, b"b", flags=2, id=9)) == ack(PUBACK, 9)
    assert reader.say(subscribe(V5, (b"c", 0)))[0] == 0x90
    assert reader.frames(ack(PUBREC, got[1][1])) == [(PUBREL, number(got[1][1]))]
    assert [payload for _, _, payload in arrived(reader, ack(PUBACK, got[0][1]))] == [b"3"]
    # a PUBREC that is an error ends the delivery, and so does PUBCOMP
    assert [payload for _, _, payload in arrived(reader, ack(PUBCOMP, got[1][1]))] == [b"4"]
    assert [payload for _, _, payload in arrived(reader, ack(PUBREC, 4, 0x83))] == [b"5"]


@covers(v5="3.1.2-24 3.1.2-25")
def test_what_is_too_large_for_a_client_counts_as_delivered() -> None:
    reader, writer = pair_of(V5, 2, properties=b"\x27\0\0\0\x80")
    writer.say(
        publish(V5, payload=b"x" * 200, flags=2, id=1), publish(V5, payload=b"y", flags=2, id=2)
    )
    ((first, body),) = reader.frames()
    assert (first, body[-1:]) == (0x32, b"y")


# --- limits and errors ----------------------------------------------------------------------------------------------


@both
@covers(v5="3.2.2-15")
def test_a_packet_above_the_maximum_closes_before_it_is_read(version: Version) -> None:
    bench = Bench(settings=MqttSettings(packet_bytes_max=1000))  # type: ignore[arg-type]
    ok = publish(version, payload=b"x" * (990 - (version is V5)))
    wire = opened(bench, version)
    assert wire.say(ok) == b""
    assert not wire.closed
    expect_refused(wire, publish(version, payload=b"x" * 1000)[:6], 0x95)


@both
@covers(v4="4.8.0-1", v5="4.13.1-1")
@pytest.mark.parametrize("first", [0x00, 0x20, 0x90, 0xB0, 0xD0])
def test_packets_that_clients_do_not_send_close(version: Version, first: int) -> None:
    wire = opened(Bench(), version)
    wire.say(packet(first, number(1)))
    assert wire.closed


@covers(v4="4.8.0-2")
def test_a_full_log_closes_a_3_1_1_publisher() -> None:
    from headwater.core.errors import Unavailable

    bench = Bench()
    wire = opened(bench, Version.V311)
    bench.journal.refusal = Unavailable("the log is full")
    wire.say(publish(Version.V311, flags=2, id=1))
    assert wire.closed


@both
@covers(v4="7.1.1-1 7.0.0-2", v5="4.2-1 4.2.0-1")
def test_packets_need_not_come_in_one_piece(version: Version) -> None:
    """A transport is a stream of bytes: cut anywhere, and nothing but MQTT is needed."""
    bench = Bench()
    wire = Wire(bench, version)
    data = (
        connect(version) + subscribe(version, (b"a", 1)) + publish(version, flags=2, id=5) + PINGREQ
    )
    for byte in data:
        wire.peer.send_raw(bytes((byte,)))
    kinds = [first for first, _ in wire.frames()]
    assert kinds[:2] == [0x20, 0x90]
    assert sorted(kinds[2:]) == [0x32, PUBACK, 0xD0]
