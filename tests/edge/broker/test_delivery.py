"""Messages out: who gets what, at which QoS, in which order, and what happens to those who are slow or away."""

from __future__ import annotations

import pytest

from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt.packets import (
    Acknowledgement,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Publish,
    Suback,
    Subscribe,
    SubscriptionOptions,
    Unsuback,
    Unsubscribe,
    Version,
)
from headwater.edge.mqtt.properties import Properties
from headwater.edge.mqtt.reasons import Reason

from .harness import Bench, Peer

KEPT = Properties(session_expiry_interval=1000)


def payloads(packets: list[Packet]) -> list[bytes]:
    return [packet.payload for packet in packets if isinstance(packet, Publish)]


def retain(peer: Peer, topic: str, payload: bytes, qos: int = 0) -> None:
    peer.send(
        Publish(topic=topic, payload=payload, qos=qos, retain=True, packet_id=999 if qos else 0)
    )


def test_subscribers_get_nothing_before_the_record_is_durable() -> None:
    bench = Bench()
    publisher, subscriber = bench.connect("p"), bench.connect("s")
    subscriber.subscribe("a/#")
    publisher.publish("a/b", b"1")
    publisher.publish("a/b", b"0", qos=0)
    assert subscriber.take() == []
    bench.sync()
    assert payloads(subscriber.take()) == [b"1", b"0"]


@pytest.mark.parametrize("subscribed", [0, 1, 2])
@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("version", Version)
def test_delivery_is_at_the_lower_of_both_qos(
    version: Version, published: int, subscribed: int
) -> None:
    bench = Bench()
    publisher, subscriber = bench.connect("p"), bench.connect("s", version=version)
    assert subscriber.subscribe("a", qos=subscribed) == [
        Suback(packet_id=1, reasons=(Reason(subscribed),))
    ]
    publisher.publish("a", b"x", qos=published)
    bench.sync()
    (packet,) = subscriber.take()
    assert isinstance(packet, Publish)
    assert packet.qos == min(published, subscribed)
    assert bool(packet.packet_id) == bool(packet.qos)
    assert (packet.topic, packet.payload, packet.retain, packet.dup) == ("a", b"x", False, False)


def test_qos_2_out_goes_through_its_four_steps() -> None:
    bench = Bench()
    publisher, subscriber = bench.connect("p"), bench.connect("s")
    subscriber.subscribe("a")
    publisher.publish("a", qos=2)
    bench.sync()
    (publish,) = subscriber.take()
    assert isinstance(publish, Publish)
    subscriber.send(Acknowledgement(PacketType.PUBREC, publish.packet_id))
    assert subscriber.take() == [Acknowledgement(PacketType.PUBREL, publish.packet_id)]
    session = bench.broker.sessions["s"]
    assert session.in_flight == 1
    subscriber.send(Acknowledgement(PacketType.PUBCOMP, publish.packet_id))
    assert session.in_flight == 0


def test_a_pubrec_with_an_error_ends_the_delivery() -> None:
    bench = Bench()
    publisher, subscriber = bench.connect("p"), bench.connect("s")
    subscriber.subscribe("a")
    publisher.publish("a", qos=2)
    bench.sync()
    subscriber.take()
    subscriber.send(Acknowledgement(PacketType.PUBREC, 1, Reason.QUOTA_EXCEEDED))
    assert subscriber.take() == []
    assert bench.broker.sessions["s"].in_flight == 0


def test_order_is_kept_and_the_clients_receive_maximum_is_never_exceeded() -> None:
    bench = Bench()
    publisher = bench.connect("p")
    subscriber = bench.connect("s", properties=Properties(receive_maximum=3))
    subscriber.subscribe("a", qos=1)
    for number in range(10):
        publisher.publish("a", b"%d" % number, id=number + 1)
    bench.sync()
    got: list[bytes] = []
    for _ in range(10):
        packets = [packet for packet in subscriber.take() if isinstance(packet, Publish)]
        assert len(packets) <= 3
        got += [packet.payload for packet in packets]
        for packet in packets:
            subscriber.send(Acknowledgement(PacketType.PUBACK, packet.packet_id))
    assert got == [b"%d" % number for number in range(10)]
    assert bench.broker.sessions["s"].in_flight == 0


def test_overlapping_filters_deliver_once_with_all_identifiers() -> None:
    bench = Bench()
    publisher, subscriber = bench.connect("p"), bench.connect("s")
    for identifier, topic_filter in ((5, "a/#"), (6, "a/+")):
        subscriber.send(
            Subscribe(
                packet_id=1,
                subscriptions=(SubscriptionOptions(topic_filter, 1),),
                properties=Properties(subscription_identifiers=(identifier,)),
            )
        )
    subscriber.take()
    publisher.publish("a/b")
    bench.sync()
    (packet,) = subscriber.take()
    assert isinstance(packet, Publish)
    assert sorted(packet.properties.subscription_identifiers) == [5, 6]


