"""Publishes in: what is stored, when it is acknowledged, and what stops the reading."""

from __future__ import annotations

import pytest

from headwater.core.errors import Refused, Unavailable
from headwater.core.record import TopicPartition
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt.packets import (
    Acknowledgement,
    Connack,
    Connect,
    Disconnect,
    PacketType,
    Pingreq,
    Pingresp,
    Publish,
    Version,
)
from headwater.edge.mqtt.properties import Properties
from headwater.edge.mqtt.reasons import Reason
from headwater.edge.streams import StreamSettings

from .harness import Bench

PUBACK, PUBREC, PUBREL, PUBCOMP = (
    PacketType.PUBACK,
    PacketType.PUBREC,
    PacketType.PUBREL,
    PacketType.PUBCOMP,
)


@pytest.mark.parametrize("version", Version)
@pytest.mark.parametrize(("qos", "kind"), [(1, PUBACK), (2, PUBREC)])
def test_no_acknowledgement_before_its_commit_is_durable(
    version: Version, qos: int, kind: PacketType
) -> None:
    bench = Bench()
    peer = bench.connect(version=version)
    peer.publish("a", qos=qos, id=1)
    first = bench.journal.seal()
    peer.publish("a", qos=qos, id=2)
    bench.wait(30)
    assert peer.take() == []
    bench.journal.complete(first)
    assert peer.take() == [Acknowledgement(kind, 1)]  # and not 2, whose commit is still open
    bench.sync()
    assert peer.take() == [Acknowledgement(kind, 2)]


def test_acknowledgements_of_a_commit_are_one_write_in_the_order_of_the_publishes() -> None:
    bench = Bench()
    peer = bench.connect()
    ids = [9, 3, 7, 1, 65535]
    peer.send(*(Publish(topic="a", payload=b"x", qos=1, packet_id=id_) for id_ in ids))
    writes = peer.transport.writes
    bench.sync()
    assert peer.transport.writes == writes + 1
    assert peer.take() == [Acknowledgement(PUBACK, id_) for id_ in ids]


def test_two_commits_finished_at_once_are_acknowledged_in_order() -> None:
    bench = Bench()
    peer = bench.connect()
    for id_ in (1, 2, 3):
        peer.publish("a", id=id_)
        bench.journal.seal()
    bench.journal.complete(3)
    assert peer.take() == [Acknowledgement(PUBACK, id_) for id_ in (1, 2, 3)]


def test_the_disk_is_asked_and_the_record_is_topic_and_payload_byte_for_byte() -> None:
    bench = Bench()
    peer = bench.connect()
    payload = bytes(range(256))
    peer.publish("sensors/é/1", payload)
    peer.publish("sensors/é/1", b"", qos=0)
    assert bench.journal.requests > 0
    one, two = bench.journal.stored
    assert one.partition == TopicPartition("default", 0)
    assert one.record.key == "sensors/é/1".encode()
    assert one.record.value == payload
    assert one.record.headers == ()
    assert one.record.timestamp == bench.clock.wall_ms()
    assert two.record.value == b""


def test_first_matching_stream_takes_it_and_keys_choose_the_partition() -> None:
    bench = Bench(
        streams=(
            StreamSettings(name="rooms", filters=("house/+/temperature",), key="{2}", partitions=8),
            StreamSettings(name="house", filters=("house/#",), key="{client}:{topic}"),
        )
    )
    peer = bench.connect("gw")
    for topic in ("house/attic/temperature", "house/cellar/temperature", "house/door", "garden"):
        peer.publish(topic, qos=0)
    stored = bench.journal.stored
    assert [each.partition.topic for each in stored] == ["rooms", "rooms", "house", "default"]
    assert [each.record.key for each in stored] == [
        b"attic",
        b"cellar",
        b"gw:house/door",
        b"garden",
    ]
    # CRC-32 of the key, never to change: records would move between partitions
    assert [each.partition.partition for each in stored[:2]] == [
        _crc(key) % 8 for key in (b"attic", b"cellar")
    ]
    assert ("mqtt.topic", b"house/attic/temperature") in stored[0].record.headers
    assert stored[3].record.headers == (("mqtt.qos", b"0"),)


