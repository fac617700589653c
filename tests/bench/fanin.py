"""Fan-in: a hundred publishers, one broker on one core, the load on the other; what a message costs and how fast it goes.

Rule: contenders take turns round by round (A B C A B C), so that a machine that slows down slows them all; the ratio is
taken within a round, and the median over the rounds is what is told, with the lowest and highest.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from headwater.demo.daemon import DaemonFailed

from .contenders import HEADWATER, LOAD_CORE, MOSQUITTO, Contender, Running
from .process import device_written_bytes

CONNECTIONS = 100
PAYLOAD_BYTES = 200


class Scenario(NamedTuple):
    name: str
    qos: int
    window: int
    connections: int = CONNECTIONS


ONE, TWENTY = "QoS 1, 100 × 1 in flight", "QoS 1, 100 × 20 in flight"
SCENARIOS = (
    Scenario(ONE, 1, 1),
    Scenario(TWENTY, 1, 20),
    Scenario("QoS 1, 1 × 100 in flight", 1, 100, connections=1),
    Scenario("QoS 1, 1,000 × 1 in flight", 1, 1, connections=1000),
    Scenario("QoS 0, 100 connections", 0, 20),
)


class Round(NamedTuple):
    """One contender, one scenario, once."""

    rate: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    written_per_payload_byte: float | None
    rss_bytes: float


class Median(NamedTuple):
    value: float
    low: float
    high: float


Rounds = dict[str, dict[str, list[Round]]]  # scenario → contender → rounds


def measure(
    contenders: Sequence[Contender], *, rounds: int, seconds: float, directory: Path
) -> Rounds:
    found: Rounds = {}
    for scenario in SCENARIOS:
        by_contender = found.setdefault(scenario.name, {})
        for number in range(rounds):
            for contender in contenders:
                result = _round(contender, scenario, seconds, directory)
                by_contender.setdefault(contender.name, []).append(result)
                print(
                    f"  {scenario.name:26} round {number + 1} {contender.name:24} "
                    f"{result.rate:>9,.0f}/s {result.cpu_us:6.2f} µs CPU  "
                    f"p50 {result.p50_ms:6.2f} ms  p99 {result.p99_ms:6.2f} ms",
                    flush=True,
                )
    return found


def median(rounds: Sequence[Round], field: str) -> Median:
    values = [value for each in rounds if (value := getattr(each, field)) is not None]
    return median_of(values)


def median_of(values: Sequence[float]) -> Median:
    if not values:
        return Median(math.nan, math.nan, math.nan)
    return Median(statistics.median(values), min(values), max(values))


def ratio(
    found: Rounds, scenario: str, field: str, against: Contender = MOSQUITTO
) -> Median | None:
    """Headwater's as a share of the other's, round by round. None where either was not measured."""
    ours, theirs = (found.get(scenario, {}).get(each.name) for each in (HEADWATER, against))
    if not ours or not theirs:
        return None
    shares = [getattr(a, field) / getattr(b, field) for a, b in zip(ours, theirs, strict=True)]
    return Median(statistics.median(shares), min(shares), max(shares))


def load(
    running: Running, *flags: str, program: str = "load", prefix: Sequence[str] = ()
) -> dict[str, float]:
    """Run a load against a broker, pinned beside it. Raises DaemonFailed where a connection was lost."""
    done = subprocess.run(
        [
            *(*prefix, "taskset", "--cpu-list", str(LOAD_CORE), sys.executable),
            *("-m", f"tests.bench.{program}"),
            *("--port", str(running.port), "--broker-pid", str(running.daemon.pid), *flags),
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise DaemonFailed(f"the load failed: {done.stderr[-1500:]}\n{running.daemon.log_tail()}")
    heard: dict[str, float] = json.loads(done.stdout)
    if heard.get("lost_connections"):
        raise DaemonFailed(
            f"{running.daemon.name} dropped connections\n{running.daemon.log_tail()}"
        )
    return heard


def _round(contender: Contender, scenario: Scenario, seconds: float, directory: Path) -> Round:
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        running = contender.start(Path(folder), ())
        try:
            before = device_written_bytes(directory)
            heard = load(
                running,
                *("--connections", str(scenario.connections), "--window", str(scenario.window)),
                *("--qos", str(scenario.qos), "--payload", str(PAYLOAD_BYTES)),
                *("--seconds", str(seconds)),
            )
            after = device_written_bytes(directory)
        finally:
            running.daemon.close()
    count = heard["acknowledged"]
    return Round(
        rate=count / heard["seconds"],
        cpu_us=1e6 * heard["broker_cpu_seconds"] / count,
        p50_ms=heard["latency_p50_ms"],
        p99_ms=heard["latency_p99_ms"],
        written_per_payload_byte=None
        if before is None or after is None
        else (after - before) / (heard["ever_acknowledged"] * PAYLOAD_BYTES),
        rss_bytes=heard["broker_rss_bytes"],
    )
