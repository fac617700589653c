"""Sections 3.8 to 3.11 and 4.7: filters, what is granted, what is retained, overlapping, no local, identifiers."""

from __future__ import annotations

import pytest

from headwater.edge.mqtt.packets import Version

from ..harness import Bench
from .wire import (
    BOTH,
    MALFORMED,
    PROTOCOL,
    V4,
    V5,
    Wire,
    ack,
    both,
    covers,
    expect_refused,
    number,
    opened,
    packet,
    publish,
    subscribe,
    text,
    unsubscribe,
)


def deliveries(wire: Wire, *data: bytes) -> list[tuple[int, bytes, bytes]]:
    """(first byte, topic, what follows it) of each PUBLISH."""
    found = []
    for first, body in wire.frames(*data):
        if first >> 4 == 3:
            end = 2 + int.from_bytes(body[:2], "big")
            found.append((first, body[2:end], body[end:]))
    return found


@both
@covers(v4="3.8.3-3 3.10.3-2 4.8.0-1", v5="3.8.3-2 3.10.3-2 4.13.1-1")
def test_no_filter_at_all_is_a_protocol_error(version: Version) -> None:
    expect_refused(opened(Bench(), version), subscribe(version), PROTOCOL)
    expect_refused(opened(Bench(), version), unsubscribe(version), PROTOCOL)


# (why, options, statements of 3.1.1, of 5.0, reason)
OPTIONS = [
    ("qos 3", 0x03, "3-8.3-4", "3.8.3-5", MALFORMED),
    ("reserved 0x40", 0x40, "3-8.3-4", "3.8.3-5", MALFORMED),
    ("reserved 0x80", 0x80, "3-8.3-4", "3.8.3-5", MALFORMED),
    ("reserved in 3.1.1", 0x05, "3-8.3-4", None, MALFORMED),
    ("retain handling 3", 0x30, "3-8.3-4", "", PROTOCOL),
]


@pytest.mark.parametrize(
    ("version", "options", "reason"),
    [
        pytest.param(
            version,
            options,
            reason,
            id=f"{why} {'5' if version is V5 else '3.1.1'}",
            marks=covers(v4=v4 if version is V4 else "", v5=v5 or "" if version is V5 else ""),
        )
        for why, options, v4, v5, reason in OPTIONS
        for version in BOTH
        if version is V4 or v5 is not None
    ],
)
def test_reserved_options_close_the_connection(version: Version, options: int, reason: int) -> None:
    expect_refused(opened(Bench(), version), subscribe(version, (b"a", options)), reason)


WRONG = {
    "4.7.1-1": [b"a#", b"#/a", b"a/#/b", b"/#b", b"##"],
    "4.7.1-2": [b"a+", b"+a", b"a/+b/c", b"++"],
    "4.7.3-1": [b""],
}
IN_3_1_1 = {"4.7.1-1": "4.7.1-2", "4.7.1-2": "4.7.1-3", "4.7.3-1": "4.7.3-1"}


@pytest.mark.parametrize(
    ("version", "topic_filter"),
    [
        pytest.param(
            version,
            each,
            id=f"{each.decode()!r} {'5' if version is V5 else '3.1.1'}",
            marks=covers(
                v4=IN_3_1_1[label] if version is V4 else "", v5=label if version is V5 else ""
            ),
        )
        for label, filters in WRONG.items()
        for each in filters
        for version in BOTH
    ],
)
def test_a_filter_that_is_none_closes_the_connection(version: Version, topic_filter: bytes) -> None:
    expect_refused(opened(Bench(), version), subscribe(version, (topic_filter, 0)), MALFORMED)
    expect_refused(opened(Bench(), version), unsubscribe(version, topic_filter), MALFORMED)


MATCHES = [
    (b"sport/tennis/#", b"sport/tennis", True),
    (b"sport/tennis/#", b"sport/tennis/a/b", True),
    (b"sport/#", b"sport", True),
    (b"#", b"/", True),
    (b"sport/+", b"sport", False),
    (b"sport/+", b"sport/", True),
    (b"sport/tennis/+", b"sport/tennis/a/b", False),
    (b"+/+", b"/finance", True),
    (b"/+", b"/finance", True),
    (b"+", b"/finance", False),
    (b"+/tennis/#", b"x/tennis", True),
    (b"a//b", b"a//b", True),
    (b"a/+/b", b"a//b", True),
    (b"a/b", b"a/b/", False),
    (b"a", b"A", False),
    (b"a b", b"a b", True),
]


