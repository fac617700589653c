"""Shared subscriptions: each message to one member, fairly; what a member leaves behind; what waits for the group."""

from __future__ import annotations

from collections import Counter

import pytest

from headwater.edge.broker.groups import Group
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt.packets import (
    Acknowledgement,
    Connack,
    Connect,
    PacketType,
    Publish,
    Suback,
    Subscribe,
    SubscriptionOptions,
    Unsubscribe,
    Version,
)
from headwater.edge.mqtt.properties import Properties
from headwater.edge.mqtt.reasons import Reason

from .harness import Bench, Peer
from .subscriber import KEPT, back, drain, payloads, publishes, settle

SHARED = "$share/g/a/#"


def members(bench: Bench, count: int, *, qos: int = 1, window: int = 100) -> list[Peer]:
    found = []
    for number in range(count):
        peer = bench.connect(f"m{number}", properties=Properties(receive_maximum=window))
        peer.subscribe(SHARED, qos=qos)
        found.append(peer)
    return found


def publish(bench: Bench, count: int, *, first: int = 0, qos: int = 1) -> None:
    publisher = bench.connect("p")
    for number in range(first, first + count):
        publisher.publish(f"a/{number % 7}", b"%d" % number, qos=qos, id=number % 900 + 1)
        if number % 50 == 49:
            bench.sync()
    bench.sync()
    publisher.lose()


def group(bench: Bench) -> Group:
    (found,) = bench.broker.subscriptions.groups()
    return found


def test_connack_says_that_there_are_shared_subscriptions() -> None:
    bench = Bench()
    peer = bench.peer()
    peer.send(Connect(version=Version.V5, client_id="c"))
    (connack,) = peer.take()
    assert isinstance(connack, Connack)
    assert connack.properties.shared_subscription_available == 1


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("version", Version)
def test_each_message_goes_to_exactly_one_member_in_turn(qos: int, version: Version) -> None:
    bench = Bench()
    peers = []
    for name in ("x", "y", "z"):
        peer = bench.connect(name, version=version)
        (suback,) = peer.subscribe(SHARED, qos=qos)
        assert suback == Suback(packet_id=1, reasons=(Reason(qos),))
        peers.append(peer)
    publish(bench, 30, qos=2)
    got = [payloads(peer.take()) for peer in peers]
    assert [len(each) for each in got] == [10, 10, 10]
    assert sorted(int(each) for part in got for each in part) == list(range(30))
    assert all(part == sorted(part, key=int) for part in got)


def test_a_member_gets_its_own_qos_its_identifier_and_a_copy_of_what_else_it_subscribes_to() -> (
    None
):
    bench = Bench()
    peer = bench.connect("m")
    peer.send(
        Subscribe(
            packet_id=1,
            subscriptions=(SubscriptionOptions(SHARED, 1),),
            properties=Properties(subscription_identifiers=(7,)),
        )
    )
    peer.subscribe("a/+", qos=2)
    publish(bench, 1, qos=2)
    got = sorted(publishes(peer.take()), key=lambda each: each.qos)
    assert [(each.qos, each.properties.subscription_identifiers) for each in got] == [
        (1, (7,)), (2, ()),
    ]  # fmt: skip


def test_no_local_on_a_shared_subscription_is_a_protocol_error() -> None:
    bench = Bench()
    peer = bench.connect("m")
    options = SubscriptionOptions(SHARED, 1, no_local=True)
    peer.send(Subscribe(packet_id=1, subscriptions=(options,)))  # [MQTT-3.8.3-4]
    assert peer.transport.closed


def test_retained_messages_are_not_sent_to_a_shared_subscription() -> None:
    bench = Bench()
    publisher = bench.connect("p")
    publisher.send(Publish(topic="a/1", payload=b"kept", retain=True))
    bench.sync()
    assert payloads(bench.connect("m").subscribe(SHARED)) == []
    assert payloads(bench.connect("n").subscribe("a/#")) == [b"kept"]


def test_who_cannot_take_is_passed_over_and_the_group_waits_when_nobody_can() -> None:
    bench = Bench(settings=MqttSettings(burst_messages_max=3))
    quick, slow = members(bench, 2, window=4)
    publish(bench, 20)
    assert (len(payloads(slow.take())), group(bench).backlog.queued) == (4, 3)
    assert group(bench).backlog.behind == 9
    got = [int(each.payload) for each in drain(quick, bench)]
    assert got == sorted(got)
    assert len(got) == 16
    assert not group(bench).backlog


