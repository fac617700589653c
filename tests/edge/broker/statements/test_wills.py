"""Section 3.1.2.5 and its like: wills, when they are said, how, and when not."""

from __future__ import annotations

from typing import Any

import pytest

from headwater.edge.mqtt.packets import Version

from ..harness import Bench
from .wire import (
    V5,
    both,
    covers,
    opened,
    packet,
    props,
    subscribe,
    text,
)


def will(version: Version, qos: int = 0, retain: int = 0, delay: int = 0) -> dict[str, Any]:
    properties = props(version, b"\x18" + delay.to_bytes(4, "big") if delay else b"")
    rest = properties + text(b"w") + text(b"gone")
    return {"flags": 6 | qos << 3 | retain << 5, "rest": rest}


@both
@pytest.mark.parametrize("retain", [0, 1])
@pytest.mark.parametrize("qos", [0, 1, 2])
@covers(
    v4="3.1.2-8 3.1.2-10 3.1.2-16 3.1.2-17",
    v5="3.1.2-7 3.1.2-8 3.1.2-10 3.1.2-12 3.1.2-14 3.1.2-15",
)
def test_a_will_is_published_once_at_its_qos(version: Version, qos: int, retain: int) -> None:
    bench = Bench()
    watcher = opened(bench, version, b"watcher")
    watcher.say(subscribe(version, (b"w", 2)))
    opened(bench, version, **will(version, qos, retain)).lose()
    ((first, body),) = watcher.frames()
    assert (first >> 1 & 3, first & 1) == (qos, 0)
    assert body.endswith(b"gone")
    bench.wait(5)
    assert watcher.hear() == b""
    late = opened(bench, version, b"late").say(subscribe(version, (b"w", 0)))
    assert late.endswith(b"gone") is bool(retain)


@both
@pytest.mark.parametrize("end", ["violation", "silence", "taken over", "lost"])
@covers(v4="3.1.2-8 3.1.2-24", v5="3.1.2-8 3.1.2-22")
def test_every_end_but_disconnect_publishes_the_will(version: Version, end: str) -> None:
    bench = Bench()
    wire = opened(bench, version, keep_alive=10, **will(version))
    if end == "violation":
        wire.say(b"\x00\x00")
    elif end == "silence":
        bench.wait(17)
    elif end == "taken over":
        opened(bench, version)
    else:
        wire.lose()
    assert wire.closed or end == "lost"
    assert bench.journal.values == [b"gone"]


@both
@covers(v4="3.1.2-12")
def test_without_a_will_nothing_is_published(version: Version) -> None:
    bench = Bench()
    opened(bench, version).lose()
    assert bench.journal.stored == []


@covers(v5="3.1.2-8")
def test_disconnect_with_0x04_publishes_the_will() -> None:
    bench = Bench()
    opened(bench, V5, **will(V5)).say(b"\xe0\x01\x04")
    assert bench.journal.values == [b"gone"]


@covers(v5="3.1.3-9 3.1.2-8")
@pytest.mark.parametrize("back", [False, True])
def test_the_will_waits_for_its_delay_and_is_not_sent_to_who_returns(back: bool) -> None:
    bench = Bench()
    more = {**will(V5, delay=10), "properties": b"\x11\0\0\0\x64"}
    opened(bench, V5, **more).lose()
    bench.wait(8)
    assert bench.journal.stored == []
    if back:
        opened(bench, V5, flags=0)
    bench.wait(4)
    assert bench.journal.values == ([] if back else [b"gone"])


@covers(v5="3.1.3-9 3.1.2-8")
@pytest.mark.parametrize("what", ["will", "session"])
def test_a_second_between_two_ticks_is_a_whole_one(what: str) -> None:
    bench = Bench()
    delay, expiry = (1, 100) if what == "will" else (100, 1)
    more = {**will(V5, delay=delay), "properties": b"\x11" + expiry.to_bytes(4, "big")}
    wire = opened(bench, V5, **more)
    bench.clock.advance(0.4)  # since the last tick
    wire.lose()
    bench.wait(0.9)
    assert bench.journal.stored == []
    bench.wait(0.5)
    assert bench.journal.values == [b"gone"]


@covers(v5="3.1.3-9")
def test_the_will_does_not_outlive_its_session() -> None:
    bench = Bench()
    opened(bench, V5, **{**will(V5, delay=100), "properties": b"\x11\0\0\0\x05"}).lose()
    bench.wait(6)
    assert bench.journal.values == [b"gone"]


@covers(v5="3.1.3-10 3.3.2-18")
def test_the_wills_user_properties_keep_their_order() -> None:
    bench = Bench()
    watcher = opened(bench, V5, b"watcher")
    watcher.say(subscribe(V5, (b"w", 0)))
    pairs = b"".join(b"\x26" + text(b"n") + text(value) for value in (b"2", b"1", b"2"))
    opened(bench, V5, flags=6, rest=props(V5, pairs) + text(b"w") + text(b"x")).lose()
    assert watcher.hear() == packet(0x30, text(b"w"), props(V5, pairs), b"x")
