"""Limits at the door and floods: what is too much is turned away or waits, and nobody else notices."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from headwater.core.clock import ManualClock
from headwater.core.units import ByteSize, Duration
from headwater.edge.broker.listening.door import Bucket, Door
from headwater.edge.broker.listening.rates import RatedClient
from headwater.edge.broker.listening.settings import ListenerSettings
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import (
    Connack,
    Connect,
    Pingreq,
    Pingresp,
    Publish,
    Version,
)

from ..harness import Bench, Peer
from .entry import ANY, Bare, run, serving, until

LOCAL = ListenerSettings(address=ANY, name="l")


def listener(**more: object) -> ListenerSettings:
    return msgspec.structs.replace(LOCAL, **more)


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(2.0, 3, 0.0)
    assert [bucket.take_if_there(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take_if_there(1.0) for _ in range(3)] == [True, True, False]
    assert bucket.take(5, 1.0) == 2.5
    assert not bucket.take_if_there(3.0)
    assert bucket.take_if_there(4.0)


def test_a_door_counts_who_is_in_by_address_and_forgets_who_left() -> None:
    told: list[tuple[str, str]] = []
    settings = listener(connections_max=3, connections_per_address_max=2)
    door = Door(settings, ManualClock(), lambda _, address, reason: told.append((address, reason)))
    first, second = door.enter("10.0.0.1:1"), door.enter("10.0.0.1:2")
    assert first is not None
    assert second is not None
    assert door.enter("10.0.0.1:3") is None
    assert door.enter("10.0.0.2:1") is not None
    assert door.enter("10.0.0.3:1") is None
    assert told == [
        ("10.0.0.1:3", "too many connections from one address"),
        ("10.0.0.3:1", "too many connections"),
    ]
    door.left(first)
    door.left(first)
    assert door.open == 2
    assert door.enter("10.0.0.1:4") is not None
    assert sum(door.refused.values()) == 2


def test_a_door_lets_in_at_its_rate_after_the_burst() -> None:
    clock = ManualClock()
    door = Door(listener(connection_rate=10.0, connection_burst=5), clock)
    assert sum(door.enter(f"10.0.0.1:{port}") is not None for port in range(100)) == 5
    clock.advance(0.3)
    assert sum(door.enter(f"10.0.0.1:{port}") is not None for port in range(100)) == 3
    door.change(listener())
    assert all(door.enter(f"10.0.0.1:{port}") is not None for port in range(100))


def test_a_flood_of_connections_is_closed_unread_and_others_go_on() -> None:
    async def scenario() -> None:
        limited = listener(connection_rate=0.001, connection_burst=3)
        async with serving(limited) as served:
            good, reason = await Bare.connect(served.port())
            assert reason == 0
            flood = [await Bare.open(served.port()) for _ in range(50)]
            door = served.listeners.all[0].door
            await until(lambda: door.refused["connection rate"] == 48)
            assert door.open == 3
            assert len(served.broker.clients) == 3
            assert isinstance(await good.ask(Pingreq()), Pingresp)
            for bare in (good, *flood):
                bare.close()

    run(scenario)


def test_half_open_connections_and_a_dribbled_connect_end_and_others_go_on() -> None:
    """Slow-loris: a byte now and then keeps nobody in."""
    bench = Bench(settings=MqttSettings(connect_timeout=Duration(10)))
    door = Door(LOCAL, bench.clock)
    good = bench.connect("good")
    slow = [Peer(bench, Version.V5, visitor=door.enter(f"10.0.0.1:{n}")) for n in range(20)]
    connect = encode_packet(Connect(version=Version.V5, client_id="x" * 40), Version.V5)
    for index in range(24):
        for peer in slow[10:]:  # the first ten send nothing at all
            if not peer.transport.closed:
                peer.send_raw(connect[index : index + 1])
        bench.wait(0.5)
    assert all(peer.transport.closed for peer in slow)
    assert door.open == 0
    assert bench.broker.tally.closed["keep_alive_timeout"] == 20
    good.send(Pingreq())
    assert good.take() == [Pingresp()]


def rated(bench: Bench, **more: object) -> Peer:
    visitor = Door(listener(**more), bench.clock).enter("10.0.0.1:1")
    assert visitor is not None
    peer = Peer.__new__(Peer)
    peer.version = Version.V5
    from ..harness import MemoryTransport

    peer.transport = MemoryTransport()
    peer.client = RatedClient(bench.broker, visitor)
    peer.client.connection_made(peer.transport)
    peer.send(Connect(version=Version.V5, client_id="fast", keep_alive=10))
    (connack,) = peer.take()
    assert isinstance(connack, Connack)
    return peer


def burst(count: int) -> bytes:
    return b"".join(
        encode_packet(
            Publish(topic="t", payload=b"x", qos=n % 2, packet_id=n if n % 2 else 0), Version.V5
        )
        for n in range(1, count + 1)
    )


def test_who_publishes_too_fast_is_not_read_until_its_debt_is_paid_and_loses_nothing() -> None:
    bench = Bench()
    peer = rated(bench, publish_rate=10.0)
    peer.send_raw(burst(60))
    assert len(bench.journal.stored) == 60
    assert not peer.transport.reading
    bench.wait(4.5)
    assert not peer.transport.reading
    bench.wait(1.0)
    assert peer.transport.reading
    assert peer.client.visitor is not None
    assert peer.client.visitor.door.slowed == 1
    assert not peer.transport.closed
    bench.sync()
    bench.wait(2)  # what was saved up is a second's worth
    peer.send_raw(burst(30))
    assert len(bench.journal.stored) == 90
    assert not peer.transport.reading, "also where the topic is known by now"
    bench.wait(1.5)
    assert not peer.transport.reading
    bench.wait(1.0)
    assert peer.transport.reading


def test_silence_that_we_imposed_is_not_held_against_it() -> None:
    """Keep-alive 10 s, not read for 99 s."""
    bench = Bench()
    peer = rated(bench, publish_rate=1.0)
    peer.send_raw(burst(100))
    bench.wait(90)
    assert not peer.transport.closed
    bench.wait(12)
    assert peer.transport.reading
    bench.wait(20)
    assert peer.transport.closed


def test_bytes_have_a_rate_of_their_own() -> None:
    bench = Bench()
    peer = rated(bench, publish_bytes_rate=ByteSize(1000))
    peer.send(Publish(topic="t", payload=bytes(5000), qos=0))
    assert not peer.transport.reading
    bench.wait(3)
    assert not peer.transport.reading
    bench.wait(2)
    assert peer.transport.reading


def test_one_fast_client_slows_nobody_else() -> None:
    async def scenario() -> None:
        async with serving(listener(publish_rate=1.0)) as served:
            fast, _ = await Bare.connect(served.port(), "fast")
            other, _ = await Bare.connect(served.port(), "other")
            fast.writer.write(burst(200))
            door = served.listeners.all[0].door
            await until(lambda: door.slowed)
            assert isinstance(await other.ask(Pingreq()), Pingresp)
            fast.close()
            other.close()

    run(scenario)


def test_a_listener_has_a_packet_limit_of_its_own_and_says_so() -> None:
    async def scenario() -> None:
        async with serving(listener(packet_bytes_max=ByteSize(1000))) as served:
            bare = await Bare.open(served.port())
            connack = await bare.ask(Connect(version=Version.V5, client_id="c"))
            assert isinstance(connack, Connack)
            assert connack.properties.maximum_packet_size == 1000
            bare.send(Publish(topic="t", payload=bytes(1001), qos=1, packet_id=1))
            goodbye = await bare.take()
            assert goodbye.reason == 0x95  # type: ignore[union-attr]
            assert await bare.ended()
            bare.close()

    run(scenario)


def test_a_unix_socket_is_a_listener_too_and_is_taken_over_from_the_dead(tmp_path: Path) -> None:
    path = tmp_path / "mqtt.sock"

    async def scenario() -> None:
        for _ in range(2):  # the second finds what the first left
            async with serving(ListenerSettings(address=f"unix:{path}")) as served:
                streams = await asyncio.open_unix_connection(str(path))
                bare = Bare(*streams, Version.V5)
                connack = await bare.ask(Connect(version=Version.V5, client_id="c"))
                assert isinstance(connack, Connack)
                assert connack.reason == 0
                assert (path.stat().st_mode & 0o777) == 0o660
                bare.close()
                await until(lambda: not served.broker.clients)

    run(scenario)


def test_several_listeners_serve_one_broker() -> None:
    async def scenario() -> None:
        settings = (LOCAL, ListenerSettings(address=ANY, name="other"))
        async with serving(*settings) as served:
            one, _ = await Bare.connect(served.port(0), "one")
            other, _ = await Bare.connect(served.port(1), "other")
            await until(lambda: len(served.broker.clients) == 2)
            assert [each.door.open for each in served.listeners.all] == [1, 1]
            one.close()
            other.close()

    run(scenario)