def test_no_local_keeps_a_clients_own_messages_from_it() -> None:
    bench = Bench()
    one, two = bench.connect("one"), bench.connect("two")
    options = SubscriptionOptions("a", 1, no_local=True)
    for peer in (one, two):
        peer.send(Subscribe(packet_id=1, subscriptions=(options,)))
        peer.take()
    one.publish("a", b"mine")
    bench.sync()
    assert payloads(one.take()) == []
    assert payloads(two.take()) == [b"mine"]


def test_no_local_on_one_filter_leaves_the_others_their_message() -> None:
    bench = Bench()
    peer, two = bench.connect("one"), bench.connect("two")
    for identifier, options in enumerate(
        (SubscriptionOptions("a", 2, no_local=True), SubscriptionOptions("+", 0)), 5
    ):
        peer.send(
            Subscribe(
                packet_id=1,
                subscriptions=(options,),
                properties=Properties(subscription_identifiers=(identifier,)),
            )
        )
    peer.take()
    for publisher in (peer, two):
        publisher.publish("a", qos=2)
    bench.sync()
    own, others = (packet for packet in peer.take() if isinstance(packet, Publish))
    assert (own.qos, own.properties.subscription_identifiers) == (0, (6,))
    assert others.qos == 2
    assert sorted(others.properties.subscription_identifiers) == [5, 6]


def test_unsubscribed_gets_no_more_and_is_told_whether_there_was_anything() -> None:
    bench = Bench()
    peer = bench.connect()
    peer.subscribe("a/b", "a/+")
    peer.send(Unsubscribe(packet_id=3, filters=("a/b", "a/#", "a/+")))
    no = Reason.NO_SUBSCRIPTION_EXISTED
    assert peer.take() == [Unsuback(packet_id=3, reasons=(Reason.SUCCESS, no, Reason.SUCCESS))]
    peer.publish("a/b")
    bench.sync()
    assert payloads(peer.take()) == []


def test_a_subscription_made_after_a_topic_was_quiet_is_served() -> None:
    """The hot path remembers that nobody wants a topic; it must also forget."""
    bench = Bench()
    publisher, subscriber = bench.connect("p"), bench.connect("s")
    publisher.publish("a", b"1")
    bench.sync()
    subscriber.subscribe("a", qos=0)
    publisher.publish("a", b"2")
    bench.sync()
    assert payloads(subscriber.take()) == [b"2"]


def test_properties_of_a_message_travel_with_it_but_its_alias_does_not() -> None:
    bench = Bench()
    publisher, subscriber = bench.connect("p"), bench.connect("s")
    old = bench.connect("old", version=Version.V311)
    subscriber.subscribe("a")
    old.subscribe("a")
    carried = Properties(
        content_type="text/plain",
        response_topic="r",
        correlation_data=b"7",
        user_properties=(("k", "1"), ("k", "2")),
        payload_format_indicator=1,
        message_expiry_interval=30,
        topic_alias=2,
    )
    publisher.send(Publish(topic="a", payload=b"x", properties=carried))
    bench.wait(10)
    bench.sync()
    (packet,) = subscriber.take()
    assert isinstance(packet, Publish)
    assert packet.properties == Properties(
        content_type="text/plain",
        response_topic="r",
        correlation_data=b"7",
        user_properties=(("k", "1"), ("k", "2")),
        payload_format_indicator=1,
        message_expiry_interval=20,
    )
    assert payloads(old.take()) == [b"x"]


def test_limits_on_subscriptions_refuse_the_one_and_grant_the_others() -> None:
    bench = Bench(settings=MqttSettings(subscriptions_max=2, filter_levels_max=3))
    peer = bench.connect()
    (suback,) = peer.subscribe("a/b/c/d", "a", "b", "c", "a")
    assert isinstance(suback, Suback)
    granted = Reason.GRANTED_QOS_2
    assert suback.reasons == (
        Reason.TOPIC_FILTER_INVALID, granted, granted, Reason.QUOTA_EXCEEDED, granted,
    )  # fmt: skip


# --- slow and absent subscribers --------------------------------------------------------------------------------


def test_a_kept_session_gets_what_came_while_it_was_away_in_order() -> None:
    bench = Bench()
    publisher = bench.connect("p")
    subscriber = bench.connect("s", clean=False, properties=KEPT)
    subscriber.subscribe("a", qos=1)
    publisher.publish("a", b"before", id=1)
    bench.sync()
    subscriber.take()  # and not acknowledged
    subscriber.lose()
    for number in range(3):
        publisher.publish("a", b"%d" % number, id=number + 2)
        publisher.publish("a", b"qos 0 is not kept", qos=0)
    bench.sync()
    back = bench.peer()
    back.send(Connect(version=Version.V5, client_id="s", clean_start=False, properties=KEPT))
    bench.keep_promises()
    connack, first, *rest = back.take()
    assert getattr(connack, "session_present", None) is True
    assert isinstance(first, Publish)
    assert (first.payload, first.dup, first.packet_id) == (b"before", True, 1)  # [MQTT-4.4.0-1]
    assert payloads(rest) == [b"0", b"1", b"2"]
    assert not any(isinstance(packet, Publish) and packet.dup for packet in rest)


