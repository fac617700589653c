"""What an acknowledgement promised, met by a race or by a crash just after it."""

from __future__ import annotations

import asyncio
import socket
import struct

import msgspec
import pytest

from headwater.core.record import TopicPartition
from headwater.edge.broker import notes
from headwater.edge.broker.backlog import STRETCHES_MAX, Backlog, Delivery
from headwater.edge.broker.listening.door import Door, Visitor
from headwater.edge.broker.listening.settings import ListenerSettings
from headwater.edge.broker.messages import Message
from headwater.edge.broker.outboundstate import OutboundState, pack, positions_of
from headwater.edge.broker.sessions import Session
from headwater.edge.mqtt.encoding import encode_packet
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
from .loopback import Served, served
from .machine import Machine
from .subscriber import back, publishes

V5 = Version.V5
KEPT = Properties(session_expiry_interval=1000)


def kept(machine: Bench, client_id: str) -> Peer:
    return machine.connect(client_id, clean=False, properties=KEPT)


def retained(payload: bytes = b"1", *, topic: str = "t", qos: int = 1) -> Publish:
    return Publish(topic=topic, payload=payload, qos=qos, retain=True, packet_id=1 if qos else 0)


def subscribe(topic_filter: str = "t", qos: int = 1) -> Subscribe:
    return Subscribe(packet_id=9, subscriptions=(SubscriptionOptions(topic_filter, qos),))


# --- a retained message beside a SUBACK that waits for the disk -------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_is_retained_while_a_suback_waits_comes_once(qos: int) -> None:
    bench = Bench()
    publisher, subscriber = bench.connect("p"), kept(bench, "s")
    subscriber.send(subscribe(qos=2))
    publisher.send(retained(qos=qos))
    bench.sync()
    bench.keep_promises()
    packets = subscriber.take()
    assert [packet.payload for packet in publishes(packets)] == [b"1"]
    assert any(isinstance(packet, Suback) for packet in packets)


@pytest.mark.parametrize("qos", [0, 1])
def test_what_waited_for_the_disk_when_the_subscription_came_comes_once(qos: int) -> None:
    bench = Bench()
    publisher, subscriber = bench.connect("p"), kept(bench, "s")
    publisher.send(retained(qos=qos))
    subscriber.send(subscribe())
    bench.sync()
    (message,) = publishes(subscriber.take())
    assert message.retain


@pytest.mark.parametrize("qos", [0, 1])
def test_who_is_sent_what_is_retained_is_told_that_it_was_being_removed(qos: int) -> None:
    """Removed before it subscribed, but not on disk: it is sent the old value, and must not be left with it."""
    bench = Bench()
    publisher, subscriber, other = bench.connect("p"), bench.connect("s"), bench.connect("o")
    publisher.send(retained(b"on"))
    bench.sync()
    publisher.send(retained(b"", qos=qos))
    subscriber.send(subscribe())
    other.send(subscribe("none/#"))
    bench.sync()
    found = [(each.payload, each.retain) for each in publishes(subscriber.take())]
    assert found == [(b"on", True), (b"", False)]
    # nothing was retained: nobody is told that it is gone
    publisher.send(retained(b"", topic="none/1", qos=qos))
    other.send(subscribe("none/1"))
    bench.sync()
    assert len(publishes(other.take())) == 1  # by the filter that was there


def test_what_was_retained_before_comes_although_another_is_replaced_meanwhile() -> None:
    bench = Bench()
    publisher, subscriber = bench.connect("p"), kept(bench, "s")
    publisher.send(retained(b"old a", topic="a"), retained(b"old b", topic="b"))
    bench.sync()
    subscriber.send(subscribe("#"))
    publisher.send(retained(b"new a", topic="a"))
    bench.sync()
    found = {(each.topic, each.payload, each.retain) for each in publishes(subscriber.take())}
    assert found == {("a", b"new a", False), ("b", b"old b", True)}


def test_retained_messages_still_to_be_sent_are_not_sent_after_unsubscribe() -> None:
    """[MQTT-3.10.4-2]"""
    bench = Bench()
    publisher = bench.connect("p")
    for number in range(5):
        publisher.send(retained(topic=f"t/{number}"))
    bench.sync()
    subscriber = bench.connect("s", properties=Properties(receive_maximum=1))
    subscriber.send(subscribe("t/#"))
    (first,) = publishes(subscriber.take())
    subscriber.send(Unsubscribe(packet_id=10, filters=("t/#",)))
    subscriber.send(Acknowledgement(PacketType.PUBACK, first.packet_id))
    assert publishes(subscriber.take()) == []


# --- clean start over a kept session ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [Version.V311, Version.V5])
def test_a_session_that_a_clean_start_ended_does_not_come_back_after_a_crash(
    version: Version,
) -> None:
    machine = Machine()
    old = machine.connect("c", version=version, clean=False, properties=_kept(version))
    old.subscribe("t")
    old.lose()
    machine.sync()
    newer = machine.peer(version)
    newer.send(Connect(version=version, client_id="c", clean_start=True))
    assert newer.take() == []  # until the end of the old one is on disk
    machine.sync()
    (connack,) = newer.take()
    assert isinstance(connack, Connack)
    machine.power_cut()
    assert "c" not in machine.broker.sessions


def test_a_clean_start_over_a_connected_kept_session_waits_for_its_end_too() -> None:
    machine = Machine()
    kept(machine, "c")
    newer = machine.peer()
    newer.send(Connect(version=Version.V5, client_id="c", clean_start=True))
    assert newer.take() == []
    machine.sync()
    assert [type(packet) for packet in newer.take()] == [Connack]


