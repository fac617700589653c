"""Sections 1.5 and 2 of both versions: strings, integers, flags, packet identifiers, properties."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headwater.edge.mqtt.packets import Version

from ..harness import Bench, split_frames
from .wire import (
    BOTH,
    MALFORMED,
    PROTOCOL,
    V4,
    V5,
    Wire,
    ack,
    both,
    connect,
    covers,
    expect_refused,
    number,
    opened,
    packet,
    pair,
    props,
    publish,
    subscribe,
    text,
    unsubscribe,
)

Builder = Callable[[Version, bytes], bytes]

# What is no text: a lone continuation, cut off, overlong, surrogates, above U+10FFFF, and U+0000.
NO_TEXT = [b"\x80", b"a\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf4\x90\x80\x80"]
NULL = b"a\0b"

# Every text a client can send: (where, statements of 3.1.1, of 5.0, the packet that holds it). CONNECTs open a connection.
TEXTS: list[tuple[str, str, str, Builder]] = [
    ("client identifier", "3.1.3-4", "3.1.3-4", connect),
    ("will topic", "3.1.3-10", "3.1.3-11",
     lambda v, t: connect(v, flags=6, rest=props(v) + text(t) + text(b""))),
    ("user name", "3.1.3-11", "3.1.3-12", lambda v, t: connect(v, flags=0x82, rest=text(t))),
    ("topic name", "3.3.2-1", "3.3.2-1", publish),
    ("topic filter", "3.8.3-1", "3.8.3-1", lambda v, t: subscribe(v, (t, 0))),
    ("filter to unsubscribe", "3.10.3-1", "3.10.3-1", unsubscribe),
]  # fmt: skip
TEXTS_OF_5: list[tuple[str, str, str, Builder]] = [
    ("name of a user property", "", "1.5.7-1",
     lambda v, t: publish(v, properties=pair(t, b"v"))),
    ("value of a user property", "", "1.5.7-1",
     lambda v, t: publish(v, properties=pair(b"n", t))),
    ("content type", "", "3.3.2-19", lambda v, t: publish(v, properties=b"\x03" + text(t))),
    ("response topic", "", "3.3.2-13", lambda v, t: publish(v, properties=b"\x08" + text(t))),
    ("authentication method", "", "",
     lambda v, t: connect(v, properties=b"\x15" + text(t))),
    ("reason string", "", "",
     lambda v, t: packet(0x40, number(1), b"\0", props(v, b"\x1f" + text(t)))),
]  # fmt: skip


def _texts() -> list[object]:
    cases = [(version, *each) for each in TEXTS for version in BOTH]
    cases += [(V5, *each) for each in TEXTS_OF_5]
    return [
        pytest.param(
            version,
            build,
            id=f"{where} {'5' if version is V5 else '3.1.1'}",
            marks=covers(
                v4=f"1.5.3-1 1.5.3-2 {of_4}" if version is V4 else "",
                v5=f"1.5.4-1 1.5.4-2 {of_5}" if version is V5 else "",
            ),
        )
        for version, where, of_4, of_5, build in cases
    ]


@pytest.mark.parametrize(("version", "build"), _texts())
@pytest.mark.parametrize("bad", [*NO_TEXT, NULL], ids=bytes.hex)
def test_what_is_no_text_closes_the_connection(
    version: Version, build: Builder, bad: bytes
) -> None:
    data = build(version, bad)
    wire = Wire(Bench(), version)
    if data[0] != 0x10:
        wire = opened(wire.bench, version)
        expect_refused(wire, data, MALFORMED)
        return
    answer = split_frames(wire.say(data))
    assert wire.closed
    assert [(first, body[1]) for first, body in answer] == ([(0x20, 0x81)] if version is V5 else [])


@both
@covers(v4="1.5.3-3 4.7.3-4", v5="1.5.4-3 4.7.3-4")
def test_nothing_is_stripped_or_normalised(version: Version) -> None:
    bench = Bench()
    wire = opened(bench, version)
    bom, composed, decomposed = "\ufeffa".encode(), "é".encode(), "e\u0301".encode()
    wire.say(subscribe(version, (bom, 0), (composed, 0), (b"A", 0)))
    for topic in (bom, b"a", composed, decomposed, b"A"):
        wire.peer.send_raw(publish(version, topic))
    assert [body[2:-1].rstrip(b"\0") for _, body in wire.frames()] == [bom, composed, b"A"]


@covers(v5="1.5.5-1")
@pytest.mark.parametrize(
    "data",
    ["c0 80 00", "30 8500 0001 61 00 78", "30 80 80 80 80 01", "30 06 0001 61 80 00 78",
     "30 09 0001 61 8080808000 78"],
)  # fmt: skip
def test_a_variable_byte_integer_in_more_bytes_than_needed_is_malformed(data: str) -> None:
    expect_refused(opened(Bench(), V5), bytes.fromhex(data), MALFORMED)


@both
@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384])
@covers(v5="1.5.5-1")
def test_lengths_are_written_in_the_fewest_bytes(version: Version, size: int) -> None:
    bench = Bench()
    wire = opened(bench, version)
    wire.say(subscribe(version, (b"a", 0)))
    head = 3 + (version is V5)
    payload = b"x" * (size - head) if size > head else b""
    assert wire.say(publish(version, b"a", payload)) == publish(version, b"a", payload)


FLAGS = {0x10: 0, 0x40: 0, 0x50: 0, 0x60: 2, 0x70: 0, 0x80: 2, 0xA0: 2, 0xC0: 0, 0xE0: 0, 0xF0: 0}


@both
@pytest.mark.parametrize("kind", FLAGS, ids=hex)
@covers(
    v4="2.2.2-1 2.2.2-2 3.6.1-1 3.8.1-1 3.10.1-1 3.14.1-1",
    v5="2.1.3-1 3.6.1-1 3.8.1-1 3.10.1-1 3.14.1-1 3.15.1-1",
)
def test_every_other_flag_closes_the_connection(version: Version, kind: int) -> None:
    bodies = {
        0x80: subscribe(version, (b"a", 0))[2:],
        0xA0: unsubscribe(version, b"a")[2:],
        0xC0: b"",
        0xE0: b"",
        0xF0: b"",
    }
    for flags in range(16):
        if flags == FLAGS[kind]:
            continue
        bench = Bench()
        if kind == 0x10:
            wire = Wire(bench, version)
            wire.say(
                b"\x10" + connect(version)[1:]
                if not flags
                else bytes((0x10 | flags,)) + connect(version)[1:]
            )
            assert wire.closed
            continue
        wire = opened(bench, version)
        expect_refused(wire, packet(kind | flags, bodies.get(kind, number(1))), MALFORMED)


@both
@pytest.mark.parametrize(
    "build",
    [
        lambda v: publish(v, flags=2),
        lambda v: publish(v, flags=4),
        lambda v: subscribe(v, (b"a", 0), id=0),
        lambda v: unsubscribe(v, b"a", id=0),
    ],
    ids=["publish 1", "publish 2", "subscribe", "unsubscribe"],
)
@covers(v4="2.3.1-1", v5="2.2.1-3")
def test_packet_identifier_0_is_refused(
    version: Version, build: Callable[[Version], bytes]
) -> None:
    expect_refused(opened(Bench(), version), build(version), PROTOCOL)


@both
@covers(v4="2.3.1-5 4.3.1-1", v5="2.2.1-2 2.2.2-1 4.3.1-1")
def test_qos_0_has_no_packet_identifier_and_no_properties_are_length_0(version: Version) -> None:
    wire = opened(Bench(), version)
    wire.say(subscribe(version, (b"a", 2)))
    written = bytes.fromhex("30 05 0001 61 00 78" if version is V5 else "30 04 0001 61 78")
    assert wire.say(written) == written


@both
@covers(v4="2.3.1-4", v5="2.2.1-4 4.3.2-1 4.3.3-1")
def test_our_packet_identifiers_are_not_in_use(version: Version) -> None:
    bench = Bench()
    reader, writer = opened(bench, version, b"r"), opened(bench, version, b"w")
    reader.say(subscribe(version, (b"a", 2)))
    open_ids: set[int] = set()
    for turn in range(150):
        writer.say(publish(version, flags=2 if turn % 2 else 4, id=turn + 1))
        for first, body in reader.frames():
            assert first >> 4 == 3
            packet_id = int.from_bytes(body[3:5], "big")
            assert packet_id
            assert packet_id not in open_ids
            open_ids.add(packet_id)
            if first & 6 == 2 and turn % 3:
                reader.say(ack(0x40, packet_id))
                open_ids.discard(packet_id)
    assert len(open_ids) > 90


@both
@pytest.mark.parametrize("packet_id", [1, 0x7FFF, 0xFFFF])
@covers(
    v4="2.3.1-6 2.3.1-7 3.8.4-1 3.8.4-2 3.10.4-4 3.10.4-5 3.3.4-1 4.3.2-2 4.3.3-2",
    v5="2.2.1-5 2.2.1-6 3.8.4-1 3.8.4-2 3.10.4-4 3.10.4-5 3.3.4-1 4.3.2-4 4.3.3-8 4.3.3-11",
)
def test_an_answer_has_the_packet_identifier_of_its_question(
    version: Version, packet_id: int
) -> None:
    wire = opened(Bench(), version)
    told = number(packet_id)
    assert wire.say(publish(version)) == b""
    assert wire.say(publish(version, flags=2, id=packet_id)) == b"\x40\x02" + told
    assert wire.say(publish(version, flags=4, id=packet_id)) == b"\x50\x02" + told
    assert wire.say(b"\x62\x02" + told) == b"\x70\x02" + told
    suback = packet(0x90, told, props(version), b"\x01")
    assert wire.say(subscribe(version, (b"f", 1), id=packet_id)) == suback
    for reason in (0x00, 0x11):  # the second time there is none, and it is answered all the same
        unsuback = packet(0xB0, told, props(version), bytes((reason,)) if version is V5 else b"")
        assert wire.say(unsubscribe(version, b"f", id=packet_id)) == unsuback
