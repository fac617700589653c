"""Section 4.8.2: shared subscriptions. One message goes to one member of the group, and stays with it where MQTT says so."""

from __future__ import annotations

import pytest

from ..harness import Bench
from .wire import V5, Wire, ack, arrived, connect, covers, kept, opened, publish, subscribe

GROUP = b"$share/g/a"
KEPT = kept(V5)


def members(bench: Bench, *granted: int) -> list[Wire]:
    """Members of one group, each with the QoS that it was granted."""
    wires = [opened(bench, V5, b"m%d" % index, **KEPT) for index in range(len(granted))]
    for wire, qos in zip(wires, granted, strict=True):
        assert wire.say(subscribe(V5, (GROUP, qos)))[-1] == qos
    return wires


def one_in_flight(qos: int) -> tuple[Bench, Wire, Wire, int]:
    """(…, the member that has the message, the one that has not, the packet identifier)."""
    bench = Bench()
    wires = members(bench, 2, 2)
    opened(bench, V5, b"w").say(publish(V5, flags=qos << 1, id=1))
    heard = [arrived(wire) for wire in wires]
    assert sorted(len(each) for each in heard) == [0, 1]
    first, second = wires if heard[0] else reversed(wires)
    ((_, packet_id, _),) = heard[0] or heard[1]
    return bench, first, second, packet_id


@covers(v5="4.8.2-1 4.8.2-2 4.8.2-3")
@pytest.mark.parametrize("sent", [0, 1, 2])
def test_each_message_goes_to_one_member_at_its_qos(sent: int) -> None:
    bench = Bench()
    wires = members(bench, 0, 1, 2)
    writer = opened(bench, V5, b"w")
    whole = opened(bench, V5, b"whole")
    whole.say(subscribe(V5, (b"a", 0)))
    heard: list[bytes] = []
    for number in range(12):
        writer.say(publish(V5, payload=bytes((number,)), flags=sent << 1, id=number + 1))
        for granted, wire in enumerate(wires):
            for first, packet_id, payload in arrived(wire):
                qos = first >> 1 & 3
                assert qos == min(sent, granted)
                heard.append(payload)
                if qos == 1:
                    wire.say(ack(0x40, packet_id))
                elif qos == 2:
                    wire.say(ack(0x50, packet_id), ack(0x70, packet_id))
    assert sorted(heard) == [bytes((number,)) for number in range(12)]
    # the group takes nothing from those who subscribe for themselves
    assert len(arrived(whole)) == 12


@covers(v5="4.8.2-4")
def test_a_qos_2_delivery_that_was_begun_waits_for_its_member() -> None:
    bench, first, second, packet_id = one_in_flight(2)
    name = first.peer.client.client_id.encode()
    first.lose()
    bench.wait(2)
    assert arrived(second) == []
    again = Wire(bench, V5)
    assert arrived(again, connect(V5, name, **KEPT)) + arrived(again) == [(0x3C, packet_id, b"x")]


@covers(v5="4.8.2-5")
@pytest.mark.parametrize("qos", [2])
def test_a_qos_2_delivery_dies_with_its_members_session(qos: int) -> None:
    bench, first, second, _ = one_in_flight(qos)
    first.say(b"\xe0\x07\x00\x05\x11\0\0\0\0")  # its session ends with it
    bench.wait(2)
    assert arrived(second) == []


@covers(v5="4.8.2-6 4.4.0-2")
@pytest.mark.parametrize(("qos", "kind"), [(1, 0x40), (2, 0x50)])
def test_what_a_member_refuses_is_given_to_nobody(qos: int, kind: int) -> None:
    bench, first, second, packet_id = one_in_flight(qos)
    assert first.say(ack(kind, packet_id, 0x83)) == b""
    bench.wait(2)
    assert arrived(second) == arrived(first) == []
    first.lose()
    bench.wait(2)
    assert arrived(second) == []
