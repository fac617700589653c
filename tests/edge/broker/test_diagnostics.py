"""What we tell beyond the answer: receipts, reason strings, response information; and when we hold our tongue."""

from __future__ import annotations

import pytest

from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt.connection import ServerConnection, without_diagnostics
from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import (
    Acknowledgement,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Publish,
    Suback,
    Subscribe,
    SubscriptionOptions,
    Unsuback,
    Version,
)
from headwater.edge.mqtt.properties import NO_PROPERTIES, Properties
from headwater.edge.mqtt.reasons import Reason

from .harness import Bench, Peer

ASKING = Properties(user_properties=(("hw.receipts", "1"),))


def receipt(text: str) -> Properties:
    return Properties(user_properties=(("hw.receipt", f"default/0/{text}"),))


def test_a_receipt_is_the_records_address() -> None:
    bench = Bench()
    peer = bench.connect(properties=ASKING)
    for number in range(2):
        peer.publish("a", id=number + 1)
    peer.publish("a", qos=2, id=3)
    peer.send(
        Publish(topic="a", payload=b"", qos=1, packet_id=4, properties=Properties(content_type="t"))
    )
    assert peer.take() == []
    bench.sync()
    kinds = (PacketType.PUBACK, PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBACK)
    assert peer.take() == [
        Acknowledgement(kind, number + 1, properties=receipt(str(number)))
        for number, kind in enumerate(kinds)
    ]
    assert [stored.offset for stored in bench.journal.stored] == [0, 1, 2, 3]


def test_receipts_are_confirmed_in_connack() -> None:
    bench = Bench()
    for asked, told in ((ASKING, ASKING.user_properties), (NO_PROPERTIES, ())):
        peer = bench.peer()
        peer.send(Connect(version=Version.V5, client_id="c", properties=asked))
        (connack,) = peer.take()
        assert isinstance(connack, Connack)
        assert connack.properties.user_properties == told


@pytest.mark.parametrize(
    "limits",
    [Properties(request_problem_information=0), Properties(maximum_packet_size=100), NO_PROPERTIES],
)
def test_no_receipt_where_it_is_not_wanted_or_does_not_fit(limits: Properties) -> None:
    bench = Bench()
    asked = ASKING.user_properties if limits is not NO_PROPERTIES else ()
    properties = Properties(
        user_properties=asked,
        request_problem_information=limits.request_problem_information,
        maximum_packet_size=limits.maximum_packet_size,
    )
    peer = bench.connect(properties=properties)
    topic = "a" * (100 if limits.maximum_packet_size else 1)
    if limits.maximum_packet_size:
        peer.client.connection._send_bytes_max = 20
    peer.publish(topic)
    bench.sync()
    assert peer.take_raw() == b"\x40\x02\x00\x01"


@pytest.mark.mqtt(v5="3.1.2-29")
@pytest.mark.parametrize("wanted", [None, 0, 1])
def test_a_refusal_says_why_unless_problem_information_is_unwanted(wanted: int | None) -> None:
    bench = Bench()
    peer = bench.connect(properties=Properties(request_problem_information=wanted))
    peer.publish("$SYS/x")
    assert peer.take() == [Acknowledgement(PacketType.PUBACK, 1, Reason.TOPIC_NAME_INVALID)]
    assert bool(peer.told) is (wanted != 0)


def test_suback_says_why_a_filter_was_refused() -> None:
    bench = Bench(settings=MqttSettings(subscriptions_max=1))
    peer = bench.connect()
    refused = Suback(packet_id=1, reasons=(Reason.GRANTED_QOS_1, Reason.QUOTA_EXCEEDED))
    assert peer.subscribe("a", "b", qos=1) == [refused]
    (told,) = peer.told
    assert told.startswith("'b': more subscriptions than one session may have")