@both
@pytest.mark.parametrize(("topic_filter", "topic", "is_match"), MATCHES)
@covers(v4="3.3.2-3 4.7.3-4 3.8.3-2", v5="3.3.2-3 4.7.3-4")
def test_a_subscriber_gets_what_its_filter_matches_and_nothing_else(
    version: Version, topic_filter: bytes, topic: bytes, is_match: bool
) -> None:
    wire = opened(Bench(), version)
    wire.say(subscribe(version, (topic_filter, 0)))
    assert wire.say(publish(version, topic)) == (publish(version, topic) if is_match else b"")


@both
@covers(v4="4.7.2-1", v5="4.7.2-1")
def test_wildcards_do_not_match_topics_that_begin_with_dollar(version: Version) -> None:
    bench = Bench()
    wire = opened(bench, version)
    wire.say(subscribe(version, (b"#", 0), (b"+/a", 0), (b"+/#", 0)))
    retained = publish(version, b"$dev/a", flags=1)
    assert wire.say(publish(version, b"$dev/a"), retained) == b""
    assert len(bench.journal.stored) == 2
    assert wire.frames(subscribe(version, (b"#", 0)))[1:] == []
    assert wire.say(subscribe(version, (b"$dev/+", 0))).endswith(retained)
    assert wire.say(publish(version, b"$dev/a")) == publish(version, b"$dev/a")
    subscriptions = bench.broker.subscriptions
    assert subscriptions.matching("$SYS/a") == []


@both
@covers(v4="4.7.3-3 3.8.3-1", v5="4.7.3-3 3.8.3-1")
def test_the_longest_topic_is_delivered(version: Version) -> None:
    topic = b"t" * 65_535
    wire = opened(Bench(), version)
    wire.say(subscribe(version, (topic, 0)))
    assert wire.say(publish(version, topic)) == publish(version, topic)


@both
@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("sent", [0, 1, 2])
@covers(v4="3.8.4-5 3.8.4-6 3.9.3-1 3.9.3-2", v5="3.8.4-6 3.8.4-7 3.8.4-8 3.9.3-2")
def test_delivery_is_at_the_lower_qos(version: Version, sent: int, granted: int) -> None:
    bench = Bench()
    reader, writer = opened(bench, version, b"r"), opened(bench, version, b"w")
    assert reader.say(subscribe(version, (b"a", granted)))[-1] == granted
    writer.say(publish(version, flags=sent << 1, id=9))
    ((first, _, _),) = deliveries(reader)
    assert first >> 1 & 3 == min(sent, granted)


@both
@covers(v4="3.9.3-2 3.8.4-5", v5="3.9.3-2 3.8.4-7")
def test_what_is_not_granted_is_said_for_its_filter_alone(version: Version) -> None:
    deep = b"/".join([b"a"] * 257)
    wire = opened(Bench(), version)
    answer = wire.say(subscribe(version, (b"a", 1), (deep, 1), (b"b", 0)))
    (frame,) = [body for first, body in [(answer[0], answer)] if first == 0x90]
    assert frame.endswith(bytes((1, 0x8F if version is V5 else 0x80, 0)))


@both
@covers(v4="3.3.5-1", v5="3.3.4-2")
def test_overlapping_filters_deliver_at_the_highest_qos(version: Version) -> None:
    bench = Bench()
    reader, writer = opened(bench, version, b"r"), opened(bench, version, b"w")
    reader.say(subscribe(version, (b"a/#", 0), (b"a/+", 2), (b"a/b", 1)))
    writer.say(publish(version, b"a/b", flags=4, id=1))
    assert max(first >> 1 & 3 for first, _, _ in deliveries(reader)) == 2


@covers(v5="3.3.4-3 3.3.4-4")
def test_the_one_copy_has_the_identifiers_of_all_matching_filters() -> None:
    wire = opened(Bench(), V5)
    wire.say(subscribe(V5, (b"a/#", 0), properties=b"\x0b\x05"))
    wire.say(subscribe(V5, (b"a/+", 0), properties=b"\x0b\x80\x01"))
    wire.say(subscribe(V5, (b"a/b", 0)), subscribe(V5, (b"c", 0), properties=b"\x0b\x09"))
    ((_, _, rest),) = deliveries(wire, publish(V5, b"a/b"))
    assert rest in {b"\x05\x0b\x05\x0b\x80\x01x", b"\x05\x0b\x80\x01\x0b\x05x"}


