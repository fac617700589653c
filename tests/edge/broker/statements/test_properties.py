"""Properties: which may stand where, what is forwarded, expiry, topic aliases in both directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt.packets import Version

from ..harness import Bench
from .wire import (
    MALFORMED,
    PROTOCOL,
    V5,
    Wire,
    ack,
    arrived,
    connect,
    covers,
    expect_refused,
    number,
    opened,
    packet,
    pair,
    pair_of,
    props,
    publish,
    subscribe,
    text,
)

PUBACK, PUBREC, PUBREL, PUBCOMP = 0x40, 0x50, 0x62, 0x70


# --- properties of messages -----------------------------------------------------------------------------------------

FORWARDED = {
    "3.3.2-4": b"\x01\x01",
    "3.3.2-20": b"\x03" + text(b"text/plain"),
    "3.3.2-15": b"\x08" + text(b"answers/here"),
    "3.3.2-16": b"\x09" + text(b"\0\xff\x01"),
    "3.3.2-17 3.3.2-18": pair(b"b", b"2") + pair(b"a", b"1") + pair(b"b", b"3") + pair(b"", b""),
}


@pytest.mark.parametrize(
    "raw", [pytest.param(raw, marks=covers(v5=labels)) for labels, raw in FORWARDED.items()]
)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_property_is_forwarded_unaltered(raw: bytes, qos: int) -> None:
    reader, writer = pair_of(V5, qos)
    writer.say(publish(V5, flags=qos << 1 | 1, id=1, properties=raw))
    assert reader.hear() == publish(V5, flags=qos << 1, id=1, properties=raw)
    late = opened(reader.bench, V5, b"late").frames(subscribe(V5, (b"a", 0)))
    assert late[-1] == (0x31, publish(V5, properties=raw)[2:])
    old = opened(reader.bench, Version.V311, b"old").say(subscribe(Version.V311, (b"a", 0)))
    assert old.endswith(publish(Version.V311, flags=1))


@covers(v5="3.3.2-5 3.3.2-6 4.3.3-7 4.3.3-13")
def test_expiry_counts_down_and_deletes_what_was_not_begun() -> None:
    reader, writer = pair_of(V5, 2, properties=b"\x21\x00\x01")
    bench = reader.bench
    for id, seconds in ((1, 100), (2, 5), (3, 100)):  # noqa: A001
        expiry = b"\x02" + seconds.to_bytes(4, "big")
        writer.say(publish(V5, payload=b"%d" % id, flags=4, id=id, properties=expiry))
    ((_, packet_id, payload),) = arrived(reader)
    assert payload == b"1"
    bench.wait(10)
    # begun deliveries go on whatever their age, the second message is gone, of the third 90 seconds are left
    assert reader.say(ack(PUBREC, packet_id)) == ack(PUBREL, packet_id)
    ((_, body),) = reader.frames(ack(PUBCOMP, packet_id))
    assert body[5:] == b"\x05\x02\0\0\0\x5a3"
    assert writer.say(ack(PUBREL, 2)) == ack(PUBCOMP, 2)


@covers(v5="3.3.2-5 3.3.2-6")
def test_what_is_retained_expires_too() -> None:
    bench = Bench()
    writer = opened(bench, V5)
    writer.say(publish(V5, flags=1, properties=b"\x02\0\0\0\x0a"))
    for wait, left in ((4, [(0x31, b"\0\x01a\x05\x02\0\0\0\x06x")]), (7, [])):
        bench.wait(wait)
        frames = opened(bench, V5, b"r").frames(subscribe(V5, (b"a", 0)))
        assert [frame for frame in frames if frame[0] >> 4 == 3] == left


@covers(v5="3.3.2-5 3.3.2-6")
def test_expiry_does_not_wait_for_a_tick() -> None:
    bench = Bench()
    bench.clock.advance(0.4)  # since the last tick
    opened(bench, V5).say(publish(V5, flags=1, properties=b"\x02\0\0\0\x02"))
    for later, left in ((0.4, 2), (0.7, 1), (0.8, 1), (0.2, 0)):
        bench.clock.advance(later)
        frames = opened(bench, V5, b"r").frames(subscribe(V5, (b"a", 0)))
        got = [body for first, body in frames if first == 0x31]
        # of a second that has begun nothing is taken: what is delivered never says that it has expired
        assert got == ([b"\0\x01a\x05\x02\0\0\0" + bytes((left,)) + b"x"] if left else [])


@covers(v5="3.3.2-14")
@pytest.mark.parametrize(
    ("topic", "reason"), [(b"a/+", PROTOCOL), (b"#", PROTOCOL), (b"", MALFORMED)]
)
def test_a_response_topic_is_a_topic_name(topic: bytes, reason: int) -> None:
    expect_refused(opened(Bench(), V5), publish(V5, properties=b"\x08" + text(topic)), reason)


# --- topic aliases --------------------------------------------------------------------------------------------------


def alias(value: int) -> bytes:
    return b"\x23" + number(value)


@covers(v5="3.3.2-12 3.3.2-7")
def test_every_alias_up_to_the_maximum_is_taken_for_the_life_of_the_connection() -> None:
    bench = Bench()
    wire = opened(bench, V5)
    for value in (1, 64):
        wire.say(publish(V5, b"t%d" % value, properties=alias(value)))
        wire.say(publish(V5, b"", properties=alias(value)))
    wire.say(publish(V5, b"new", properties=alias(1)), publish(V5, b"", properties=alias(1)))
    topics = [stored.record.key for stored in bench.journal.stored]
    assert topics == [b"t1", b"t1", b"t64", b"t64", b"new", b"new"]
    expect_refused(opened(bench, V5), publish(V5, b"", properties=alias(1)), 0x82)


@covers(v5="3.3.2-8 3.3.2-9 3.2.2-17")
@pytest.mark.parametrize("value", [0, 65, 65_535])
def test_an_alias_outside_the_maximum_closes(value: int) -> None:
    expect_refused(opened(Bench(), V5), publish(V5, properties=alias(value)), 0x94)


@covers(v5="3.2.2-18")
def test_no_alias_is_taken_where_the_maximum_is_0() -> None:
    bench = Bench(settings=MqttSettings(topic_alias_max=0))
    expect_refused(opened(bench, V5), publish(V5, properties=alias(1)), 0x94)


@covers(v5="3.1.2-26 3.3.2-11 3.3.2-7")
def test_our_aliases_keep_to_the_clients_maximum() -> None:
    bench = Bench()
    wire = opened(bench, V5, properties=b"\x22\x00\x01")
    wire.say(subscribe(V5, (b"#", 0)))
    long, other = b"a/long/topic", b"another/topic"
    assert wire.say(publish(V5, long)) == publish(V5, long, properties=alias(1))
    assert wire.say(publish(V5, long)) == publish(V5, b"", properties=alias(1))
    assert wire.say(publish(V5, other)) == publish(V5, other)


@covers(v5="3.1.2-27")
@pytest.mark.parametrize("asked", [b"", b"\x22\x00\x00"])
def test_no_alias_of_ours_unless_asked(asked: bytes) -> None:
    wire = opened(Bench(), V5, properties=asked)
    wire.say(subscribe(V5, (b"#", 0)))
    for _ in range(3):
        assert wire.say(publish(V5, b"a/long/topic")) == publish(V5, b"a/long/topic")


# One good value of each property.
VALUES = {
    1: b"\0", 2: b"\0\0\0\1", 3: text(b"x"), 8: text(b"x"), 9: text(b"x"), 0x0B: b"\1",
    0x11: b"\0\0\0\1", 0x12: text(b"x"), 0x13: b"\0\1", 0x15: text(b"x"), 0x16: text(b"x"),
    0x17: b"\1", 0x18: b"\0\0\0\1", 0x19: b"\1", 0x1A: text(b"x"), 0x1C: text(b"x"),
    0x1F: text(b"x"), 0x21: b"\0\1", 0x22: b"\0\1", 0x23: b"\0\1", 0x24: b"\1", 0x25: b"\1",
    0x27: b"\0\0\1\0", 0x28: b"\1", 0x29: b"\1", 0x2A: b"\1",
}  # fmt: skip


def _properties_by_packet() -> Sequence[object]:
    """Each property where it may not stand, and twice where it may stand once."""
    packets: dict[str, tuple[set[int], Callable[[bytes], bytes]]] = {
        "publish": ({1, 2, 3, 8, 9, 0x23}, lambda raw: publish(V5, properties=raw)),
        "puback": ({0x1F}, lambda raw: packet(0x40, number(1), b"\0", props(V5, raw))),
        "pubrec": ({0x1F}, lambda raw: packet(0x50, number(1), b"\x80", props(V5, raw))),
        "pubrel": ({0x1F}, lambda raw: packet(0x62, number(1), b"\0", props(V5, raw))),
        "pubcomp": ({0x1F}, lambda raw: packet(0x70, number(1), b"\0", props(V5, raw))),
        "subscribe": ({0x0B}, lambda raw: subscribe(V5, (b"a", 0), properties=raw)),
        "unsubscribe": (set(), lambda raw: packet(0xA2, number(1), props(V5, raw), text(b"a"))),
        "disconnect": ({0x11, 0x1C, 0x1F}, lambda raw: packet(0xE0, b"\0", props(V5, raw))),
    }
    return [
        pytest.param(
            build(bytes((id_,)) + VALUES[id_]),
            PROTOCOL if (name, id_) == ("publish", 0x0B) else MALFORMED,  # servers send it there
            id=f"{name} 0x{id_:02x}",
        )
        for name, (allowed, build) in packets.items()
        for id_ in VALUES
        if id_ not in allowed
    ] + [
        pytest.param(
            build((bytes((id_,)) + VALUES[id_]) * 2), PROTOCOL, id=f"{name} 0x{id_:02x} twice"
        )
        for name, (allowed, build) in packets.items()
        for id_ in sorted(allowed)
    ]  # fmt: skip


@pytest.mark.parametrize(("data", "reason"), _properties_by_packet())
@covers(v5="4.13.1-1")
def test_a_property_that_may_not_stand_there_closes(data: bytes, reason: int) -> None:
    """Section 2.2.2.2: one of another packet is malformed. Once too often is a protocol error, as is said at each."""
    wire = opened(Bench(), V5, properties=b"\x11\0\0\0\1")
    answer = wire.say(data)
    assert wire.closed
    assert (answer[0], answer[2]) == (0xE0, reason)


def _connects() -> Sequence[object]:
    """The same for CONNECT and for the will in it, which are answered with CONNACK; and values out of their range."""
    in_connect, in_will = {0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x27}, {1, 2, 3, 8, 9, 0x18}

    def with_will(raw: bytes) -> bytes:
        return connect(V5, flags=6, rest=props(V5, raw) + text(b"w") + text(b"x"))

    def plain(raw: bytes) -> bytes:
        return connect(V5, properties=raw)

    cases = [
        (f"{where} 0x{id_:02x} twice", build, (bytes((id_,)) + value) * 2, PROTOCOL)
        if id_ in allowed
        else (f"{where} 0x{id_:02x}", build, bytes((id_,)) + value, MALFORMED)
        for where, allowed, build in (("connect", in_connect, plain), ("will", in_will, with_will))
        for id_, value in VALUES.items()
        if id_ != 0x16 or where == "will"
    ]
    cases += [
        ("problem information 2", plain, b"\x17\x02", PROTOCOL),
        ("response information 2", plain, b"\x19\x02", PROTOCOL),
        ("receive maximum 0", plain, b"\x21\0\0", PROTOCOL),
        ("maximum packet size 0", plain, b"\x27\0\0\0\0", PROTOCOL),
        ("authentication data alone", plain, b"\x16" + text(b"x"), PROTOCOL),
        ("payload format 2", with_will, b"\x01\x02", PROTOCOL),
    ]
    return [pytest.param(build(raw), reason, id=name) for name, build, raw, reason in cases]


@pytest.mark.parametrize(("data", "reason"), _connects())
@covers(v5="3.1.4-1 4.13.1-1 3.2.2-7")
def test_a_connect_with_a_wrong_property_is_refused(data: bytes, reason: int) -> None:
    wire = Wire(Bench(), V5)
    ((first, body),) = wire.frames(data)
    assert wire.closed
    assert (first, body[:2]) == (0x20, bytes((0, reason)))
    assert wire.bench.broker.tally.crashes == 0


@pytest.mark.parametrize("flags", [0, 2, 4])
@covers(v5="3.3.2-14")
def test_a_property_unknown_or_cut_short_is_malformed(flags: int) -> None:
    for raw in (
        b"\x00\x01",
        b"\x7f\x01",
        b"\x80\x01\x01",
        b"\x02\0\0",
        b"\x03\0\x05a",
        b"\x26" + text(b"n"),
    ):
        wire = opened(Bench(), V5)
        answer = wire.say(publish(V5, flags=flags, id=1, properties=raw))
        assert wire.closed
        assert (answer[0], answer[2]) == (0xE0, 0x81), raw.hex()
    # a property length that lies
    for length in (b"\x7f", b"\xff\x7f", b"\x80"):
        wire = opened(Bench(), V5)
        packet_id = number(1) if flags else b""
        assert wire.say(packet(0x30 | flags, text(b"a"), packet_id, length))[0] == 0xE0