@pytest.mark.parametrize(("size", "told"), [(128, True), (20, False), (4, False)])
def test_a_reason_string_never_makes_a_packet_too_large(size: int, told: bool) -> None:
    bench = Bench()
    peer = bench.connect(properties=Properties(maximum_packet_size=200))
    peer.client.connection._send_bytes_max = size
    peer.send_raw(b"\xc1\x00")
    assert peer.transport.closed
    data = peer.take_raw()
    assert len(data) <= size
    assert (len(data) > 4) is told


@pytest.mark.mqtt(v5="3.1.2-28")
@pytest.mark.parametrize("asked", [None, 0, 1])
def test_response_information_only_for_those_who_ask(asked: int | None) -> None:
    bench = Bench()
    peer = bench.peer()
    wish = Properties(request_response_information=asked)
    peer.send(Connect(version=Version.V5, client_id="me", properties=wish))
    (connack,) = peer.take()
    assert isinstance(connack, Connack)
    assert connack.properties.response_information == ("responses/me" if asked else None)


def test_response_information_is_a_topic_or_nothing() -> None:
    bench = Bench(settings=MqttSettings(response_information="r/{client}"))
    wish = Properties(request_response_information=1)
    for client_id, told in (("a/b", "r/a/b"), ("a+", None), ("#", None)):
        peer = bench.peer()
        peer.send(Connect(version=Version.V5, client_id=client_id, properties=wish))
        (connack,) = peer.take()
        assert isinstance(connack, Connack)
        assert connack.properties.response_information == told


# --- topic aliases towards the client ----------------------------------------------------------------------------

LONG = "site/hall/machine"


def subscriber(bench: Bench, maximum: int | None, **more: int) -> Peer:
    peer = bench.connect("s", properties=Properties(topic_alias_maximum=maximum, **more))  # type: ignore[arg-type]
    peer.send(Subscribe(packet_id=1, subscriptions=(SubscriptionOptions("#", 1),)))
    peer.take()
    return peer


def heard(bench: Bench, peer: Peer, *topics: str) -> list[tuple[str, int | None]]:
    publisher = bench.connect("p")
    for number, topic in enumerate(topics):
        publisher.publish(topic, id=number + 1)
    bench.sync()
    return [
        (packet.topic, packet.properties.topic_alias)
        for packet in peer.take()
        if isinstance(packet, Publish)
    ]


def test_a_long_topic_is_written_once() -> None:
    bench = Bench()
    peer = subscriber(bench, 1)
    other = LONG + "/2"
    assert heard(bench, peer, LONG, LONG, "t/1", other, LONG) == [
        (LONG, 1),
        ("", 1),
        ("t/1", None),
        (other, None),  # the client holds one alias
        ("", 1),
    ]


@pytest.mark.parametrize("maximum", [None, 0])
def test_no_alias_for_a_client_that_takes_none(maximum: int | None) -> None:
    bench = Bench()
    assert heard(bench, subscriber(bench, maximum), LONG, LONG) == [(LONG, None)] * 2


def test_our_own_limit_bounds_the_aliases_of_a_connection() -> None:
    bench = Bench(settings=MqttSettings(topic_alias_out_max=2))
    peer = subscriber(bench, 65_535)
    topics = [f"{LONG}/{number}" for number in range(3)]
    assert [alias for _, alias in heard(bench, peer, *topics)] == [1, 2, None]


def test_an_alias_whose_packet_was_too_large_is_not_used() -> None:
    bench = Bench()
    peer = subscriber(bench, 5)
    size = len(LONG) + 4 + 2 + 1 + 1  # what it is without an alias
    peer.client.connection._send_bytes_max = size
    assert heard(bench, peer, LONG, LONG) == [(LONG, None)] * 2


def test_aliases_end_with_their_connection() -> None:
    bench = Bench()
    assert heard(bench, subscriber(bench, 5), LONG, LONG) == [(LONG, 1), ("", 1)]
    assert heard(bench, subscriber(bench, 5), LONG) == [(LONG, 1)]


# --- the rule for every packet -------------------------------------------------------------------------------------

