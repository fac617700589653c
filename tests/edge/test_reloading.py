"""SIGHUP: what may change live does, what may not is named, and a wrong configuration changes nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from headwater.core.clock import SystemClock
from headwater.core.units import Duration
from headwater.edge.broker.access.settings import AccessSettings
from headwater.edge.broker.listening.settings import Kind, ListenerSettings
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.daemon import Edge, open_edge, run_edge
from headwater.edge.mqtt.packets import Acknowledgement, Pingreq, Pingresp, Publish
from headwater.edge.reloading import LIVE, Reloading, merge
from headwater.edge.settings import EdgeSettings
from headwater.edge.streams import RetentionSettings, StreamSettings

from .broker.access.test_passwords import argon2
from .broker.listening.entry import Bare
from .test_daemon import run, settings


def listener(**more: object) -> ListenerSettings:
    return ListenerSettings(address="127.0.0.1:9", name="l", **more)  # type: ignore[arg-type]


def change(old: EdgeSettings, **more: object) -> EdgeSettings:
    return msgspec.structs.replace(old, **more)


def test_what_is_live_is_merged_and_the_rest_waits_by_name(tmp_path: Path) -> None:
    stream = StreamSettings(name="s", filters=("a/#",))
    old = settings(tmp_path, streams=(stream,), listeners=(listener(),))
    kept = RetentionSettings(age=Duration(60))
    new = change(
        old,
        data_dir="elsewhere",
        log_level="debug",
        mqtt_limits=MqttSettings(connections_max=7),
        streams=(msgspec.structs.replace(stream, retention=kept, partitions=9),),
        listeners=(listener(publish_rate=5.0), ListenerSettings(address="127.0.0.1:8")),
    )
    merged, waiting = merge(old, new)
    assert waiting == ["edge.data_dir", "edge.listeners", "edge.streams.s"]
    assert (merged.data_dir, merged.log_level) == (old.data_dir, "debug")
    assert merged.mqtt_limits.connections_max == 7
    (found,) = merged.streams
    assert (found.retention, found.partitions) == (kept, 1)
    assert merged.listeners == (listener(publish_rate=5.0),)


def test_a_listener_of_another_kind_stays_what_it_was(tmp_path: Path) -> None:
    old = settings(tmp_path, listeners=(listener(),))
    other = listener(kind=Kind.WEBSOCKET, publish_rate=5.0)
    merged, waiting = merge(old, change(old, listeners=(other,)))
    assert merged.listeners == old.listeners
    assert waiting == ["edge.listeners.l"]
    assert merge(old, old) == (old, [])


def served(start: EdgeSettings, scenario: Callable[[Edge, list[EdgeSettings]], object]) -> None:
    """The scenario with an edge and the settings that SIGHUP will find, which it may replace."""
    found = [start]
    ready = asyncio.Event()
    stop = asyncio.Event()
    edges: list[Edge] = []

    def on_ready(edge: Edge) -> None:
        edges.append(edge)
        ready.set()

    async def main() -> None:
        task = asyncio.create_task(
            run_edge(start, stop=stop, on_ready=on_ready, read=lambda: found[0])
        )
        await ready.wait()
        try:
            await scenario(edges[0], found)  # type: ignore[misc]
        finally:
            stop.set()
            await task

    run(main)


async def hang_up() -> list[dict[str, object]]:
    """SIGHUP, and what the log said of it."""
    with structlog.testing.capture_logs() as said:
        os.kill(os.getpid(), signal.SIGHUP)
        while not any("reloaded" in str(each["event"]) for each in said):  # noqa: ASYNC110
            await asyncio.sleep(0.001)  # a loop that never waits hears no signals
    return [dict(each) for each in said]


def test_passwords_rules_and_limits_change_under_connected_clients(tmp_path: Path) -> None:
    passwords, rules = tmp_path / "passwd", tmp_path / "acl"
    passwords.write_text(f"a:{argon2(b'1')}\n")
    rules.write_text("user a\ntopic write #\n")
    start = settings(
        tmp_path / "data",
        access=AccessSettings(password_file=str(passwords), acl_file=str(rules)),
    )

    async def scenario(edge: Edge, found: list[EdgeSettings]) -> None:
        port = edge.mqtt[1]
        bare, reason = await Bare.connect(port, "one", user="a", password=b"1")
        assert reason == 0
        passwords.write_text(f"a:{argon2(b'2')}\n")
        rules.write_text("user a\ntopic write b\n")
        found[0] = change(found[0], mqtt_limits=MqttSettings(topic_alias_max=3))
        said = await hang_up()
        assert said[-1]["changed"] == ["edge.mqtt_limits.topic_alias_max"]
        ack = await bare.ask(Publish(topic="a", payload=b"", qos=1, packet_id=1))
        assert isinstance(ack, Acknowledgement)
        assert ack.reason == 0x87
        old, reason = await Bare.connect(port, "two", user="a", password=b"1")
        assert reason == 0x86
        new, reason = await Bare.connect(port, "three", user="a", password=b"2")
        assert reason == 0
        assert edge.broker.settings.topic_alias_max == 3
        for each in (bare, old, new):
            each.close()

    served(start, scenario)


def test_a_wrong_configuration_changes_nothing_and_is_said(tmp_path: Path) -> None:
    start = settings(tmp_path)

    async def scenario(edge: Edge, found: list[EdgeSettings]) -> None:
        bare, _ = await Bare.connect(edge.mqtt[1])
        found[0] = change(
            start, log_level="debug", access=AccessSettings(password_file=str(tmp_path / "none"))
        )
        (said,) = await hang_up()
        assert said["log_level"] == "error"
        assert "password_file" in str(said["reason"])
        assert edge.settings is start
        assert edge.entrance.access.passwords is None
        assert isinstance(await bare.ask(Pingreq()), Pingresp)
        bare.close()

    served(start, scenario)


def test_every_live_setting_is_one() -> None:
    assert set(LIVE) <= set(EdgeSettings.__struct_fields__)


def test_reloading_needs_no_signal(tmp_path: Path) -> None:
    start = settings(tmp_path)

    async def scenario() -> None:
        async with open_edge(start, clock=SystemClock()) as edge:
            Reloading(edge, lambda: change(start, drain_timeout=Duration(1)))()
            assert edge.settings.drain_timeout == Duration(1)

    run(scenario)
