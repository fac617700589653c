"""A message is its record: what a publisher says is in the headers, and comes out of them again as it was."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.core.batch import decode_batch
from headwater.core.record import Headers, StoredRecord, TopicPartition
from headwater.edge.broker.messages import Message
from headwater.edge.broker.stored import (
    header_name,
    headers_of,
    message_of,
    property_name,
    topic_of,
)
from headwater.edge.daemon import open_edge
from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import (
    Connect,
    Publish,
    Subscribe,
    SubscriptionOptions,
    Version,
    Will,
)
from headwater.edge.mqtt.properties import NO_PROPERTIES, Properties
from headwater.edge.settings import EdgeSettings
from headwater.edge.streams import StreamSettings

from .harness import Bench

TP = TopicPartition("s", 0)
TOPIC: Headers = (("mqtt.topic", b"a/b"),)

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
names = st.one_of(
    texts,
    st.tuples(
        st.sampled_from(("hw.", "mqtt.", "user.", "user.user.", "hw", "mqtt.qos")), texts
    ).map("".join),
)
properties = st.builds(
    Properties,
    payload_format_indicator=st.none() | st.integers(0, 1),
    message_expiry_interval=st.none() | st.integers(0, 2**32 - 1),
    content_type=st.none() | texts,
    response_topic=st.none() | texts.filter(bool),
    correlation_data=st.none() | st.binary(max_size=12),
    user_properties=st.lists(st.tuples(names, texts), max_size=5).map(tuple),
)


def read_back(headers: Headers, value: bytes, **at: float) -> Message:
    record = StoredRecord(7, 1000, b"a/b" if headers[:1] != TOPIC else b"k", value, headers)
    return message_of(record, TP, now=at.get("now", 50.0), wall_ms=int(at.get("wall_ms", 1000)))


@given(
    st.integers(0, 2),
    st.booleans(),
    st.binary(max_size=9),
    properties,
    st.sampled_from([(), TOPIC]),
)
def test_what_was_published_comes_back(
    qos: int, retain: bool, payload: bytes, said: Properties, route: Headers
) -> None:
    packet = Publish(topic="a/b", payload=payload, qos=qos, retain=retain, properties=said)
    message = read_back(headers_of(route, packet), payload)
    assert (message.topic, message.payload, message.qos) == ("a/b", payload, qos)
    assert message.retain is retain
    assert message.properties == said
    assert (message.tp, message.offset) == (TP, 7)


@given(names)
def test_names_are_reversible_and_never_ours(name: str) -> None:
    header = header_name(name)
    assert property_name(header) == name
    assert not header.startswith(("hw.", "mqtt."))


def test_a_plain_message_at_qos_1_has_no_headers_and_no_properties() -> None:
    assert headers_of((), Publish(topic="a/b", payload=b"", qos=1)) == ()
    assert read_back((), b"x").properties is NO_PROPERTIES


def test_headers_of_ours_are_no_user_properties() -> None:
    headers: Headers = (("hw.address", b"e/s/0/7"), ("mqtt.client", b"me"), ("user.hw.x", b"1"))
    message = read_back(headers, b"")
    assert message.publisher == "me"
    assert message.properties.user_properties == (("hw.x", "1"),)


def test_the_expiry_counts_from_the_records_timestamp() -> None:
    packet = Publish(
        topic="a/b", payload=b"", qos=1, properties=Properties(message_expiry_interval=10)
    )
    headers = headers_of((), packet)
    assert read_back(headers, b"", now=50.0, wall_ms=5000).expires_at == 56.0
    assert read_back(headers, b"", now=50.0, wall_ms=0).expires_at == 60.0  # the clock went back


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("keyed", [False, True])
def test_the_record_says_at_which_qos_it_came(qos: int, keyed: bool) -> None:
    streams = (StreamSettings(name="s", filters=("#",), key="{1}"),) if keyed else ()
    bench = Bench(streams=streams)
    bench.connect().publish("a/b", qos=qos)
    (stored,) = bench.journal.stored
    mark = {0: (("mqtt.qos", b"0"),), 1: (), 2: (("mqtt.qos", b"2"),)}[qos]
    assert stored.record.headers == (TOPIC if keyed else ()) + mark
    assert topic_of(StoredRecord(0, *stored.record)) == "a/b"


def test_a_will_is_stored_with_all_it_says() -> None:
    bench = Bench()
    said = Properties(will_delay_interval=0, user_properties=(("hw.a", "1"),), content_type="t")
    peer = bench.connect(will=Will(topic="w", payload=b"x", qos=2, retain=True, properties=said))
    peer.lose()
    (stored,) = bench.journal.stored
    assert stored.record.headers == (
        ("mqtt.qos", b"2"),
        ("mqtt.retain", b"1"),
        ("mqtt.content-type", b"t"),
        ("user.hw.a", b"1"),
    )


def test_the_publisher_is_named_only_where_its_own_filter_has_no_local() -> None:
    bench = Bench()
    peer = bench.connect("me")
    peer.send(Subscribe(packet_id=1, subscriptions=(SubscriptionOptions("a/+", 1, no_local=True),)))
    other = bench.connect("other")
    for publisher in (peer, other):
        publisher.publish("a/b")
        publisher.publish("b")
        publisher.publish("a/b", qos=2, id=5)
    named = [("mqtt.client", b"me") in stored.record.headers for stored in bench.journal.stored]
    assert named == [True, False, True, False, False, False]
    peer.subscribe("a/+")  # replaced: it wants its own again
    peer.publish("a/b")
    assert bench.journal.stored[-1].record.headers == ()


def test_user_properties_reach_the_record_on_disk(tmp_path: Path) -> None:
    async def scenario() -> list[StoredRecord]:
        settings = EdgeSettings(
            name="e1", data_dir=str(tmp_path), mqtt="127.0.0.1:0", http="127.0.0.1:0"
        )
        async with open_edge(settings) as edge:
            reader, writer = await asyncio.open_connection(*edge.mqtt)
            said = Properties(user_properties=(("unit", "C"), ("hw.address", "x"), ("unit", "F")))
            publish = Publish(topic="a", payload=b"1", qos=1, packet_id=1, properties=said)
            for packet in (Connect(version=Version.V5, client_id="c"), publish):
                writer.write(encode_packet(packet, Version.V5))
            answers = b""
            while not answers.endswith(b"\x40\x02\x00\x01"):
                answers += await reader.read(1000)
            writer.close()
            batches = await edge.journal.read(TopicPartition("default", 0), 0, bytes_max=1 << 20)
            return [record for batch in batches for record in decode_batch(batch)[1]]

    (record,) = asyncio.run(asyncio.wait_for(scenario(), 30))
    assert record.headers == (("unit", b"C"), ("user.hw.address", b"x"), ("unit", b"F"))