WORDS = Properties(reason_string="because", user_properties=(("a", "b"),))
TOLD: list[tuple[str, Packet]] = [
    ("3.2.2-19 3.2.2-20", Connack(properties=WORDS)),
    ("3.4.2-2 3.4.2-3", Acknowledgement(PacketType.PUBACK, 1, properties=WORDS)),
    ("3.5.2-2 3.5.2-3", Acknowledgement(PacketType.PUBREC, 1, properties=WORDS)),
    ("3.6.2-2 3.6.2-3", Acknowledgement(PacketType.PUBREL, 1, properties=WORDS)),
    ("3.7.2-2 3.7.2-3", Acknowledgement(PacketType.PUBCOMP, 1, properties=WORDS)),
    ("3.9.2-1 3.9.2-2", Suback(packet_id=1, reasons=(Reason.SUCCESS,), properties=WORDS)),
    ("3.11.2-1 3.11.2-2", Unsuback(packet_id=1, reasons=(Reason.SUCCESS,), properties=WORDS)),
    ("3.14.2-3 3.14.2-4", Disconnect(reason=Reason.QUOTA_EXCEEDED, properties=WORDS)),
    ("3.15.2-2 3.15.2-3", Auth(code=0x18, properties=WORDS)),
]


@pytest.mark.parametrize(
    "packet", [pytest.param(packet, marks=pytest.mark.mqtt(v5=labels)) for labels, packet in TOLD]
)
def test_words_are_left_out_where_they_make_a_packet_too_large(packet: Packet) -> None:
    whole = len(encode_packet(packet, Version.V5))
    bare = encode_packet(without_diagnostics(packet), Version.V5)
    for limit, expected in ((whole, whole), (whole - 1, len(bare)), (len(bare), len(bare))):
        connection = ServerConnection(packet_bytes_max=1000, topic_alias_max=0)
        connection.version = Version.V5
        connection._send_bytes_max = limit
        encoded = connection.encode(packet)
        assert encoded is not None
        assert len(encoded) == expected
    connection._send_bytes_max = len(bare) - 1
    assert connection.encode(packet) is None


@pytest.mark.mqtt(v5="3.1.2-29")
def test_who_wants_no_words_gets_none_but_those_of_messages() -> None:
    bench = Bench()
    peer = bench.connect(properties=Properties(request_problem_information=0))
    for _, packet in TOLD:
        assert peer.client.connection.encode(packet) == encode_packet(
            without_diagnostics(packet), Version.V5
        )
    message = Publish(topic="a", payload=b"", properties=Properties(user_properties=(("a", "b"),)))
    assert peer.client.connection.encode(message) == encode_packet(message, Version.V5)


@pytest.mark.mqtt(v5="4.12.0-1 4.12.0-4 3.2.2-7")
@pytest.mark.parametrize("data", [None, b"", b"secret"])
def test_enhanced_authentication_is_refused_with_0x8c(data: bytes | None) -> None:
    bench = Bench()
    peer = bench.peer()
    asked = Properties(authentication_method="SCRAM-SHA-1", authentication_data=data)
    peer.send(Connect(version=Version.V5, client_id="c", properties=asked))
    assert peer.take() == [Connack(reason=Reason.BAD_AUTHENTICATION_METHOD)]
    assert peer.transport.closed
    assert bench.broker.sessions == {}


@pytest.mark.mqtt(v5="4.12.0-6 3.15.2-1")
@pytest.mark.parametrize("code", [0x00, 0x18, 0x19])
def test_auth_without_a_method_in_connect_closes_and_we_send_none(code: int) -> None:
    bench = Bench()
    peer = bench.peer()
    peer.send(Connect(version=Version.V5, client_id="c"))
    (connack,) = peer.take()
    assert isinstance(connack, Connack)
    assert connack.properties.authentication_method is None
    peer.send(Auth(code=code))
    assert peer.take() == [Disconnect(reason=Reason.PROTOCOL_ERROR)]
    assert peer.transport.closed
