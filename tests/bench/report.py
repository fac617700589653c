"""docs/benchmarks.md, from what was measured in this run and nothing else.

Rule: every figure in the table came from the run that wrote it; the reference points beside them are those that the project
set out with, kept whether they were met or not.
"""

from __future__ import annotations

from typing import NamedTuple

from . import sections, targets
from .contenders import CONTENDERS
from .delivery import Idle, Retained, Served
from .fanin import CONNECTIONS, PAYLOAD_BYTES, SCENARIOS, Rounds, median, ratio
from .flash import Written
from .link import Wire
from .machine import Machine
from .slowdisk import Slow
from .tiers import Drain, Memory, Sinking

MIB = 1024 * 1024
# different readings of one publisher: one for each place in its window
DISTINCT = 20
IDLE_MIB_MAX = 40


class Run(NamedTuple):
    """What one run of the tool knows. None: not measured this time."""

    date: str
    commit: str
    command: str
    machine: Machine
    mosquitto: str
    nats: str
    rounds: int
    seconds: float
    fan_in: Rounds | None = None
    memory: Memory | None = None
    drain: Drain | None = None
    sinking: Sinking | None = None
    served: dict[str, dict[str, list[Served]]] | None = None
    retained: dict[str, Retained] | None = None
    idle: dict[str, Idle] | None = None
    slow: list[Slow] | None = None
    wire: list[Wire] | None = None
    written: list[Written] | None = None


def render(run: Run) -> str:
    parts = [
        _head(run),
        targets.table(run),
        _fan_in(run.fan_in) if run.fan_in else "",
        sections.served(run.served) if run.served else "",
        sections.retained(run.retained) if run.retained else "",
        sections.idle(run.idle) if run.idle else "",
        _memory(run.memory) if run.memory else "",
        sections.slow(run.slow) if run.slow else "",
        sections.written(run.written) if run.written else "",
        sections.wire(run.wire) if run.wire else "",
        _upward(run.drain, run.sinking) if run.drain or run.sinking else "",
        _reading(),
    ]
    return "\n".join(part for part in parts if part)


def _head(run: Run) -> str:
    return f"""# Benchmarks

Written by `{run.command}` on {run.date} at commit `{run.commit}`; do not edit. Run it again with `make bench`.

Measured on {run.machine.sentence()}. The broker is pinned to one core, the load (a process of its own) to another.
Mosquitto is {run.mosquitto}, Debian's package, with `set_tcp_nodelay`; NATS is {run.nats}, from PyPI. CPU is user and
system time of the broker with all its threads, from the kernel, for each message that was answered.
"""


def _fan_in(found: Rounds) -> str:
    counts = {len(rounds) for contenders in found.values() for rounds in contenders.values()}
    lines = [
        f"## Fan-in: {PAYLOAD_BYTES} B payloads",
        "",
        f"Median of {max(counts)} rounds, contenders taking turns (lowest to highest in brackets).",
        "Headwater's acknowledgement follows its fdatasync, as that of NATS does with `sync_interval: always`; Mosquitto",
        "syncs nothing, with or without persistence, NATS by default every two minutes.",
        "Bytes to the disk are the block device's own count, whoever else wrote meanwhile; an edge's first segments are",
        "written twice, since they are zero-filled before they are used.",
        "",
        "| scenario | broker | messages/s | CPU µs/message | ack p50 ms | ack p99 ms | bytes to the disk per payload byte |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for scenario in SCENARIOS:
        for name in (each.name for each in CONTENDERS):
            rounds = found.get(scenario.name, {}).get(name)
            if not rounds:
                continue
            rate, cpu = median(rounds, "rate"), median(rounds, "cpu_us")
            lines.append(
                f"| {scenario.name} | {name} | {rate.value:,.0f} ({rate.low:,.0f} to {rate.high:,.0f}) "
                f"| {cpu.value:.2f} ({cpu.low:.2f} to {cpu.high:.2f}) "
                f"| {median(rounds, 'p50_ms').value:.2f} | {median(rounds, 'p99_ms').value:.2f} "
                f"| {median(rounds, 'written_per_payload_byte').value:.2f} |"
            )
    lines += [
        "",
        "Headwater as a share of Mosquitto (its defaults), taken round by round:",
        "",
        "| scenario | CPU per message | rate |",
        "|---|--:|--:|",
    ]
    for scenario in SCENARIOS:
        cpu_share, rate_share = (ratio(found, scenario.name, field) for field in ("cpu_us", "rate"))
        if cpu_share is None or rate_share is None:
            continue
        lines.append(
            f"| {scenario.name} | {cpu_share.value:.2f} ({cpu_share.low:.2f} to {cpu_share.high:.2f}) "
            f"| {rate_share.value:.2f} ({rate_share.low:.2f} to {rate_share.high:.2f}) |"
        )
    lines += [
        "",
        "A QoS 0 message counts when the PINGRESP after it came: the broker has taken it.",
        "",
    ]
    return "\n".join(lines)


def _memory(found: Memory) -> str:
    idle, idle_pss, loaded, loaded_pss = (size / MIB for size in found)
    return f"""## Memory of an edge

| | resident MiB | proportional (PSS) MiB | limit |
|---|--:|--:|--:|
| idle, just started | {idle:.1f} | {idle_pss:.1f} | {IDLE_MIB_MAX} resident |
| after {CONNECTIONS} connections × 20 in flight | {loaded:.1f} | {loaded_pss:.1f} | |
"""


def _upward(drain: Drain | None, sinking: Sinking | None) -> str:
    lines = ["## Upward: from a backlog to the lake", ""]
    if drain:
        lines += [
            "An edge that was offline meets a cloud on a directory store, one core each:",
            (
                f"{drain.records:,} records of {PAYLOAD_BYTES} B JSON in {drain.seconds:.1f} s. The readings repeat after "
                f"{CONNECTIONS * DISTINCT:,}, so they compress better than real ones."
            ),
            "",
            "| | records/s | edge CPU µs/record | cloud CPU µs/record | edge resident at most, MiB |",
            "|---|--:|--:|--:|--:|",
            (
                f"| uplink drain | {drain.rate:,.0f} | {drain.edge_cpu_us:.2f} | {drain.cloud_cpu_us:.2f} "
                f"| {drain.rss_bytes / MIB:.1f} |"
            ),
            "",
        ]
    if sinking:
        lines += [
            f"The sink over the same topic, one process on one core, its start included: {sinking.rows:,} rows.",
            "",
            "| | rows per CPU second | rows/s |",
            "|---|--:|--:|",
            f"| sink | {sinking.rows_per_cpu_second:,.0f} | {sinking.rows / sinking.seconds:,.0f} |",
            "",
        ]
    return "\n".join(lines)


def _reading() -> str:
    return """## Reading these figures

- Loopback, one machine, no TLS; the load shares memory bandwidth and cache with the broker.
- A disk that syncs slower makes acknowledgements later and groups larger: less CPU per message, not more.
- The ratios are taken within one round, and are what to compare; the machine's own speed moves every column alike.
"""
