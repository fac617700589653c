"""docs/benchmarks.md, from what was measured in this run and nothing else.

Rule: every figure in the table came from the run that wrote it; the reference points beside them are those that the project
set out with, kept whether they were met or not.
"""

from __future__ import annotations

from typing import NamedTuple

from .contenders import HEADWATER, MOSQUITTO, MOSQUITTO_PERSISTENT
from .fanin import CONNECTIONS, PAYLOAD_BYTES, SCENARIOS, Rounds, median, ratio
from .machine import Machine
from .tiers import Drain, Memory, Sinking

MIB = 1024 * 1024
# different readings of one publisher: one for each place in its window
DISTINCT = 20
IDLE_MIB_MAX = 40

# The throw-away prototype's CPU per message as a share of Mosquitto's (issue of the first river).
REFERENCE_SHARE = {"QoS 1, 1 in flight": 0.8, "QoS 1, 20 in flight": 0.25}


class Run(NamedTuple):
    """What one run of the tool knows. None: not measured this time."""

    date: str
    commit: str
    command: str
    machine: Machine
    mosquitto: str
    rounds: int
    seconds: float
    fan_in: Rounds | None
    memory: Memory | None
    drain: Drain | None
    sinking: Sinking | None


def render(run: Run) -> str:
    parts = [
        _head(run),
        _fan_in(run.fan_in) if run.fan_in else "",
        _memory(run.memory) if run.memory else "",
        _upward(run.drain, run.sinking) if run.drain or run.sinking else "",
        _reading(run),
    ]
    return "\n".join(part for part in parts if part)


def _head(run: Run) -> str:
    return f"""# Benchmarks

Written by `{run.command}` on {run.date} at commit `{run.commit}`; do not edit. Run it again with `make bench`.

Measured on {run.machine.sentence()}. The broker is pinned to one core, the load (a process of its own) to another.
Mosquitto is {run.mosquitto}, Debian's package, with `set_tcp_nodelay`. CPU is user and system time of the broker with all
its threads, from the kernel, for each message that was answered.
"""


def _fan_in(found: Rounds) -> str:
    counts = {len(rounds) for contenders in found.values() for rounds in contenders.values()}
    lines = [
        f"## Fan-in: {CONNECTIONS} connections, {PAYLOAD_BYTES} B payloads",
        "",
        f"Median of {max(counts)} rounds, contenders taking turns (lowest to highest in brackets).",
        "Headwater's acknowledgement follows its fdatasync; Mosquitto syncs nothing, with or without persistence.",
        "Bytes to the disk are the block device's own count, whoever else wrote meanwhile; an edge's first segments are",
        "written twice, since they are zero-filled before they are used.",
        "",
        "| scenario | broker | messages/s | CPU µs/message | ack p50 ms | ack p99 ms | bytes to the disk per payload byte |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for scenario in SCENARIOS:
        for name in (HEADWATER.name, MOSQUITTO.name, MOSQUITTO_PERSISTENT.name):
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
        "| scenario | CPU per message | prototype's | rate |",
        "|---|--:|--:|--:|",
    ]
    for scenario in SCENARIOS:
        cpu_share, rate_share = (ratio(found, scenario.name, field) for field in ("cpu_us", "rate"))
        if cpu_share is None or rate_share is None:
            continue
        reference = REFERENCE_SHARE.get(scenario.name)
        lines.append(
            f"| {scenario.name} | {cpu_share.value:.2f} ({cpu_share.low:.2f} to {cpu_share.high:.2f}) "
            f"| {reference if reference is not None else 'none'} "
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
            "| | records/s | edge CPU µs/record | cloud CPU µs/record |",
            "|---|--:|--:|--:|",
            f"| uplink drain | {drain.rate:,.0f} | {drain.edge_cpu_us:.2f} | {drain.cloud_cpu_us:.2f} |",
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


def _reading(run: Run) -> str:
    lines = ["## Good and bad", ""]
    for scenario, reference in REFERENCE_SHARE.items():
        share = ratio(run.fan_in, scenario, "cpu_us") if run.fan_in else None
        if share is None:
            continue
        kept = "reached" if share.value <= reference else "NOT reached"
        lines.append(
            f"- {scenario}: {share.value:.2f}× Mosquitto's CPU; the prototype's {reference}× is {kept}."
        )
    if run.memory:
        idle = run.memory.idle_rss_bytes / MIB
        kept = "kept" if idle < IDLE_MIB_MAX else "BROKEN"
        lines.append(f"- Idle edge under {IDLE_MIB_MAX} MiB resident: {kept} at {idle:.1f} MiB.")
    lines += [
        "- Loopback, one machine, no TLS; the load shares memory bandwidth and cache with the broker.",
        "- A disk that syncs slower makes acknowledgements later and groups larger: less CPU per message, not more.",
        "",
    ]
    return "\n".join(lines)
