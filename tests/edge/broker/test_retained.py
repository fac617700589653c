"""Retained messages: the last word on each topic, for those who come later."""

from __future__ import annotations

import pytest

from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt.packets import (
    Packet,
    Publish,
    RetainHandling,
    Suback,
    Subscribe,
    SubscriptionOptions,
)
from headwater.edge.mqtt.properties import Properties
from headwater.edge.mqtt.reasons import Reason

from .harness import Bench, Peer


def payloads(packets: list[Packet]) -> list[bytes]:
    return [packet.payload for packet in packets if isinstance(packet, Publish)]


def retain(peer: Peer, topic: str, payload: bytes, qos: int = 0) -> None:
    peer.send(
        Publish(topic=topic, payload=payload, qos=qos, retain=True, packet_id=999 if qos else 0)
    )


def test_a_new_subscription_gets_the_last_retained_message_once_it_is_durable() -> None:
    bench = Bench()
    publisher, early, late = bench.connect("p"), bench.connect("e"), bench.connect("l")
    retain(publisher, "a/b", b"old", qos=1)
    bench.sync()
    retain(publisher, "a/b", b"new", qos=1)
    early.subscribe("a/#")
    bench.sync()
    late.send(Subscribe(packet_id=1, subscriptions=(SubscriptionOptions("a/+", 2),)))
    _, packet = late.take()
    assert isinstance(packet, Publish)
    assert (packet.payload, packet.retain, packet.qos) == (b"new", True, 1)


def test_an_empty_payload_forgets_the_topic_and_is_stored_like_any_other() -> None:
    bench = Bench()
    peer = bench.connect()
    retain(peer, "a", b"x")
    retain(peer, "a", b"")
    bench.sync()
    assert peer.subscribe("a") == [Suback(packet_id=1, reasons=(Reason.GRANTED_QOS_2,))]
    assert bench.journal.values == [b"x", b""]
    assert bench.broker.fanout.retained.bytes_held == 0


def test_live_messages_carry_retain_only_where_asked() -> None:
    bench = Bench()
    publisher, plain, asked = bench.connect("p"), bench.connect("1"), bench.connect("2")
    plain.subscribe("a")
    asked.send(
        Subscribe(
            packet_id=1, subscriptions=(SubscriptionOptions("a", 1, retain_as_published=True),)
        )
    )
    asked.take()
    retain(publisher, "a", b"x")
    bench.sync()
    flags = [[p.retain for p in peer.take() if isinstance(p, Publish)] for peer in (plain, asked)]
    assert flags == [[False], [True]]


@pytest.mark.parametrize(
    ("handling", "expected"),
    [
        (RetainHandling.SEND, [1, 1]),
        (RetainHandling.SEND_IF_NEW, [1, 0]),
        (RetainHandling.DO_NOT_SEND, [0, 0]),
    ],
)
def test_retain_handling(handling: RetainHandling, expected: list[int]) -> None:
    bench = Bench()
    peer = bench.connect()
    retain(peer, "a", b"x")
    bench.sync()
    options = SubscriptionOptions("a", 1, retain_handling=handling)
    got = []
    for _ in range(2):
        peer.send(Subscribe(packet_id=1, subscriptions=(options,)))
        got.append(len(payloads(peer.take())))
    assert got == expected


def test_a_slow_subscriber_gets_all_retained_topics_as_it_can_take_them() -> None:
    bench = Bench()
    publisher, slow = bench.connect("p"), bench.connect("s")
    for number in range(50):
        retain(publisher, f"a/{number}", b"old")
    bench.sync()
    slow.client.writable = False
    slow.subscribe("a/+", qos=0)
    retain(publisher, "a/7", b"new")
    bench.sync()
    slow.client.resume_writing()
    packets = [packet for packet in slow.take() if isinstance(packet, Publish)]
    assert {packet.topic for packet in packets} == {f"a/{number}" for number in range(50)}
    assert [packet.payload for packet in packets if packet.topic == "a/7"] == [b"new"]


def test_what_does_not_fit_among_the_retained_is_refused_and_the_rest_stays() -> None:
    bench = Bench(settings=MqttSettings(retained_messages_max=1))
    peer = bench.connect()
    retain(peer, "a", b"1")
    retain(peer, "b", b"2")
    retain(peer, "a", b"3")
    bench.sync()
    assert payloads(peer.subscribe("#")) == [b"3"]
    assert bench.broker.tally.refused == {"retained limit": 1}
    assert bench.journal.values == [b"1", b"2", b"3"]


def test_subscribed_while_a_retained_message_waits_for_the_disk_gets_it_as_retained() -> None:
    """On one connection: publish, subscribe. The subscription is new, the message was there before it."""
    bench = Bench()
    peer, other = bench.connect("c"), bench.connect("o")
    other.subscribe("a/#", qos=0)
    retain(peer, "a/b", b"before")
    peer.send(
        Subscribe(
            packet_id=1,
            subscriptions=(SubscriptionOptions("a/+", 1),),
            properties=Properties(subscription_identifiers=(7,)),
        )
    )
    retain(peer, "a/b", b"after")
    bench.sync()
    _, first, second = peer.take()
    assert isinstance(first, Publish)
    assert isinstance(second, Publish)
    assert (first.payload, first.retain) == (b"before", True)  # [MQTT-3.3.1-8]
    assert first.properties.subscription_identifiers == (7,)
    assert (second.payload, second.retain) == (b"after", False)
    assert [(p.payload, p.retain) for p in other.take() if isinstance(p, Publish)] == [
        (b"before", False),
        (b"after", False),
    ]


def test_subscribed_while_messages_wait_for_the_disk_gets_none_that_are_not_owed() -> None:
    bench = Bench()
    peer, other = bench.connect("c"), bench.connect("o")
    other.subscribe("a/#", qos=0)
    peer.publish("a/b", b"not retained", qos=0)
    retain(peer, "a/b", b"not asked for")
    never = SubscriptionOptions("a/b", 1, retain_handling=RetainHandling.DO_NOT_SEND)
    peer.send(Subscribe(packet_id=1, subscriptions=(never,)))
    retain(peer, "a/b", b"")
    bench.sync()
    assert payloads(peer.take()) == [b""]  # the one that came after, as it is
    assert payloads(other.take()) == [b"not retained", b"not asked for", b""]


def test_a_subscription_made_again_misses_nothing_that_waits_for_the_disk() -> None:
    bench = Bench()
    peer = bench.connect("c")
    peer.subscribe("a/#", qos=1)
    peer.publish("a/b", b"x", qos=0)
    peer.subscribe("a/#", qos=2)  # [MQTT-3.8.4-3]: must not interrupt the flow
    bench.sync()
    assert payloads(peer.take()) == [b"x"]