def test_members_that_are_away_are_not_waited_for_while_another_is_there() -> None:
    bench = Bench()
    away = bench.connect("away", properties=KEPT)
    away.subscribe(SHARED, qos=1)
    (here,) = members(bench, 1)
    away.lose()
    publish(bench, 10)
    assert len(drain(here, bench)) == 10


def test_with_all_members_away_the_group_waits_in_the_log_and_they_share_what_waited() -> None:
    bench = Bench()
    for name in ("x", "y"):
        peer = bench.connect(name, properties=KEPT)
        peer.subscribe(SHARED, qos=1)
        peer.lose()
    publish(bench, 1000)
    waiting = group(bench).backlog
    assert (waiting.queued, waiting.memory, waiting.behind) == (0, 0, 1000)
    peers = [back(bench, name) for name in ("x", "y")]
    got: Counter[int] = Counter()
    shares = [0, 0]
    for _ in range(100):
        for index, peer in enumerate(peers):
            for packet in publishes(settle(peer, bench)):
                got[int(packet.payload)] += 1
                shares[index] += 1
                peer.send(Acknowledgement(PacketType.PUBACK, packet.packet_id))
    assert set(got) == set(range(1000))
    assert set(got.values()) == {1}
    assert min(shares) > 300
    assert not waiting


@pytest.mark.parametrize("session_ends", [True, False])
def test_what_a_member_left_unacknowledged_goes_to_another(session_ends: bool) -> None:
    bench = Bench()
    kept = Properties() if session_ends else KEPT
    leaver = bench.connect("leaver", properties=kept)
    leaver.subscribe(SHARED, qos=1)
    publish(bench, 5)
    assert len(payloads(leaver.take())) == 5
    (stays,) = members(bench, 1)
    leaver.lose()
    bench.broker.departed()
    assert sorted(int(each.payload) for each in drain(stays, bench)) == [0, 1, 2, 3, 4]
    assert not group(bench)._out
    if not session_ends:
        assert publishes(settle(back(bench, "leaver"), bench)) == []


def test_a_lone_member_that_returns_gets_again_what_it_left() -> None:
    bench = Bench()
    peer = bench.connect("s", properties=KEPT)
    peer.subscribe(SHARED, qos=1)
    publish(bench, 2)
    first = publishes(peer.take())
    peer.lose()
    again = publishes(settle(back(bench), bench))
    assert [(each.packet_id, each.payload) for each in again] == [
        (each.packet_id, each.payload) for each in first
    ]
    assert all(each.dup for each in again)


def test_qos_2_stays_with_its_member_and_goes_to_nobody_when_its_session_ends() -> None:
    bench = Bench()
    leaver, other = members(bench, 2, qos=2)
    publish(bench, 1, qos=2)
    assert len(payloads(leaver.take())) + len(payloads(other.take())) == 1
    leaver.lose()
    bench.broker.departed()
    assert drain(other, bench) == []  # [MQTT-4.8.2-5]
    assert not group(bench)._out


def test_an_acknowledgement_with_an_error_ends_it() -> None:
    bench = Bench()
    one, two = members(bench, 2)
    publish(bench, 1)
    (packet,) = publishes(one.take())
    one.send(Acknowledgement(PacketType.PUBACK, packet.packet_id, Reason.QUOTA_EXCEEDED))
    bench.sync()
    assert one.take() == []
    assert two.take() == []  # [MQTT-4.8.2-6]


def test_a_group_ends_with_its_last_member() -> None:
    bench = Bench()
    (one,) = members(bench, 1)
    one.send(Unsubscribe(packet_id=1, filters=(SHARED,)))
    assert bench.broker.subscriptions.groups() == []
    assert bench.broker.subscriptions.count == 0
    assert bench.broker.subscriptions._root.empty


def test_groups_of_different_names_each_get_every_message() -> None:
    bench = Bench()
    one, two = bench.connect("one"), bench.connect("two")
    one.subscribe("$share/x/a/#", qos=1)
    two.subscribe("$share/y/a/#", qos=1)
    publish(bench, 5)
    assert len(payloads(one.take())) == len(payloads(two.take())) == 5