def test_after_pubrec_only_pubrel_is_sent_again() -> None:
    bench = Bench()
    publisher = bench.connect("p")
    subscriber = bench.connect("s", clean=False, properties=KEPT)
    subscriber.subscribe("a")
    publisher.publish("a", qos=2)
    bench.sync()
    subscriber.send(Acknowledgement(PacketType.PUBREC, 1))
    subscriber.lose()
    back = bench.peer()
    back.send(Connect(version=Version.V5, client_id="s", clean_start=False, properties=KEPT))
    bench.keep_promises()
    assert back.take()[1:] == [Acknowledgement(PacketType.PUBREL, 1)]


def test_a_subscriber_that_does_not_read_is_dropped_qos_0_and_queued_qos_1() -> None:
    bench = Bench()
    publisher, subscriber = bench.connect("p"), bench.connect("s")
    subscriber.subscribe("a", qos=1)
    subscriber.client.pause_writing()
    publisher.publish("a", b"0", qos=0)
    publisher.publish("a", b"1")
    bench.sync()
    assert subscriber.take() == []
    assert bench.broker.tally.delivery_dropped == {"slow at qos 0": 1}
    subscriber.client.resume_writing()
    assert payloads(subscriber.take()) == [b"1"]


def test_what_expired_in_the_queue_is_not_delivered() -> None:
    bench = Bench()
    publisher = bench.connect("p")
    subscriber = bench.connect("s", clean=False, properties=KEPT)
    subscriber.subscribe("a", qos=1)
    subscriber.lose()
    for expiry, payload in ((5, b"soon"), (100, b"later")):
        publisher.send(
            Publish(
                topic="a",
                payload=payload,
                qos=1,
                packet_id=expiry,
                properties=Properties(message_expiry_interval=expiry),
            )
        )
    bench.sync()
    bench.wait(10)
    back = bench.peer()
    back.send(Connect(version=Version.V5, client_id="s", clean_start=False, properties=KEPT))
    bench.keep_promises()
    assert payloads(back.take()) == [b"later"]


def test_what_is_too_large_for_a_client_is_dropped_for_it_alone() -> None:
    bench = Bench()
    publisher, roomy = bench.connect("p"), bench.connect("r")
    small = bench.connect("s", properties=Properties(maximum_packet_size=30))
    for peer in (roomy, small):
        peer.subscribe("a", qos=1)
    publisher.publish("a", bytes(100), id=1)
    publisher.publish("a", b"fits", id=2)
    bench.sync()
    assert payloads(small.take()) == [b"fits"]
    assert len(payloads(roomy.take())) == 2


# --- sessions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", Version)
def test_a_second_connection_of_the_same_client_takes_over(version: Version) -> None:
    bench = Bench()
    first = bench.connect("c", version=version)
    second = bench.connect("c", version=version)
    assert first.transport.closed
    said = [Disconnect(reason=Reason.SESSION_TAKEN_OVER)] if version is Version.V5 else []
    assert first.take() == said
    first.lose()
    second.publish("a")
    bench.sync()
    assert len(second.take()) == 1
    assert len(bench.broker.clients) == 1


def test_clean_start_forgets_subscriptions_and_queue() -> None:
    bench = Bench()
    subscriber = bench.connect("s", clean=False, properties=KEPT)
    subscriber.subscribe("a")
    subscriber.lose()
    again = bench.connect("s", clean=True, properties=KEPT)
    again.publish("a")
    bench.sync()
    assert payloads(again.take()) == []
    assert bench.broker.subscriptions.count == 0


def test_a_session_ends_when_its_expiry_has_passed_and_not_before() -> None:
    bench = Bench()
    peer = bench.connect("s", clean=False, properties=Properties(session_expiry_interval=10))
    peer.subscribe("a")
    peer.lose()
    bench.wait(9)
    assert "s" in bench.broker.sessions
    bench.wait(2)
    assert bench.broker.sessions == {}
    assert bench.broker.subscriptions.count == 0


def test_a_session_without_expiry_ends_with_its_connection() -> None:
    bench = Bench()
    for version in Version:
        peer = bench.connect("s", version=version)
        peer.lose()
        assert bench.broker.sessions == {}


def test_a_3_1_1_session_is_kept_where_clean_session_is_0() -> None:
    bench = Bench()
    bench.connect("s", version=Version.V311, clean=False).lose()
    back = bench.peer(Version.V311)
    back.send(Connect(version=Version.V311, client_id="s", clean_start=False))
    bench.keep_promises()
    assert back.take_raw() == bytes.fromhex("20020100")  # [MQTT-3.2.2-2]


def test_expiry_may_be_changed_at_disconnect() -> None:
    bench = Bench()
    peer = bench.connect("s", properties=KEPT)
    peer.send(Disconnect(properties=Properties(session_expiry_interval=0)))
    assert bench.broker.sessions == {}


def test_an_assigned_identifier_is_told_and_its_own() -> None:
    bench = Bench()
    names = set()
    for _ in range(3):
        peer = bench.peer()
        peer.send(Connect(version=Version.V5, client_id=""))
        (connack,) = peer.take()
        names.add(connack.properties.assigned_client_identifier)  # type: ignore[union-attr]
    assert len(names) == 3
    assert names == set(bench.broker.sessions)
