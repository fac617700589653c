"""What a broker does for subscribers: fan-out, request and response, retained topics, connections that only hold on.

The same rule as in `fanin.py`: contenders take turns, the ratio is taken within a round.
"""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from headwater.demo.daemon import DaemonFailed

from .connectprobe import wait
from .contenders import HEADWATER, MOSQUITTO_PERSISTENT, NATS, Contender, Running
from .fanin import load
from .process import snapshot

FAN_OUT_0, FAN_OUT_1 = "fan-out 1 → 100, QoS 0", "fan-out 1 → 100, QoS 1"
TRIPS = "request/response, 50 pairs, QoS 1"
SCENARIOS = {
    FAN_OUT_0: ("--connections", "100", "--qos", "0"),
    FAN_OUT_1: ("--connections", "100", "--qos", "1"),
    TRIPS: ("--trips", "--connections", "50"),
}
TOPICS = 100_000
IDLE_CONNECTIONS = 10_000
DESCRIPTORS = 65_536
RETAINED_SECONDS_MAX = 60


class Served(NamedTuple):
    """One contender, one scenario, once. Latency only where the load measured it."""

    rate: float
    cpu_us: float
    p50_ms: float | None
    p99_ms: float | None


class Retained(NamedTuple):
    """100,000 retained topics: published, kept through an orderly restart, and sent to a newcomer."""

    published: int
    publish_cpu_us: float
    restart_seconds: float
    received: int
    receive_seconds: float
    receive_cpu_us: float
    rss_bytes: float


class Idle(NamedTuple):
    connections: int
    bytes_per_connection: float
    rss_bytes: float


def raise_descriptor_limit() -> None:
    """For brokers started from here, and loads with ten thousand connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def serve(
    contenders: Sequence[Contender], *, rounds: int, seconds: float, directory: Path
) -> dict[str, dict[str, list[Served]]]:
    found: dict[str, dict[str, list[Served]]] = {}
    for name, flags in SCENARIOS.items():
        for number in range(rounds):
            for contender in contenders:
                with tempfile.TemporaryDirectory(dir=directory) as folder:
                    running = contender.start(Path(folder), ())
                    try:
                        heard = load(running, *flags, "--seconds", str(seconds), program="fanload")
                    finally:
                        running.daemon.close()
                served = Served(
                    heard["count"] / heard["seconds"],
                    1e6 * heard["broker_cpu_seconds"] / max(1, heard["count"]),
                    heard.get("latency_p50_ms"),
                    heard.get("latency_p99_ms"),
                )
                found.setdefault(name, {}).setdefault(contender.name, []).append(served)
                print(
                    f"  {name:34} round {number + 1} {contender.name:24} "
                    f"{served.rate:>9,.0f}/s {served.cpu_us:6.2f} µs CPU",
                    flush=True,
                )
    return found


def retained(
    contenders: Sequence[Contender], *, topics: int, directory: Path
) -> dict[str, Retained]:
    """Of those that keep retained messages through a restart."""
    keepers = {HEADWATER.name, MOSQUITTO_PERSISTENT.name, NATS.name}
    found: dict[str, Retained] = {}
    for contender in contenders:
        if contender.name not in keepers:
            continue
        with tempfile.TemporaryDirectory(dir=directory) as folder:
            found[contender.name] = _retained(contender, topics, Path(folder))
        print(f"  {topics:,} retained topics {contender.name}: {found[contender.name]}", flush=True)
    return found


def _retained(contender: Contender, topics: int, folder: Path) -> Retained:
    flags = ("--topics", str(topics), "--seconds", str(RETAINED_SECONDS_MAX))
    running = contender.start(folder, ())
    try:
        published = load(running, *flags, "--publish", program="retainload")
        running.daemon.stop()
        running, took = _again(running)
        received = load(running, *flags, program="retainload")
        rss = snapshot(running.daemon.pid).rss_bytes
    finally:
        running.daemon.close()
    return Retained(
        round(published["count"]),
        1e6 * published["broker_cpu_seconds"] / max(1, published["count"]),
        took,
        round(received["count"]),
        received["seconds"],
        1e6 * received["broker_cpu_seconds"] / max(1, received["count"]),
        rss,
    )


def _again(running: Running) -> tuple[Running, float]:
    """The same broker once more, and the seconds from its start until it answers a CONNECT."""
    running.daemon.start()
    try:
        return running, wait(running.port, RETAINED_SECONDS_MAX)
    except TimeoutError as error:
        raise DaemonFailed(f"{running.daemon.name}: {error}\n{running.daemon.log_tail()}") from None


def idle(contenders: Sequence[Contender], *, connections: int, directory: Path) -> dict[str, Idle]:
    found: dict[str, Idle] = {}
    for contender in contenders:
        with tempfile.TemporaryDirectory(dir=directory) as folder:
            running = contender.start(Path(folder), ())
            try:
                heard = load(running, "--connections", str(connections), program="idleload")
            except DaemonFailed as error:
                print(
                    f"  {contender.name} cannot hold {connections:,}: {str(error)[:300]}",
                    flush=True,
                )
                continue
            finally:
                running.daemon.close()
        found[contender.name] = Idle(
            round(heard["count"]), heard["bytes_per_connection"], heard["broker_rss_bytes"]
        )
        print(f"  idle {contender.name}: {found[contender.name]}", flush=True)
    return found
