"""Mosquitto's bridges, which say what they are by a bit of the protocol level that no specification has."""

from __future__ import annotations

import pytest

from headwater.edge.mqtt.packets import Publish, Version

from .harness import Bench
from .statements.wire import Wire, number, packet, props, subscribe, text

ACCEPTED = b"\x20\x02\0\0"


def bridge(level: int) -> bytes:
    return packet(0x10, text(b"MQTT"), bytes((level | 0x80, 2)), number(0), text(b"bridge"))


def test_a_bridge_gets_what_others_publish_and_nothing_of_its_own() -> None:
    bench = Bench()
    wire = Wire(bench, Version.V311)
    assert wire.say(bridge(4)) == ACCEPTED
    wire.say(subscribe(Version.V311, (b"#", 1), (b"$share/g/s", 1)))
    assert wire.say(packet(0x30, text(b"mine"), b"x")) == b""
    other = bench.connect("other")
    other.send(Publish(topic="theirs", payload=b"y"))
    other.send(Publish(topic="kept", payload=b"z", retain=True))
    # RETAIN as it was published: so the broker behind it retains it too
    assert wire.hear() == packet(0x30, text(b"theirs"), b"y") + packet(0x31, text(b"kept"), b"z")


def test_what_a_bridge_shares_may_be_its_own() -> None:
    wire = Wire(Bench(), Version.V311)
    wire.say(bridge(4))
    wire.say(subscribe(Version.V311, (b"$share/g/s", 0)))
    assert wire.say(packet(0x30, text(b"s"), b"x")) == packet(0x30, text(b"s"), b"x")


@pytest.mark.parametrize("level", [5, 6])
def test_there_is_no_such_bit_in_mqtt_5(level: int) -> None:
    wire = Wire(Bench(), Version.V5)
    data = packet(
        0x10, text(b"MQTT"), bytes((level | 0x80, 2)), number(0), props(Version.V5), text(b"c")
    )
    assert wire.say(data)[3] == 0x84
    assert wire.closed
