"""Packets to bytes and back: whole, cut short, with a tail; against vectors and against everything hypothesis thinks of."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.edge.mqtt.decoding import decode_packet
from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import (
    Acknowledgement,
    Connect,
    Packet,
    PacketType,
    Publish,
    RetainHandling,
    Subscribe,
    SubscriptionOptions,
    Version,
    Will,
)
from headwater.edge.mqtt.primitives import VARINT_MAX, Reader, encode_varint
from headwater.edge.mqtt.properties import NO_PROPERTIES, Properties
from headwater.edge.mqtt.reasons import Reason, Violation

from ..broker.harness import split_frames
from .vectors import Vector, load, versions_of

CASES = [
    pytest.param(vector, version, id=f"{vector.id} v{version}")
    for vector in load("packets.txt")
    for version in versions_of(vector)
]


@pytest.mark.parametrize(("vector", "version"), CASES)
def test_vector_decodes_and_encodes_to_the_same_bytes(vector: Vector, version: Version) -> None:
    ((first, body),) = split_frames(vector.data)
    assert encode_packet(decode_packet(first, body, version), version) == vector.data


@pytest.mark.parametrize(("vector", "version"), CASES)
def test_vector_cut_short_is_a_violation_or_another_packet(
    vector: Vector, version: Version
) -> None:
    """Never another exception; and never the same packet, or a byte would have meant nothing."""
    ((first, body),) = split_frames(vector.data)
    whole = decode_packet(first, body, version)
    reasons = set()
    for end in range(len(body)):
        try:
            assert decode_packet(first, body[:end], version) != whole
        except Violation as violation:
            reasons.add(violation.reason)
    assert reasons <= {Reason.MALFORMED_PACKET, Reason.PROTOCOL_ERROR}


@pytest.mark.parametrize(("vector", "version"), CASES)
def test_vector_with_a_tail_is_refused_unless_it_ends_in_a_payload(
    vector: Vector, version: Version
) -> None:
    ((first, body),) = split_frames(vector.data)
    packet = decode_packet(first, body, version)
    try:
        longer = decode_packet(first, body + b"\x7f", version)
    except Violation:
        return
    assert isinstance(longer, Publish)
    assert isinstance(packet, Publish)
    assert longer.payload == packet.payload + b"\x7f"


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
NAMES = st.text(
    st.characters(exclude_characters="\0+#", exclude_categories=["Cs"]), min_size=1, max_size=20
).filter(lambda name: not name.startswith("$share"))
PAIRS = st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple)


def optional(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | strategy


MESSAGE_FIELDS: dict[str, st.SearchStrategy[object]] = {
    "payload_format_indicator": optional(st.integers(0, 1)),
    "message_expiry_interval": optional(st.integers(0, 2**32 - 1)),
    "content_type": optional(TEXT),
    "response_topic": optional(NAMES),
    "correlation_data": optional(st.binary(max_size=10)),
    "user_properties": PAIRS,
}
MESSAGE_PROPERTIES = st.builds(Properties, **MESSAGE_FIELDS)
WILLS = st.builds(
    Will,
    topic=NAMES,
    payload=st.binary(max_size=20),
    qos=st.integers(0, 2),
    retain=st.booleans(),
    properties=st.builds(
        Properties, **MESSAGE_FIELDS, will_delay_interval=optional(st.integers(0, 2**32 - 1))
    ),
)
CONNECTS = st.builds(
    Connect,
    version=st.just(Version.V5),
    client_id=TEXT,
    clean_start=st.booleans(),
    keep_alive=st.integers(0, 0xFFFF),
    will=st.none() | WILLS,
    user_name=st.none() | TEXT,
    password=st.none() | st.binary(max_size=10),
    properties=st.builds(
        Properties,
        session_expiry_interval=optional(st.integers(0, 2**32 - 1)),
        receive_maximum=optional(st.integers(1, 0xFFFF)),
        maximum_packet_size=optional(st.integers(1, 2**32 - 1)),
        user_properties=PAIRS,
    ),
)
IDS = st.integers(1, 0xFFFF)
PUBLISHES = st.builds(
    Publish,
    topic=NAMES,
    payload=st.binary(max_size=300),
    qos=st.integers(1, 2),
    retain=st.booleans(),
    dup=st.booleans(),
    packet_id=IDS,
    properties=MESSAGE_PROPERTIES,
)
SUBSCRIBES = st.builds(
    Subscribe,
    packet_id=IDS,
    subscriptions=st.lists(
        st.builds(
            SubscriptionOptions,
            NAMES,
            st.integers(0, 2),
            st.booleans(),
            st.booleans(),
            st.sampled_from(RetainHandling),
        ),
        min_size=1,
        max_size=4,
    ).map(tuple),
    properties=st.builds(
        Properties,
        subscription_identifiers=st.just(()) | st.tuples(st.integers(1, VARINT_MAX)),
    ),
)
ACK_PROPERTIES = st.builds(Properties, reason_string=optional(TEXT), user_properties=PAIRS)
ACKS = st.builds(
    Acknowledgement,
    st.sampled_from([PacketType.PUBACK, PacketType.PUBREC]),
    IDS,
    st.sampled_from([Reason.SUCCESS, Reason.NO_MATCHING_SUBSCRIBERS, Reason.QUOTA_EXCEEDED]),
    ACK_PROPERTIES,
) | st.builds(
    Acknowledgement,
    st.sampled_from([PacketType.PUBREL, PacketType.PUBCOMP]),
    IDS,
    st.sampled_from([Reason.SUCCESS, Reason.PACKET_IDENTIFIER_NOT_FOUND]),
    ACK_PROPERTIES,
)


@given(CONNECTS | PUBLISHES | SUBSCRIBES | ACKS)
def test_what_is_encoded_is_decoded_again(packet: Packet) -> None:
    ((first, body),) = split_frames(encode_packet(packet, Version.V5))
    assert decode_packet(first, body, Version.V5) == packet


@given(st.integers(0, 255), st.binary(max_size=60), st.sampled_from(Version))
def test_no_bytes_raise_anything_but_a_violation(first: int, body: bytes, version: Version) -> None:
    with contextlib.suppress(Violation):
        decode_packet(first, body, version)


@given(st.integers(0, VARINT_MAX))
def test_variable_byte_integers_return_and_are_shortest(value: int) -> None:
    encoded = encode_varint(value)
    assert Reader(encoded).varint() == value
    assert len(encoded) == max(1, -(-value.bit_length() // 7))


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (16_383, "ff7f"),
        (16_384, "808001"),
        (2_097_151, "ffff7f"),
        (2_097_152, "80808001"),
        (268_435_455, "ffffff7f"),
    ],
)
def test_variable_byte_integers_are_those_of_table_1_1(value: int, encoded: str) -> None:
    assert encode_varint(value).hex() == encoded


def test_an_empty_set_of_properties_is_the_shared_one() -> None:
    packet = decode_packet(0x30, bytes.fromhex("00016100"), Version.V5)
    assert isinstance(packet, Publish)
    assert packet.properties is NO_PROPERTIES
