"""Sections 4.1, 4.4, 4.9 once more: what a client that returns is owed, and what it may refuse."""

from __future__ import annotations

import pytest

from headwater.edge.mqtt.packets import Version

from ..harness import Bench
from .wire import (
    V4,
    V5,
    Wire,
    ack,
    arrived,
    both,
    connect,
    covers,
    kept,
    opened,
    pair_of,
    publish,
    subscribe,
)

EXPIRY = b"\x11\0\0\x0f\xff"


@covers(v5="3.3.4-9 4.9.0-1 4.9.0-2")
@pytest.mark.parametrize("flags", [2, 4])
def test_a_smaller_receive_maximum_holds_for_what_is_sent_again_too(flags: int) -> None:
    reader, writer = pair_of(V5, **kept(V5))
    for id in range(1, 7):  # noqa: A001
        writer.say(publish(V5, payload=b"%d" % id, flags=flags, id=id))
    assert len(arrived(reader)) == 6
    reader.lose()
    again = Wire(reader.bench, V5)
    frames = arrived(again, connect(V5, b"r", flags=0, properties=EXPIRY + b"\x21\x00\x02"))
    frames += arrived(again)
    assert [payload for _, _, payload in frames] == [b"1", b"2"]
    heard = list(frames)
    while frames:
        _, packet_id, _ = frames.pop(0)
        if flags == 4:
            again.say(ack(0x50, packet_id))
        more = arrived(again, ack(0x40 if flags == 2 else 0x70, packet_id))
        frames += more
        heard += more
        assert len(frames) <= 2
    assert [payload for _, _, payload in heard] == [b"%d" % id for id in range(1, 7)]  # noqa: A001


@covers(v5="3.1.2-24 3.1.2-25")
def test_a_smaller_maximum_packet_size_holds_for_what_is_sent_again_too() -> None:
    reader, writer = pair_of(V5, **kept(V5))
    for id, payload in ((1, b"x" * 200), (2, b"y")):  # noqa: A001
        writer.say(publish(V5, payload=payload, flags=2, id=id))
    assert len(arrived(reader)) == 2
    reader.lose()
    again = Wire(reader.bench, V5)
    data = connect(V5, b"r", flags=0, properties=EXPIRY + b"\x27\0\0\0\x64")
    frames = arrived(again, data) + arrived(again)
    assert [payload for _, _, payload in frames] == [b"y"]


@both
@covers(v4="3.1.2-4 3.3.1-3", v5="3.1.2-5 4.4.0-1")
def test_a_session_may_be_resumed_in_the_other_version(version: Version) -> None:
    other = V5 if version is V4 else V4
    reader, writer = pair_of(version, **kept(version))
    writer.say(publish(version, flags=2, id=1))
    assert len(arrived(reader)) == 1
    reader.lose()
    again = Wire(reader.bench, other)
    frames = arrived(again, connect(other, b"r", **kept(other))) + arrived(again)
    assert [(first, payload) for first, _, payload in frames] == [(0x3A, b"x")]


@both
@covers(v4="4.4.0-1 3.1.2-6", v5="4.4.0-1 3.1.2-4")
def test_nothing_is_sent_again_to_who_starts_clean(version: Version) -> None:
    reader, writer = pair_of(version, **kept(version))
    writer.say(publish(version, flags=2, id=1), publish(version, flags=4, id=2))
    assert len(arrived(reader)) == 2
    reader.lose()
    again = Wire(reader.bench, version)
    assert arrived(again, connect(version, b"r")) + arrived(again) == []


@both
@covers(v4="3.1.2-5", v5="4.5.0-1")
def test_qos_0_for_who_is_away_is_not_kept(version: Version) -> None:
    reader, writer = pair_of(version, **kept(version))
    reader.lose()
    writer.say(publish(version, payload=b"0"), publish(version, payload=b"1", flags=2, id=1))
    again = Wire(reader.bench, version)
    frames = arrived(again, connect(version, b"r", **kept(version))) + arrived(again)
    assert [payload for _, _, payload in frames] == [b"1"]


@both
@covers(v4="3.10.4-2 3.1.2-4", v5="3.10.4-2")
def test_what_was_unsubscribed_before_leaving_is_not_kept(version: Version) -> None:
    reader, writer = pair_of(version, **kept(version))
    reader.say(b"\xa2\x06\x00\x02\x00\x00\x01a" if version is V5 else b"\xa2\x05\x00\x02\x00\x01a")
    reader.lose()
    writer.say(publish(version, flags=2, id=1))
    again = Wire(reader.bench, version)
    assert arrived(again, connect(version, b"r", **kept(version))) + arrived(again) == []


@covers(v5="3.3.2-5 3.3.2-6")
def test_expiry_for_who_is_away() -> None:
    reader, writer = pair_of(V5, **kept(V5))
    bench = reader.bench
    reader.lose()
    for id, seconds in ((1, 5), (2, 100)):  # noqa: A001
        expiry = b"\x02" + seconds.to_bytes(4, "big")
        writer.say(publish(V5, payload=b"%d" % id, flags=2, id=id, properties=expiry))
    bench.wait(10)
    again = Wire(bench, V5)
    frames = again.frames(connect(V5, b"r", **kept(V5))) + again.frames()
    bodies = [body[5:] for first, body in frames if first >> 4 == 3]
    assert bodies == [b"\x05\x02\0\0\0\x5a2"]


@covers(v5="3.3.2-5")
@pytest.mark.parametrize("flags", [0, 2, 4])
def test_a_message_that_expired_while_it_waited_for_the_disk_is_not_delivered(flags: int) -> None:
    reader, writer = pair_of(V5)
    expiry = b"\x02\0\0\0\x02"
    writer.peer.send_raw(publish(V5, flags=flags, id=1, properties=expiry))
    reader.bench.wait(5)
    assert reader.hear() == b""
    # the publisher is answered all the same: the record is stored
    assert writer.peer.take_raw()[:1] == {0: b"", 2: b"\x40", 4: b"\x50"}[flags]


@both
@covers(v4="3.8.4-3", v5="3.8.4-4")
def test_replacing_a_subscription_loses_nothing_that_waits(version: Version) -> None:
    bench = Bench()
    reader = opened(bench, version, b"r", **({"properties": b"\x21\0\1"} if version is V5 else {}))
    writer = opened(bench, version, b"w")
    reader.say(subscribe(version, (b"a", 1)))
    for id in (1, 2, 3):  # noqa: A001
        writer.say(publish(version, payload=b"%d" % id, flags=2, id=id))
    got = arrived(reader)
    reader.say(subscribe(version, (b"a", 1)))
    heard = [payload for _, _, payload in got]
    while got:
        _, packet_id, _ = got.pop(0)
        more = arrived(reader, ack(0x40, packet_id))
        heard += [payload for _, _, payload in more]
        got += more
    assert heard == [b"1", b"2", b"3"]
