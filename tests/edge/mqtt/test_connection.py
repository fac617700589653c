"""The connection's state machine: whatever the pieces its bytes come in, and whatever the bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.edge.mqtt import _scan_py, scan
from headwater.edge.mqtt.connection import ServerConnection, State
from headwater.edge.mqtt.decoding import decode_packet
from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import (
    Connack,
    Connect,
    Packet,
    Pingreq,
    Publish,
    Subscribe,
    SubscriptionOptions,
    Version,
)
from headwater.edge.mqtt.properties import NO_PROPERTIES, Properties
from headwater.edge.mqtt.reasons import Reason, Violation
from headwater.edge.mqtt.topics import decode_topic_name

from ..broker.harness import split_frames

LIMIT = 1000
SCANNERS = [pytest.param(_scan_py.scan_publishes, id="pure")]
if scan.COMPILED:
    SCANNERS.append(pytest.param(scan.scan_publishes, id="compiled"))


def opened(version: Version = Version.V5) -> ServerConnection:
    connection = ServerConnection(packet_bytes_max=LIMIT, topic_alias_max=4)
    connection.feed(encode_packet(Connect(version=version, client_id="c"), version))
    assert isinstance(connection.next_packet(), Connect)
    connection.accept(Connack())
    return connection


def drain(connection: ServerConnection) -> list[Packet]:
    """Everything that is whole, runs written out as the packets they stand for."""
    packets: list[Packet] = []
    while True:
        for topic, payload, puback in connection.publishes():
            packets.append(
                Publish(
                    topic=topic.decode(),
                    payload=payload,
                    qos=1 if puback else 0,
                    packet_id=int.from_bytes(puback[2:], "big"),
                )
            )
        packet = connection.next_packet()
        if packet is None:
            return packets
        packets.append(packet)


PLAIN = st.builds(
    Publish,
    topic=st.text("ab/é", min_size=1, max_size=200),
    payload=st.binary(max_size=300),
    qos=st.just(1),
    packet_id=st.integers(1, 0xFFFF),
)
ODD: st.SearchStrategy[Packet] = st.sampled_from(
    [
        Pingreq(),
        Publish(topic="r", payload=b"x", retain=True),
        Publish(topic="d", payload=b"x", qos=1, dup=True, packet_id=9),
        Publish(topic="q2", payload=b"", qos=2, packet_id=9),
        Subscribe(packet_id=1, subscriptions=(SubscriptionOptions("a/#", 1),)),
    ]
)


@pytest.mark.parametrize("version", Version)
@given(
    packets=st.lists(PLAIN | PLAIN.map(lambda p: Publish(topic=p.topic, payload=p.payload)) | ODD),
    cuts=st.lists(st.integers(0, 3000), max_size=8),
)
def test_packets_come_out_the_same_however_they_are_cut(
    version: Version, packets: list[Packet], cuts: list[int]
) -> None:
    data = b"".join(encode_packet(packet, version) for packet in packets)
    connection = opened(version)
    got: list[Packet] = []
    position = 0
    for cut in sorted({cut for cut in cuts if cut < len(data)} | {len(data)}):
        connection.feed(data[position:cut])
        got += drain(connection)
        position = cut
    assert got == packets


@pytest.mark.parametrize("version", Version)
def test_packets_come_out_the_same_byte_by_byte(version: Version) -> None:
    packets: list[Packet] = [
        Publish(topic="a/b", payload=b"x" * 300, qos=1, packet_id=5),
        Pingreq(),
        Publish(topic="a/b", payload=b"", qos=0),
    ]
    connection = opened(version)
    got: list[Packet] = []
    for byte in b"".join(encode_packet(packet, version) for packet in packets):
        connection.feed(bytes((byte,)))
        got += drain(connection)
    assert got == packets


@given(st.lists(st.binary(max_size=80), max_size=6), st.sampled_from(Version))
def test_no_bytes_raise_anything_but_a_violation(pieces: list[bytes], version: Version) -> None:
    for connection in (
        opened(version),
        ServerConnection(packet_bytes_max=LIMIT, topic_alias_max=4),
    ):
        try:
            for piece in pieces:
                connection.feed(piece)
                drain(connection)
        except Violation as violation:
            split_frames(connection.farewell(violation.reason))
            assert connection.state is State.CLOSED


@pytest.mark.parametrize("scanner", SCANNERS)
@pytest.mark.parametrize("version", Version)
@given(data=st.data())
def test_what_the_scanner_takes_the_decoder_takes_alike(
    scanner: type, version: Version, data: st.DataObject
) -> None:
    packets = data.draw(st.lists(PLAIN | ODD, max_size=5))
    raw = bytearray(b"".join(encode_packet(packet, version) for packet in packets))
    for _ in range(data.draw(st.integers(0, 3))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    run, taken = scanner(bytes(raw), 0, LIMIT, version is Version.V5)
    assert (run, taken) == _scan_py.scan_publishes(bytes(raw), 0, LIMIT, version is Version.V5)
    frames = split_frames(bytes(raw[:taken]))
    assert len(frames) == len(run)
    for (first, body), (topic, payload, puback) in zip(frames, run, strict=True):
        assert len(body) + 2 <= LIMIT
        try:
            packet = decode_packet(first, body, version)
        except Violation:
            # the scanner does not look into names; whoever routes does
            with pytest.raises(Violation):
                decode_topic_name(topic)
            continue
        assert isinstance(packet, Publish)
        assert (packet.topic.encode(), packet.payload) == (topic, payload)
        assert packet.properties is NO_PROPERTIES
        assert not packet.dup
        assert not packet.retain
        assert puback == (b"" if not packet.qos else b"\x40\x02" + packet.packet_id.to_bytes(2))


@pytest.mark.parametrize("scanner", SCANNERS)
@given(st.binary(max_size=40), st.integers(0, 50), st.booleans())
def test_the_scanner_never_raises(
    scanner: type, data: bytes, position: int, with_properties: bool
) -> None:
    for prefix in (b"", b"\x30", b"\x32", b"\x32\xff\xff"):
        run, taken = scanner(prefix + data, position, LIMIT, with_properties)
        assert taken >= position
        assert bool(run) == (taken > position)


def test_a_packet_above_the_limit_is_refused_by_its_header_alone() -> None:
    connection = opened()
    connection.feed(bytes.fromhex("30e60700"))  # 998 + 3 bytes
    with pytest.raises(Violation) as caught:
        drain(connection)
    assert caught.value.reason is Reason.PACKET_TOO_LARGE


def test_a_packet_of_exactly_the_limit_is_taken() -> None:
    packet = Publish(topic="a", payload=bytes(LIMIT - 7))
    connection = opened()
    connection.feed(encode_packet(packet, Version.V5))
    assert drain(connection) == [packet]


def test_a_long_packet_in_small_pieces_is_not_looked_at_before_it_is_whole() -> None:
    connection = ServerConnection(packet_bytes_max=1 << 20, topic_alias_max=0)
    data = encode_packet(Connect(version=Version.V5, client_id="c"), Version.V5)
    connection.feed(data)
    connection.next_packet()
    connection.accept(Connack())
    packet = Publish(topic="a", payload=bytes(500_000))
    raw = encode_packet(packet, Version.V5)
    for position in range(0, len(raw), 100):
        connection.feed(raw[position : position + 100])
        if position + 100 < len(raw):
            assert drain(connection) == []
    assert drain(connection) == [packet]


def test_nothing_larger_than_the_client_takes_is_encoded() -> None:
    connection = ServerConnection(packet_bytes_max=LIMIT, topic_alias_max=4)
    properties = Properties(maximum_packet_size=20)
    connection.feed(
        encode_packet(Connect(version=Version.V5, client_id="c", properties=properties), Version.V5)
    )
    connection.next_packet()
    assert connection.encode(Publish(topic="a", payload=bytes(14))) is not None
    assert connection.encode(Publish(topic="a", payload=bytes(15))) is None  # [MQTT-3.1.2-24]


def test_an_alias_is_what_its_last_setting_said() -> None:
    connection = opened()
    for topic, alias, expected in [("a", 1, "a"), ("b", 2, "b"), ("", 1, "a"), ("c", 1, "c"), ("", 1, "c")]:  # fmt: skip
        publish = Publish(topic=topic, payload=b"", properties=Properties(topic_alias=alias))
        connection.feed(encode_packet(publish, Version.V5))
        (packet,) = drain(connection)
        assert isinstance(packet, Publish)
        assert packet.topic == expected


def test_after_farewell_nothing_is_read_and_nothing_said_twice() -> None:
    connection = opened()
    assert connection.farewell(Reason.SERVER_SHUTTING_DOWN) == bytes.fromhex("e0018b")
    assert connection.farewell(Reason.PROTOCOL_ERROR) == b""
    connection.feed(encode_packet(Pingreq(), Version.V5))
    assert drain(connection) == []