def _crc(data: bytes) -> int:
    """CRC-32 as in zlib, bit by bit: the tests' own."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_another_client_has_its_own_key_where_keys_name_the_client() -> None:
    bench = Bench(streams=(StreamSettings(name="s", filters=("#",), key="{client}"),))
    for client_id in ("one", "two"):
        bench.connect(client_id).publish("same/topic")
    assert [each.record.key for each in bench.journal.stored] == [b"one", b"two"]


@pytest.mark.parametrize("version", Version)
def test_qos_2_is_stored_once_however_often_it_is_sent(version: Version) -> None:
    bench = Bench()
    peer = bench.connect(version=version)
    peer.publish("a", b"once", qos=2, id=5)
    peer.publish("a", b"once", qos=2, id=5)
    bench.sync()
    assert peer.take() == [Acknowledgement(PUBREC, 5)] * 2
    peer.publish("a", b"once", qos=2, id=5)
    assert peer.take() == [Acknowledgement(PUBREC, 5)]  # durable already
    peer.send(Acknowledgement(PUBREL, 5))
    assert peer.take() == [Acknowledgement(PUBCOMP, 5)]
    assert bench.journal.values == [b"once"]
    peer.publish("a", b"another", qos=2, id=5)
    assert bench.journal.values == [b"once", b"another"]
    assert bench.broker.tally.repeated == 2


def test_qos_2_is_stored_once_across_a_lost_connection_in_one_session() -> None:
    bench = Bench()
    expiry = Properties(session_expiry_interval=100)
    peer = bench.connect("c", clean=False, properties=expiry)
    peer.publish("a", b"once", qos=2, id=5)
    peer.lose()
    bench.sync()
    again = bench.connect("c", clean=False, properties=expiry)
    again.send(Publish(topic="a", payload=b"once", qos=2, dup=True, packet_id=5))
    assert again.take() == [Acknowledgement(PUBREC, 5)]
    assert bench.journal.values == [b"once"]


def test_pubrel_repeated_after_a_lost_pubcomp_is_a_success() -> None:
    """mqtt.js and Paho tell their user of 0x92 as of a publish that failed, and this one did not."""
    bench = Bench()
    kept = Properties(session_expiry_interval=100)
    peer = bench.connect("c", clean=False, properties=kept)
    peer.publish("a", b"once", qos=2, id=9)
    bench.sync()
    peer.send(Acknowledgement(PUBREL, 9))
    bench.sync()
    peer.lose()
    again = bench.connect("c", clean=False, properties=kept)
    again.send(Acknowledgement(PUBREL, 9))
    assert again.take() == [Acknowledgement(PUBCOMP, 9)]


def test_pubrel_of_an_unknown_identifier_is_completed_and_says_so() -> None:
    bench = Bench()
    peer = bench.connect()
    peer.send(Acknowledgement(PUBREL, 9))
    assert peer.take() == [Acknowledgement(PUBCOMP, 9, Reason.PACKET_IDENTIFIER_NOT_FOUND)]


@pytest.mark.parametrize("error", [Unavailable("stream is full"), Refused("record too large")])
def test_a_publish_the_log_refuses_is_refused_and_its_neighbours_are_not(error: Exception) -> None:
    bench = Bench()
    peer = bench.connect()
    peer.publish("a", b"1", id=1)
    bench.journal.refusal = error
    peer.publish("a", b"2", id=2)
    bench.journal.refusal = None
    peer.publish("a", b"3", id=3)
    assert peer.take() == []
    bench.sync()
    acks = peer.take()
    assert [ack.packet_id for ack in acks if isinstance(ack, Acknowledgement)] == [1, 2, 3]
    assert [ack.reason >= 0x80 for ack in acks if isinstance(ack, Acknowledgement)] == [
        False,
        True,
        False,
    ]
    assert bench.journal.values == [b"1", b"3"]
    assert bench.broker.tally.refused.total() == 1


def test_a_3_1_1_client_whose_publish_is_refused_is_closed_unacknowledged() -> None:
    bench = Bench()
    peer = bench.connect(version=Version.V311)
    bench.journal.refusal = Unavailable("stream is full")
    peer.publish("a")
    assert peer.transport.closed
    assert peer.take_raw() == b""


def test_topics_that_begin_with_a_dollar_are_not_taken_from_clients() -> None:
    bench = Bench()
    peer = bench.connect()
    peer.publish("$SYS/fake", id=4)
    assert peer.take() == [Acknowledgement(PUBACK, 4, Reason.TOPIC_NAME_INVALID)]
    peer.publish("$SYS/fake", qos=0)
    assert not peer.transport.closed
    old = bench.connect("old", version=Version.V311)
    old.publish("$SYS/fake")
    assert old.transport.closed
    assert bench.journal.stored == []


# --- limits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [1, 2])
def test_more_in_flight_than_the_receive_maximum_is_answered_with_0x93(qos: int) -> None:
    bench = Bench(settings=MqttSettings(receive_maximum=3))
    peer = bench.connect()
    for id_ in (1, 2, 3):
        peer.publish("a", qos=qos, id=id_)
    assert not peer.transport.closed
    peer.publish("a", qos=qos, id=4)
    assert peer.take() == [Disconnect(reason=Reason.RECEIVE_MAXIMUM_EXCEEDED)]


def test_what_was_acknowledged_no_longer_counts_against_the_receive_maximum() -> None:
    bench = Bench(settings=MqttSettings(receive_maximum=2))
    peer = bench.connect()
    for id_ in range(1, 20):
        peer.publish("a", id=id_)
        if id_ % 2 == 0:
            bench.sync()
    for id_ in (1, 2, 1, 2):
        peer.publish("a", qos=2, id=id_ + 100)
        bench.sync()
        peer.send(Acknowledgement(PUBREL, id_ + 100))
    assert not peer.transport.closed


def test_qos_2_counts_until_it_is_released() -> None:
    bench = Bench(settings=MqttSettings(receive_maximum=2))
    peer = bench.connect()
    for id_ in (1, 2, 3):
        peer.publish("a", qos=2, id=id_)
        bench.sync()
    assert peer.transport.closed


def test_a_3_1_1_client_beyond_the_window_is_not_read_until_it_is_acknowledged() -> None:
    bench = Bench(settings=MqttSettings(receive_maximum=2))
    peer = bench.connect(version=Version.V311)
    peer.publish("a", id=1)
    assert peer.transport.reading
    peer.publish("a", id=2)
    assert not peer.transport.reading
    bench.sync()
    assert peer.transport.reading
    assert len(peer.take()) == 2


def test_a_3_1_1_client_may_release_late_what_it_published_in_one_go() -> None:
    """gmqtt, mqtt.js: three thousand publishes at QoS 2, then the PUBRELs."""
    bench = Bench(settings=MqttSettings(receive_maximum=2))
    peer = bench.connect(version=Version.V311)
    for id_ in range(1, 21):
        peer.publish("a", qos=2, id=id_)
        bench.sync()
    assert not peer.transport.closed
    peer.publish("a", qos=2, id=21)
    assert peer.transport.closed


def test_no_publish_is_taken_while_the_journal_has_more_than_it_can_write() -> None:
    bench = Bench()
    peer, other = bench.connect("a"), bench.connect("b")
    bench.journal.overfull = True
    peer.publish("a", b"1")
    assert bench.broker.paused is not None
    other.publish("a", b"2")
    assert len(bench.journal.stored) == 1
    bench.journal.overfull = False
    bench.sync()
    assert [stored.record.value for stored in bench.journal.stored] == [b"1", b"2"]
    assert bench.broker.tally.paused == 1


def test_while_the_disk_refuses_nothing_is_acknowledged_or_taken_and_the_reason_shows() -> None:
    bench = Bench()
    peer = bench.connect(keep_alive=1)
    peer.publish("a")
    bench.journal.stalled = "no space left on /data"
    bench.wait(60)
    peer.publish("a", id=2)
    assert peer.take() == []
    assert len(bench.journal.stored) == 1
    assert bench.broker.paused == "no space left on /data"
    assert not peer.transport.closed, "its silence is our doing"
    bench.journal.stalled = None
    bench.sync()
    assert peer.take() == [Acknowledgement(PUBACK, 1)]
    bench.wait(1)
    bench.sync()
    assert peer.take() == [Acknowledgement(PUBACK, 2)]


def test_a_client_that_does_not_read_its_acknowledgements_is_not_read_either() -> None:
    bench = Bench()
    peer = bench.connect()
    peer.client.pause_writing()
    assert not peer.transport.reading
    peer.client.resume_writing()
    assert peer.transport.reading


def test_connections_above_the_maximum_are_closed_and_counted() -> None:
    bench = Bench(settings=MqttSettings(connections_max=1, refusals_max=0))
    first = bench.connect()
    second = bench.peer()
    assert second.transport.closed
    assert not first.transport.closed
    first.lose()
    assert not bench.peer().transport.closed


@pytest.mark.parametrize("version", Version)
def test_a_connection_too_many_is_told_so_in_its_own_version(version: Version) -> None:
    bench = Bench(settings=MqttSettings(connections_max=1, refusals_max=1))
    first = bench.connect()
    surplus = bench.peer(version)
    assert bench.peer().transport.closed  # of those, too, there is a bound
    surplus.send(Connect(version=version, client_id="s"))
    busy = Reason.SERVER_BUSY if version is Version.V5 else Reason.SERVER_UNAVAILABLE
    assert surplus.take() == [Connack(reason=busy)]
    assert surplus.transport.closed
    silent = bench.peer(version)
    bench.wait(11)
    assert silent.transport.closed
    assert not first.transport.closed


# --- time -----------------------------------------------------------------------------------------------------


def test_whoever_does_not_connect_in_time_is_closed_however_slowly_it_talks() -> None:
    bench = Bench()
    peer = bench.peer()
    for byte in bytes.fromhex("10ff000004"):
        peer.send_raw(bytes((byte,)))
        bench.wait(3)
    assert peer.transport.closed


@pytest.mark.parametrize("version", Version)
def test_silence_beyond_one_and_a_half_keep_alives_closes(version: Version) -> None:
    bench = Bench()
    peer = bench.connect(keep_alive=10, version=version)
    for _ in range(5):
        bench.wait(9)
        peer.send(Pingreq())
        assert peer.take() == [Pingresp()]
    bench.wait(15)
    assert not peer.transport.closed  # [MQTT-3.1.2-22]: not before 15 s
    bench.wait(1.5)
    assert peer.transport.closed
    said = [Disconnect(reason=Reason.KEEP_ALIVE_TIMEOUT)] if version is Version.V5 else []
    assert peer.take() == said


def test_keep_alive_0_is_never_closed_for_silence() -> None:
    bench = Bench()
    peer = bench.connect(keep_alive=0)
    bench.wait(100)
    assert not peer.transport.closed
    assert len(bench.broker.deadlines) == 0


def test_a_server_keep_alive_is_told_and_used() -> None:
    bench = Bench(settings=MqttSettings(keep_alive_max=10))
    peer = bench.peer()
    peer.send(Connect(version=Version.V5, client_id="c", keep_alive=600))
    (connack,) = peer.take()
    assert isinstance(connack, Connack)
    assert connack.properties.server_keep_alive == 10
    bench.wait(17)
    assert peer.transport.closed


def test_a_thousand_comings_and_goings_leave_no_deadlines_behind() -> None:
    bench = Bench()
    for _ in range(1000):
        bench.connect("c", clean=False, properties=Properties(session_expiry_interval=1000)).lose()
    assert len(bench.broker.deadlines) < 200


def test_a_publish_released_too_early_is_completed_only_when_it_is_durable() -> None:
    bench = Bench()
    peer = bench.connect()
    peer.publish("a", qos=2, id=5)
    peer.send(Acknowledgement(PUBREL, 5))
    assert peer.take() == []
    bench.sync()
    assert peer.take() == [Acknowledgement(PUBREC, 5), Acknowledgement(PUBCOMP, 5)]
    assert bench.journal.requests > 0


def test_a_publish_repeated_while_the_disk_has_it_is_acknowledged_with_its_own_commit() -> None:
    """Not with the open one: that stays open until somebody else publishes."""
    bench = Bench()
    peer = bench.connect()
    peer.publish("a", qos=2, id=5)
    commit = bench.journal.seal()  # the disk is slow, and the client impatient
    peer.send(Publish(topic="a", payload=b"x", qos=2, packet_id=5, dup=True))
    peer.publish("a", qos=1, id=6)
    assert peer.take() == []
    bench.journal.complete(commit)
    assert peer.take() == [Acknowledgement(PUBREC, 5), Acknowledgement(PUBREC, 5)]
    bench.sync()
    assert peer.take() == [Acknowledgement(PUBACK, 6)]
    assert bench.journal.values == [b"x", b"x"]
