"""Mosquitto as a neighbour that bridges to us: protocol level 0x84, its word that it is there, and a real one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiomqtt
import pytest
import uvloop

from headwater.edge.broker.systopics import SystemTopics
from headwater.edge.mqtt.packets import Version

from ..sources.mosquitto import Mosquitto
from .harness import Bench
from .loopback import served
from .statements.wire import (
    V4,
    V5,
    Wire,
    ack,
    arrived,
    both,
    connect,
    number,
    opened,
    packet,
    publish,
    subscribe,
    text,
)

STATE = b"$SYS/broker/connection/pump-house.up/state"
TIMEOUT_S = 30


def bridge(bench: Bench, *, will: bytes = b"") -> Wire:
    wire = Wire(bench, V4)
    head = text(b"MQTT") + bytes((0x84, 0x26 if will else 0x02)) + number(0)
    rest = text(will) + text(b"0") if will else b""
    assert wire.say(packet(0x10, head, text(b"bridge"), rest)) == b"\x20\x02\0\0"
    return wire


def test_a_bridge_gets_nothing_back_that_it_sent_and_sees_what_is_retained() -> None:
    bench = Bench()
    wire, other = bridge(bench), opened(bench, V5, b"o")
    assert wire.say(subscribe(V4, (b"#", 1), (b"$share/g/x", 1))) == b"\x90\x04\0\1\1\1"
    assert wire.say(publish(V4, flags=2, id=1)) == ack(0x40, 1)
    other.say(publish(V5, b"b", b"kept", flags=1))
    ((first, body),) = wire.frames()
    assert (first & 1, body[-4:]) == (1, b"kept")


def test_who_is_no_bridge_gets_its_own_without_the_flag() -> None:
    wire = opened(Bench(), V4)
    wire.say(subscribe(V4, (b"#", 0)))
    assert wire.say(publish(V4, flags=1)) == publish(V4)


def test_what_a_bridge_shares_may_be_its_own() -> None:
    wire = bridge(Bench())
    wire.say(subscribe(V4, (b"$share/g/s", 0)))
    assert wire.say(publish(V4, b"s")) == publish(V4, b"s")


@pytest.mark.parametrize("level", [0x83, 0x85, 0x86])
def test_other_levels_with_the_bridges_bit_are_refused(level: int) -> None:
    wire = Wire(Bench(), V4)
    wire.say(packet(0x10, text(b"MQTT"), bytes((level, 2)), number(0), text(b"c")))
    assert wire.closed


@both
def test_a_bridge_may_say_whether_it_is_there_and_nothing_else_of_ours(version: Version) -> None:
    bench = Bench()
    SystemTopics(bench.broker, interval_s=10, version="headwater 1")
    bridge(bench, will=STATE).say(publish(V4, STATE, b"1", flags=3, id=1))
    reader = opened(bench, version, b"r")
    states = [
        body for _, body in reader.frames(subscribe(version, (b"$SYS/#", 0))) if STATE in body
    ]
    assert [each[-1:] for each in states] == [b"1"]
    bench.broker.sessions["bridge"].link.connection_lost(None)  # type: ignore[union-attr]
    assert [payload[-1:] for _, _, payload in arrived(reader)] == [b"0"]
    for other in (STATE[:-6], b"$SYS/broker/uptime", b"$share/g/x"):
        answer = reader.frames(publish(version, other, flags=2, id=1))
        assert reader.closed if version is V4 else answer[0][1][2] == 0x90
        if version is V4:
            reader = opened(bench, version, b"r")
    late = Wire(bench, version)
    data = connect(version, flags=6, rest=b"\0" * (version is V5) + text(b"$SYS/x") + text(b""))
    assert late.say(data)[3] == (0x90 if version is V5 else 5)


def test_a_real_mosquitto_bridges_to_us_as_it_does_by_default(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served() as server, asyncio.timeout(TIMEOUT_S):
            neighbour = Mosquitto(
                tmp_path,
                more=f"connection up\naddress {server.host}:{server.port}\ntopic # both 1\n",
            )
            async with aiomqtt.Client(server.host, server.port) as here:
                await here.subscribe("$SYS/broker/connection/+/state", qos=1)
                await here.subscribe("there/#", qos=1)
                heard = aiter(here.messages)
                await asyncio.to_thread(neighbour.start)
                assert (await anext(heard)).payload == b"1"
                async with aiomqtt.Client("127.0.0.1", neighbour.port) as there:
                    await there.subscribe("#", qos=1)
                    await there.publish("there/a", b"up", qos=1)
                    assert (await anext(heard)).payload == b"up"
                    await here.publish("here/a", b"down", qos=1)
                    got = [(await anext(aiter(there.messages))).payload for _ in range(2)]
                    assert got == [b"up", b"down"]
                await asyncio.to_thread(neighbour.kill)
                assert (await anext(heard)).payload == b"0"
                assert [each.record.value for each in server.journal.stored].count(b"up") == 1

    uvloop.run(scenario())