@covers(v5="3.3.4-6")
def test_a_client_sends_no_subscription_identifier() -> None:
    expect_refused(opened(Bench(), V5), publish(V5, properties=b"\x0b\x01"), PROTOCOL)


@pytest.mark.parametrize("raw", [b"\x0b\x00", b"\x0b\x01\x0b\x02"])
@covers(v5="4.13.1-1")
def test_a_subscription_identifier_is_one_and_not_0(raw: bytes) -> None:
    expect_refused(opened(Bench(), V5), subscribe(V5, (b"a", 0), properties=raw), PROTOCOL)


@covers(v5="3.8.3-3")
def test_no_local() -> None:
    bench = Bench()
    one, two = opened(bench, V5, b"one"), opened(bench, V5, b"two")
    for wire in (one, two):
        wire.say(subscribe(V5, (b"a", 4)))
    assert one.say(publish(V5)) == b""
    assert two.hear() == publish(V5)


@covers(v5="3.8.3-4")
def test_no_local_on_a_shared_subscription_is_a_protocol_error() -> None:
    expect_refused(opened(Bench(), V5), subscribe(V5, (b"$share/g/a", 4)), PROTOCOL)


@both
@pytest.mark.parametrize(
    "bad", [b"$share/g", b"$share//a", b"$share/g+/a", b"$share/#/a", b"$share/g/"]
)
@covers(v5="4.8.2-1 4.8.2-2")
def test_a_shared_subscription_without_name_or_filter_is_malformed(
    version: Version, bad: bytes
) -> None:
    expect_refused(opened(Bench(), version), subscribe(version, (bad, 0)), MALFORMED)


# --- replaced, unsubscribed ---------------------------------------------------------------------------------------


@both
@covers(v4="3.8.4-3 3.3.1-6 3.3.1-8", v5="3.8.4-3 3.8.4-4 3.3.1-9")
def test_the_same_filter_again_replaces_and_brings_what_is_retained_again(version: Version) -> None:
    bench = Bench()
    wire, other = opened(bench, version), opened(bench, version, b"o")
    other.say(publish(version, flags=1))
    for qos in (0, 1):
        assert deliveries(wire, subscribe(version, (b"a", qos)))[0][0] == 0x31
    other.say(publish(version, payload=b"y", flags=2, id=1))
    assert [first for first, _, _ in deliveries(wire)] == [0x32]


@both
@covers(v4="3.10.4-1 3.10.4-2", v5="3.10.4-1 3.10.4-2")
def test_unsubscribing_compares_character_by_character(version: Version) -> None:
    wire = opened(Bench(), version)
    wire.say(subscribe(version, (b"a/+", 0)))
    wire.say(unsubscribe(version, b"a/#", b"a/b", b"A/+"))
    assert wire.say(publish(version, b"a/b")) == publish(version, b"a/b")
    wire.say(unsubscribe(version, b"a/+"))
    assert wire.say(publish(version, b"a/b")) == b""


@both
@covers(v4="3.10.4-3", v5="3.10.4-3")
def test_what_was_begun_is_completed_after_unsubscribing(version: Version) -> None:
    bench = Bench()
    reader, writer = opened(bench, version, b"r"), opened(bench, version, b"w")
    reader.say(subscribe(version, (b"a", 2)))
    writer.say(publish(version, flags=4, id=1))
    assert [first for first, _, _ in deliveries(reader)] == [0x34]
    reader.say(unsubscribe(version, b"a"))
    assert reader.say(ack(0x50, 1)) == ack(0x62, 1)
    assert reader.say(ack(0x70, 1)) == b""


# --- retained -----------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("qos", [0, 1, 2])
@covers(v4="3.3.1-5 3.3.1-6 3.3.1-7 3.3.1-8 3.3.1-9", v5="3.3.1-5 3.3.1-9 3.3.1-12")
def test_the_last_retained_message_is_sent_to_who_subscribes(version: Version, qos: int) -> None:
    bench = Bench()
    early, writer = opened(bench, version, b"e"), opened(bench, version, b"w")
    early.say(subscribe(version, (b"a", 0)))
    for id, payload in enumerate((b"1", b"2"), 1):  # noqa: A001
        writer.say(publish(version, payload=payload, flags=1 | qos << 1, id=id))
    assert [first for first, _, _ in deliveries(early)] == [0x30, 0x30]
    ((first, topic, rest),) = deliveries(
        opened(bench, version, b"l"), subscribe(version, (b"a", 2))
    )
    assert (first, topic, rest[-1:]) == (0x31 | qos << 1, b"a", b"2")


