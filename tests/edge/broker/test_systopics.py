"""`$SYS`: told to whom it concerns, under Mosquitto's names, and to nobody else."""

from __future__ import annotations

from headwater.edge.broker.systopics import SystemTopics
from headwater.edge.mqtt.packets import Acknowledgement, Publish, Version

from .harness import Bench, Peer


def told(peer: Peer) -> dict[str, str]:
    return {
        each.topic: bytes(each.payload).decode()
        for each in peer.take()
        if isinstance(each, Publish)
    }


def bench_with_system() -> Bench:
    bench = Bench()
    SystemTopics(bench.broker, interval_s=10, version="headwater 1")
    return bench


def test_a_new_subscriber_is_told_at_once_and_then_what_changed() -> None:
    bench = bench_with_system()
    peer = bench.connect()
    now = {
        each.topic: bytes(each.payload).decode()
        for each in peer.subscribe("$SYS/#")
        if isinstance(each, Publish)
    }
    assert now["$SYS/broker/version"] == "headwater 1"
    assert now["$SYS/broker/clients/connected"] == "1"
    assert now["$SYS/broker/uptime"] == "0 seconds"
    assert "$SYS/broker/load/messages/received/15min" in now
    bench.wait(11)
    told(peer)
    other = bench.connect("other")
    other.publish("t")
    bench.sync()
    bench.wait(10)
    changed = told(peer)
    assert changed["$SYS/broker/clients/connected"] == "2"
    assert changed["$SYS/broker/messages/received"] == "1"
    assert "$SYS/broker/version" not in changed


def test_what_is_kept_and_waits_is_told_as_mosquitto_tells_it() -> None:
    bench = bench_with_system()
    away = bench.connect("away", version=Version.V311, clean=False)
    away.subscribe("t", "$share/g/t")
    away.lose()
    peer = bench.connect()
    peer.send(Publish(topic="t", payload=b"x", qos=1, packet_id=1, retain=True))
    bench.sync()
    now = {
        each.topic: bytes(each.payload).decode()
        for each in bench.connect("dashboard").subscribe("$SYS/#")
        if isinstance(each, Publish)
    }
    assert now["$SYS/broker/retained messages/count"] == "1"
    assert now["$SYS/broker/shared_subscriptions/count"] == "1"
    # the retained one, and the same waiting for a session and for a group
    assert now["$SYS/broker/messages/stored"] == now["$SYS/broker/store/messages/count"] == "3"


def test_loads_are_means_per_minute() -> None:
    bench = bench_with_system()
    peer = bench.connect()
    for _ in range(60):
        for _ in range(10):
            peer.publish("t", qos=0)
        bench.wait(10)
    values = {
        each.topic: float(each.payload)
        for each in peer.subscribe("$SYS/broker/load/publish/received/+")
        if isinstance(each, Publish)
    }
    assert 59 < values["$SYS/broker/load/publish/received/1min"] <= 61
    assert 45 < values["$SYS/broker/load/publish/received/5min"] < 61


def test_nobody_else_is_told_and_nothing_is_stored() -> None:
    bench = bench_with_system()
    peer = bench.connect()
    peer.subscribe("#", "+/#")
    bench.wait(30)
    assert not told(peer)
    assert not bench.journal.stored


def test_clients_do_not_publish_there() -> None:
    bench = bench_with_system()
    peer = bench.connect()
    peer.publish("$SYS/broker/version")
    (ack,) = peer.take()
    assert isinstance(ack, Acknowledgement)
    assert ack.reason == 0x90
    assert not bench.journal.stored
