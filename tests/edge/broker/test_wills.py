"""Wills: when they are published, when not, and that they are records like all others."""

from __future__ import annotations

import pytest

from headwater.edge.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Publish,
    Version,
    Will,
)
from headwater.edge.mqtt.properties import Properties
from headwater.edge.mqtt.reasons import Reason

from .harness import Bench

WILL = Will(topic="gone", payload=b"c", qos=1, retain=True)
DELAYED = Will(topic="gone", payload=b"c", properties=Properties(will_delay_interval=10))
KEPT = Properties(session_expiry_interval=100)


@pytest.mark.parametrize("version", Version)
def test_a_lost_connection_publishes_the_will_as_a_record_delivered_when_durable(
    version: Version,
) -> None:
    bench = Bench()
    watcher = bench.connect("w")
    watcher.subscribe("gone")
    bench.connect("c", version=version, will=WILL).lose()
    assert bench.journal.values == [b"c"]
    assert watcher.take() == []
    bench.sync()
    (packet,) = watcher.take()
    assert isinstance(packet, Publish)
    assert (packet.topic, packet.payload, packet.qos) == ("gone", b"c", 1)
    late = bench.connect("l")
    assert len(late.subscribe("gone")) == 2  # retained too


def test_a_normal_disconnect_discards_the_will() -> None:
    bench = Bench()
    for version in Version:
        peer = bench.connect("c", version=version, will=WILL)
        peer.send(Disconnect())
        assert peer.transport.closed
        peer.lose()
    assert bench.journal.values == []  # [MQTT-3.14.4-3]


def test_a_disconnect_may_ask_for_the_will() -> None:
    bench = Bench()
    bench.connect("c", will=WILL).send(Disconnect(reason=Reason.DISCONNECT_WITH_WILL))
    assert bench.journal.values == [b"c"]


def test_keep_alive_and_violations_publish_the_will_once() -> None:
    bench = Bench()
    bench.connect("a", will=WILL, keep_alive=1)
    bench.wait(5)
    assert bench.journal.values == [b"c"]
    peer = bench.connect("b", will=WILL)
    peer.send_raw(b"\x00\x00")
    peer.lose()
    assert bench.journal.values == [b"c", b"c"]
    assert bench.broker.tally.wills == 2


def test_a_delayed_will_waits_and_is_cancelled_by_a_return() -> None:
    bench = Bench()
    bench.connect("c", clean=False, will=DELAYED, properties=KEPT).lose()
    bench.wait(9)
    assert bench.journal.values == []
    back = bench.connect("c", clean=False, properties=KEPT)  # [MQTT-3.1.3-9]
    bench.wait(20)
    assert bench.journal.values == []
    back.lose()
    bench.connect("c", clean=False, will=DELAYED, properties=KEPT).lose()
    bench.wait(11)
    assert bench.journal.values == [b"c"]


def test_delay_and_expiry_count_from_when_the_client_went_not_from_the_tick_before() -> None:
    bench = Bench()
    bench.connect("w", clean=False, will=DELAYED, properties=KEPT)
    peer = bench.connect("c", clean=False, will=DELAYED, properties=KEPT)
    bench.clock.advance(0.4)  # and no tick meanwhile
    peer.lose()
    bench.clock.advance(9.9)
    bench.broker.tick()
    assert bench.journal.values == []  # [MQTT-3.1.3-9]
    bench.clock.advance(0.2)
    bench.broker.tick()
    assert bench.journal.values == [b"c"]
    bench.clock.advance(89.8)
    bench.broker.tick()
    assert "c" in bench.broker.sessions  # [MQTT-3.1.2-23]
    bench.clock.advance(0.2)
    bench.broker.tick()
    assert "c" not in bench.broker.sessions


