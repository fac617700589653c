"""Samples: what the kernel says of a daemon's process, and what the daemon says of itself.

Memory is counted three ways: `rss` (all that is resident, the limit's word), `anonymous` (what the process has allocated,
where a leak shows, without files that are mapped), `pss` (shared pages divided). `descriptors` are open files.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from headwater.demo.daemon import Daemon, total

KIB = 1024

# metric of the edge → the name it has in samples and reports
EDGE_METRICS = {
    "headwater_mqtt_clients": "clients",
    "headwater_mqtt_sessions": "sessions",
    "headwater_mqtt_subscriptions": "subscriptions",
    "headwater_mqtt_retained_messages": "retained",
    "headwater_mqtt_behind_messages": "behind",
    "headwater_mqtt_replay_memory_bytes": "replay_memory",
    "headwater_journal_used_bytes": "journal",
    "headwater_journal_pending_bytes": "pending",
    "headwater_mqtt_acknowledged_total": "acknowledged",
    "headwater_mqtt_published_total": "published",
    "headwater_mqtt_delivered_total": "delivered",
    "headwater_mqtt_connections_total": "connections",
    "headwater_mqtt_internal_errors_total": "internal_errors",
    "headwater_mqtt_undelivered_total": "undelivered",
    "headwater_state_losses_total": "state_losses",
    "headwater_state_checkpoint_failures_total": "checkpoint_failures",
    "headwater_journal_write_failures_total": "write_failures",
    "headwater_journal_segments_abandoned_total": "segments_abandoned",
}


class Sample(msgspec.Struct):
    """Of one daemon at `at` seconds after the start; a daemon that is down has no sample."""

    at: float
    pid: int
    rss: int
    anonymous: int
    pss: int
    descriptors: int
    threads: int
    cpu_s: float
    metrics: dict[str, float] = {}


def sample(daemon: Daemon, at: float, names: Mapping[str, str]) -> Sample | None:
    """None where the daemon is not there to be asked."""
    if not daemon.running:
        return None
    pid = daemon.pid
    metrics = daemon.metrics()
    try:
        status = _fields(Path(f"/proc/{pid}/status"))
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return Sample(
            at,
            pid,
            KIB * status["VmRSS"],
            KIB * status["RssAnon"],
            KIB * _fields(Path(f"/proc/{pid}/smaps_rollup"))["Pss"],
            len(os.listdir(f"/proc/{pid}/fd")),
            status["Threads"],
            (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK"),
            {ours: total(metrics, theirs) for theirs, ours in names.items()} if metrics else {},
        )
    except (OSError, KeyError):
        return None


def _fields(path: Path) -> dict[str, int]:
    """`Name:   123 kB` lines."""
    found = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, rest = line.partition(":")
        value = rest.split()
        if value and value[0].isdigit():
            found[name] = int(value[0])
    return found


def write_csv(path: Path, samples: Sequence[Sample]) -> None:
    """For whoever wants to plot it."""
    kernel = ("at", "pid", "rss", "anonymous", "pss", "descriptors", "threads", "cpu_s")
    own = sorted({name for each in samples for name in each.metrics})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*kernel, *own])
        for each in samples:
            values = [getattr(each, name) for name in kernel]
            writer.writerow([*values, *(each.metrics.get(name, "") for name in own)])