def _kept(version: Version) -> Properties:
    return KEPT if version is Version.V5 else Properties()


# --- what may have been sent before a crash ---------------------------------------------------------------------------


def test_what_may_have_been_sent_before_a_power_cut_comes_with_dup() -> None:
    """[MQTT-3.3.1-1]: no note says that it was sent, so all that could have been is marked."""
    machine = Machine()
    publisher, subscriber = machine.connect("p"), kept(machine, "s")
    subscriber.send(subscribe())
    machine.sync()
    subscriber.take()
    publisher.publish("t", b"1")
    machine.sync()
    assert [each.dup for each in publishes(subscriber.take())] == [False]
    machine.power_cut()
    again = back(machine)
    machine.sync()
    (message,) = publishes(again.take())
    assert (message.payload, message.dup) == (b"1", True)
    again.send(Acknowledgement(PacketType.PUBACK, message.packet_id))
    machine.connect("p").publish("t", b"2")
    machine.sync()
    assert [(each.payload, each.dup) for each in publishes(again.take())] == [(b"2", False)]


def test_what_waited_for_somebody_absent_comes_without_dup_after_a_power_cut() -> None:
    machine = Machine()
    subscriber = kept(machine, "s")
    subscriber.send(subscribe())
    machine.sync()
    subscriber.lose()
    machine.sync()
    machine.connect("p").publish("t", b"1")
    machine.sync()
    machine.power_cut()
    again = back(machine)
    machine.sync()
    assert [(each.payload, each.dup) for each in publishes(again.take())] == [(b"1", False)]


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_damaged_state_of_deliveries_does_not_keep_the_edge_from_starting() -> None:
    machine = Machine()
    subscriber = kept(machine, "s")
    subscriber.send(subscribe())
    machine.sync()
    session: Session = machine.broker.sessions["s"]
    machine.log.note(notes.OUTBOUND, notes.encode(notes.Outbound(session.number, b"\xc1")))
    machine.sync()
    machine.power_cut()
    assert "s" in machine.broker.sessions


# --- evidence ---------------------------------------------------------------------------------------------------------


def test_an_acknowledgement_that_arrived_before_the_connection_was_reset_is_not_in_doubt() -> None:
    """The next equal reading under the free identifier is another one, also where it comes with DUP, having been lost on the
    way: the socket is asked before it is closed."""

    async def life(server: Served, *publishes: Publish) -> None:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        connect = Connect(version=V5, client_id="c", clean_start=False, properties=KEPT)
        writer.write(encode_packet(connect, V5))
        await read_packet(reader)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        for publish in publishes:
            writer.write(encode_packet(publish, V5))
            await read_packet(reader)
        (client,) = server.broker.clients
        assert client.unacknowledged is not None
        while client.unacknowledged() != 0:  # noqa: ASYNC110 (nor does TCP)
            await asyncio.sleep(0.01)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        while server.broker.clients:  # noqa: ASYNC110 (the broker tells nobody)
            await asyncio.sleep(0.01)

    async def main() -> None:
        async with served() as server, asyncio.timeout(20):
            reading = Publish(topic="t", payload=b"21.5", qos=1, packet_id=1)
            await life(server, reading, reading)  # TCP's word counts for a sensor that stutters
            await life(server, msgspec.structs.replace(reading, dup=True))
            assert server.journal.values == [b"21.5"] * 3

    asyncio.run(main())


async def read_packet(reader: asyncio.StreamReader) -> None:
    """One of fewer than 128 bytes."""
    _, length = await reader.readexactly(2)
    await reader.readexactly(length)


# --- the edge's own clients -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clean", [True, False])
def test_nobody_takes_over_what_is_a_part_of_the_edge(clean: bool) -> None:
    bench = Bench()
    source = kept(bench, "source-a")
    visitor = Visitor(Door(ListenerSettings(address="127.0.0.1:1883"), bench.clock), "127.0.0.1:1")
    stranger = Peer(bench, V5, visitor)
    stranger.send(Connect(version=V5, client_id="source-a", clean_start=clean))
    (connack,) = stranger.take()
    assert isinstance(connack, Connack)
    assert connack.reason is Reason.CLIENT_IDENTIFIER_NOT_VALID
    assert not source.transport.closed


# --- a note is never too large ----------------------------------------------------------------------------------------


def test_the_state_of_a_session_behind_in_thousands_of_partitions_is_a_record_still() -> None:
    bench = Bench()
    offset = 5_000_000_000
    for number in range(5000):
        tp = TopicPartition("telemetry-of-a-long-name", number)
        bench.journal.ends[tp] = offset + 100_000
    backlog = Backlog(bench.broker.departures, lambda record, tp: None)
    for tp in bench.journal.ends:
        for step in range(STRETCHES_MAX):
            message = Message("t", b"", qos=1, tp=tp, offset=offset + 1000 * step)
            backlog.push(Delivery(message, 1, False, ()), present=False)
    bench.broker.departures.streams = {"telemetry-of-a-long-name": ()}
    places = positions_of(backlog, bench.broker.departures, ["#"])
    assert len(pack(OutboundState(positions=places))) < 1_000_000
    for place in places:
        assert place.stretches[0][0] == offset
        assert place.stretches[-1][1] == offset + 1000 * (STRETCHES_MAX - 1) + 1
        assert sum(stretch[2] for stretch in place.stretches) == STRETCHES_MAX
