"""Floods of what is allowed: each costs the one who sends it, holds bounded memory, and the others are served meanwhile.

Measured in bytes that are held and in what is taken, not in seconds. Floods at the door (connections, slow-loris, publishes
too fast) are in listening/test_floods.py, topics in test_routing.py; who does not read what we write is not read either
(test_delivery.py), and a socket has one read a round (sockets/test_epoll.py).
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from pathlib import Path

import msgspec
import pytest

from headwater.edge.broker.listening.settings import Kind, ListenerSettings, TlsSettings
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
    Suback,
    Subscribe,
    SubscriptionOptions,
    Version,
)
from headwater.edge.mqtt.properties import USER_PROPERTIES_MAX, Properties

from .harness import Bench
from .listening.entry import ANY, Authority, Bare, run, serving, until

LOCAL = ListenerSettings(address=ANY, name="l")


def many(count: int) -> Properties:
    return Properties(user_properties=(("", ""),) * count)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_packet_of_user_properties_ends_its_connection_before_they_are_all_read(qos: int) -> None:
    bench = Bench()
    good, flood = bench.connect("good"), bench.connect("flood")
    packet = Publish(topic="t", payload=b"", qos=qos, packet_id=qos and 1)
    right = msgspec.structs.replace(packet, properties=many(USER_PROPERTIES_MAX))
    flood.send(right)
    assert len(bench.journal.stored) == 1
    flood.send(msgspec.structs.replace(packet, properties=many(200_000)))
    assert len(bench.journal.stored) == 1
    assert flood.transport.closed
    (goodbye,) = [each for each in flood.take() if isinstance(each, Disconnect)]
    assert goodbye.reason == 0x97
    good.publish("t")
    bench.sync()
    assert good.take() == [Acknowledgement(PacketType.PUBACK, 1)]


def test_a_connect_of_user_properties_is_refused() -> None:
    bench = Bench()
    flood = bench.peer()
    flood.send(Connect(version=Version.V5, client_id="c", properties=many(USER_PROPERTIES_MAX + 1)))
    (connack,) = flood.take()
    assert isinstance(connack, Connack)
    assert connack.reason == 0x97
    assert flood.transport.closed


def test_who_subscribes_again_and_again_and_takes_nothing_holds_one_list_of_what_is_retained() -> (
    None
):
    bench = Bench()
    keeper = bench.connect("keeper")
    for number in range(1000):
        keeper.send(Publish(topic=f"t/{number}", payload=b"x", qos=1, packet_id=1, retain=True))
        bench.sync()
    keeper.take_raw()
    greedy = bench.connect("greedy", properties=Properties(receive_maximum=1))
    again = Subscribe(packet_id=1, subscriptions=(SubscriptionOptions("#", 1),))
    greedy.send(again)
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(200):
            greedy.send(again)
            greedy.take_raw()
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 200_000, "two hundred lists of a thousand topics are three million"
    good = bench.connect("good")
    good.publish("t/new")
    bench.sync()
    assert good.take() == [Acknowledgement(PacketType.PUBACK, 1)]


def test_handshakes_that_nobody_finishes_take_the_listeners_places_and_no_others(
    tmp_path: Path,
) -> None:
    """Half a handshake from each of fifty: five are computed, the others are closed before; who is in stays in."""
    authority = Authority(tmp_path)

    async def scenario() -> None:
        tls = ListenerSettings(
            address=ANY,
            name="tls",
            tls=TlsSettings(certificate=authority.server_file),
            connections_max=6,
        )
        async with serving(tls, LOCAL) as served:
            inside, reason = await Bare.connect(served.port(0), "in", tls=authority.client(None))
            assert reason == 0
            flood = [await asyncio.open_connection("127.0.0.1", served.port(0)) for _ in range(50)]
            for _, writer in flood:
                writer.write(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
            door = served.listeners.all[0].door
            await until(lambda: door.refused["too many connections"] == 45)
            assert door.open == 6
            assert isinstance(await inside.ask(Pingreq()), Pingresp)
            plain, reason = await Bare.connect(served.port(1), "plain")
            assert reason == 0
            assert isinstance(await plain.ask(Pingreq()), Pingresp)
            for _, writer in flood:
                writer.transport.abort()
            inside.close()
            plain.close()

    run(scenario)


def test_of_more_handshakes_than_there_may_be_the_oldest_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that those which nobody finishes keep nobody out."""
    monkeypatch.setattr("headwater.edge.broker.listening.opening.HANDSHAKES_MAX", 5)
    authority = Authority(tmp_path)

    async def scenario() -> None:
        tls = TlsSettings(certificate=authority.server_file)
        async with serving(ListenerSettings(address=ANY, name="tls", tls=tls)) as served:
            flood = [await asyncio.open_connection("127.0.0.1", served.port()) for _ in range(20)]
            door = served.listeners.all[0].door
            await until(lambda: door.refused["too many handshakes at once"] == 15)
            assert await flood[0][0].read() == b"", "the first has gone"
            honest, reason = await Bare.connect(served.port(), tls=authority.client(None))
            assert reason == 0
            assert isinstance(await honest.ask(Pingreq()), Pingresp)
            await until(lambda: door.open == 5)
            for _, writer in flood:
                writer.transport.abort()
            await until(lambda: door.open == 1)
            honest.close()

    run(scenario)