def test_a_delayed_will_is_published_when_its_session_ends_before() -> None:
    bench = Bench()
    bench.connect("c", will=DELAYED).lose()  # session expiry 0
    assert bench.journal.values == [b"c"]
    bench.connect("c", clean=False, will=DELAYED, properties=KEPT).lose()
    bench.connect("c", clean=True)  # a clean start ends the session
    assert bench.journal.values == [b"c", b"c"]
    bench.wait(20)
    assert bench.journal.values == [b"c", b"c"]


def test_takeover_publishes_the_will_of_the_one_that_lost() -> None:
    bench = Bench()
    bench.connect("c", will=WILL)
    bench.connect("c")
    assert bench.journal.values == [b"c"]


def test_stopping_the_broker_publishes_wills_and_says_goodbye() -> None:
    bench = Bench()
    peer = bench.connect("c", will=WILL)
    old = bench.connect("o", version=Version.V311)
    bench.broker.stop_reading()
    bench.broker.close()
    assert bench.journal.values == [b"c"]
    assert peer.take() == [Disconnect(reason=Reason.SERVER_SHUTTING_DOWN)]
    assert old.transport.closed
    late = bench.peer()
    assert late.transport.closed


def test_a_will_that_the_log_refuses_is_counted_and_harms_nobody() -> None:
    bench = Bench()
    peer = bench.connect("c", will=WILL)
    from headwater.core.errors import Unavailable

    bench.journal.refusal = Unavailable("full")
    peer.lose()
    assert bench.broker.tally.refused == {"will: unavailable": 1}
    again = bench.peer()
    again.send(Connect(version=Version.V5, client_id="c"))
    assert not again.transport.closed


@pytest.mark.parametrize(
    ("reason", "published"),
    [
        (Reason.SUCCESS, []),
        (Reason.DISCONNECT_WITH_WILL, [b"c"]),
        (Reason.UNSPECIFIED_ERROR, [b"c"]),
        (Reason.QUOTA_EXCEEDED, [b"c"]),
    ],
)
def test_only_a_normal_disconnect_takes_the_will_back(
    reason: Reason, published: list[bytes]
) -> None:
    bench = Bench()
    bench.connect("c", will=WILL).send(Disconnect(reason=reason))  # [MQTT-3.14.4-3]
    assert bench.journal.values == published


def test_a_will_still_delayed_when_the_broker_stops_waits_for_the_next_start() -> None:
    """With its session: whoever comes back in time takes it back (the other half: test_durable_sessions.py)."""
    bench = Bench()
    bench.connect("c", clean=False, will=DELAYED, properties=KEPT).lose()
    assert bench.journal.values == []
    bench.broker.stop_reading()
    bench.broker.close()
    assert bench.journal.values == []


def test_a_client_that_takes_no_connack_is_closed_in_silence_and_its_will_is_not_published() -> (
    None
):
    bench = Bench()
    peer = bench.peer()
    limit = Properties(maximum_packet_size=4)
    peer.send(Connect(version=Version.V5, client_id="c", will=WILL, properties=limit))
    bench.keep_promises()
    assert peer.take_raw() == b""  # [MQTT-3.1.2-24]
    assert peer.transport.closed
    assert bench.journal.values == []
    assert bench.broker.sessions == {}
    roomy = bench.peer()
    limit = Properties(maximum_packet_size=16)
    roomy.send(Connect(version=Version.V5, client_id="c", properties=limit))
    assert roomy.take() == [Connack(reason=Reason.PACKET_TOO_LARGE)]


def test_a_client_that_shuts_its_side_is_gone_at_once_and_its_will_is_published() -> None:
    bench = Bench()
    peer = bench.connect("c", will=WILL)
    peer.transport.stuck = True
    peer.send(Pingreq())
    assert peer.client.eof_received() is False
    assert peer.transport.closed
    assert bench.broker.clients == set()
    assert bench.journal.values == [b"c"]
    bench.wait(6)  # what it does not read in time it does not get
    assert peer.transport.aborted
    peer.client.connection_lost(None)
    assert bench.broker.tally.wills == 1