@both
@covers(v4="3.3.1-10 3.3.1-11 3.3.1-12", v5="3.3.1-6 3.3.1-7 3.3.1-8")
def test_an_empty_retained_message_forgets_and_one_without_the_flag_does_not(
    version: Version,
) -> None:
    bench = Bench()
    writer, reader = opened(bench, version, b"w"), opened(bench, version, b"r")
    writer.say(publish(version, flags=1), publish(version, payload=b"passing"))
    ((first, _, rest),) = deliveries(reader, subscribe(version, (b"a", 0)))
    assert (first, rest[-1:]) == (0x31, b"x")
    writer.say(publish(version, payload=b"", flags=1))
    assert reader.hear() == publish(version, payload=b"")  # as any message
    assert deliveries(opened(bench, version, b"l"), subscribe(version, (b"a", 0))) == []


@pytest.mark.parametrize(
    ("handling", "first_time", "again"),
    [
        pytest.param(0, 1, 1, marks=covers(v5="3.3.1-9")),
        pytest.param(1, 1, 0, marks=covers(v5="3.3.1-10")),
        pytest.param(2, 0, 0, marks=covers(v5="3.3.1-11")),
    ],
)
def test_retain_handling(handling: int, first_time: int, again: int) -> None:
    wire = opened(Bench(), V5)
    wire.say(publish(V5, flags=1))
    ask = subscribe(V5, (b"a", handling << 4))
    assert [len(deliveries(wire, ask)), len(deliveries(wire, ask))] == [first_time, again]
    wire.say(unsubscribe(V5, b"a"))
    assert len(deliveries(wire, ask)) == first_time


@pytest.mark.parametrize(
    "as_published",
    [pytest.param(0, marks=covers(v5="3.3.1-12")), pytest.param(1, marks=covers(v5="3.3.1-13"))],
)
def test_retain_as_published(as_published: int) -> None:
    wire = opened(Bench(), V5)
    wire.say(subscribe(V5, (b"a", as_published << 3)))
    assert wire.say(publish(V5, flags=1)) == publish(V5, flags=as_published)
    assert wire.say(publish(V5)) == publish(V5)


@both
@covers(v4="4.7.1-1 3.3.2-2", v5="4.7.0-1 3.3.2-2")
@pytest.mark.parametrize("topic", [b"a/+", b"#", b"a#b", b"+"])
def test_no_wildcards_in_a_topic_name(version: Version, topic: bytes) -> None:
    for flags in (0, 2, 4):
        bench = Bench()
        expect_refused(opened(bench, version), publish(version, topic, flags=flags, id=1), PROTOCOL)
        assert bench.journal.stored == []


@both
@covers(v4="4.7.3-1 4.7.3-2", v5="4.7.3-1 4.7.3-2")
def test_no_empty_topic_name_and_no_null_in_it(version: Version) -> None:
    expect_refused(
        opened(Bench(), version), publish(version, b""), PROTOCOL if version is V5 else MALFORMED
    )
    expect_refused(opened(Bench(), version), publish(version, b"a\0"), MALFORMED)
    expect_refused(opened(Bench(), version), subscribe(version, (b"a\0", 0)), MALFORMED)


@covers(v5="3.8.4-3")
def test_a_replaced_subscription_has_the_new_identifier() -> None:
    wire = opened(Bench(), V5)
    for identifier in (b"\x0b\x05", b"\x0b\x06", b""):
        wire.say(subscribe(V5, (b"a", 0), properties=identifier))
        assert wire.say(publish(V5)) == packet(
            0x30, text(b"a"), bytes((len(identifier),)), identifier, b"x"
        )


@both
@covers(v4="3.10.4-6 3.8.4-4", v5="3.10.4-6 3.8.4-5 3.11.3-1 3.11.3-2 3.9.3-1 3.9.3-2")
def test_many_filters_have_one_answer_in_their_order(version: Version) -> None:
    wire = opened(Bench(), version)
    (suback,) = wire.frames(subscribe(version, (b"a", 2), (b"b", 0), (b"c", 1)))
    assert suback[1].endswith(b"\x02\x00\x01")
    (unsuback,) = wire.frames(unsubscribe(version, b"a", b"none", b"c"))
    assert unsuback == (0xB0, number(1) + (b"\0\x00\x11\x00" if version is V5 else b""))
    assert wire.say(publish(version, b"a"), publish(version, b"b"), publish(version, b"c")) == (
        publish(version, b"b")
    )