@pytest.mark.parametrize("kind", [Kind.MQTT, Kind.WEBSOCKET])
def test_connections_in_a_handshake_count_among_all(tmp_path: Path, kind: Kind) -> None:
    """File descriptors are shared out by this number; a WebSocket before its upgrade, a TLS handshake are one each."""
    authority = Authority(tmp_path)
    tls = TlsSettings(certificate=authority.server_file) if kind is Kind.MQTT else None
    flooded = ListenerSettings(address=ANY, name="flooded", tls=tls, kind=kind)

    async def scenario() -> None:
        limits = MqttSettings(connections_max=3, refusals_max=1)
        async with serving(flooded, LOCAL, limits=limits) as served:
            plain, _ = await Bare.connect(served.port(1), "plain")
            flood = [await asyncio.open_connection("127.0.0.1", served.port()) for _ in range(10)]
            door = served.listeners.all[0].door
            await until(lambda: door.refused["too many connections in all"] == 7)
            assert door.open == 3
            assert isinstance(await plain.ask(Pingreq()), Pingresp)
            for _, writer in flood:
                writer.transport.abort()
            await until(lambda: door.open == 0)
            plain.close()

    run(scenario)


def test_searching_what_is_retained_is_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read of SUBSCRIBE packets, each a search of everything retained, holds the broker for one of them a tick at most."""
    monkeypatch.setattr("headwater.edge.broker.client.COMPARISONS_FREE", 50)
    monkeypatch.setattr("headwater.edge.broker.client.PAYMENT_S", 0.01)
    bench = Bench()
    owner = bench.connect("owner")
    for index in range(100):
        owner.send(Publish(topic=f"r/{index}", payload=b"x", retain=True))
    bench.sync()
    good, flood = bench.connect("good"), bench.connect("flood")
    packets = [
        Subscribe(packet_id=n + 1, subscriptions=(SubscriptionOptions(f"none/+/{n}", 0),))
        for n in range(30)
    ]
    flood.send(*packets)
    assert len(flood.take()) == 1, "the others wait until the first is paid for"
    good.publish("t")
    bench.sync()
    assert good.take() == [Acknowledgement(PacketType.PUBACK, 1)]
    bench.wait(1.5)
    assert len(flood.take()) == 1
    bench.wait(60)
    assert len(flood.take()) == 28, "every one of them is answered in the end"
    flood.send(Pingreq())
    assert flood.take() == [Pingresp()]
    assert bench.broker.tally.rested == 30


def test_one_packet_may_not_ask_for_a_minute_of_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.edge.broker.fanout.COMPARISONS_MAX", 35)
    bench = Bench()
    owner = bench.connect("owner")
    for index in range(10):
        owner.send(Publish(topic=f"r/{index}", payload=b"x", retain=True))
    bench.sync()
    peer = bench.connect("peer")
    filters = [SubscriptionOptions(f"a/+/{n}", 1) for n in range(5)]
    filters.append(SubscriptionOptions("r/1", 1))
    peer.send(Subscribe(packet_id=1, subscriptions=tuple(filters)))
    suback = peer.take()[0]
    assert isinstance(suback, Suback)
    assert [int(each) for each in suback.reasons] == [1, 1, 1, 0x97, 0x97, 1]
    assert "search" in peer.told[-1]
