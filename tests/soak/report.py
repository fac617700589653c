"""The report: one page of Markdown, the same under var/ and for docs/soak.md; figures only, no judgement of its own."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .accounts import Balance
from .load import Counts
from .sampling import Sample
from .verdict import Finding, sparkline

MIB = 1 << 20
WORDS = {"rss": "resident", "anonymous": "allocated", "pss": "proportional"}
KERNEL = ("rss", "anonymous", "descriptors", "threads")
TOLD = ("journal", "behind", "replay_memory", "sessions", "clients", "retained")
BYTES = {"rss", "anonymous", "pss", "journal", "replay_memory", "pending"}

LOAD = """\
Load: publishers of every QoS in both versions (JSON, binary, 60 kB), TLS and WebSocket, kept sessions that come and
go, fan-out, shared and slow subscribers, retained topics set and cleared, wills, short connections, topics that never
come again, garbage, half-open connections, slow-loris. Meanwhile the cloud is killed or frozen, a stream that drops its
oldest is at its limit, and the edge is told to read its settings and certificates again."""
STATISTIC = """\
*Growth* is the Theil–Sen slope (the median of the slopes of all
pairs of points) times the time observed; *seen from* is the smallest steady leak that this run would have called one."""


class Rest(NamedTuple):
    """The edge with no client at all: before the load, and after it."""

    before: Sample
    after: Sample


class Outcome(NamedTuple):
    hours: float
    seed: int
    rate: float
    warm_up_s: float
    samples: Mapping[str, Sequence[Sample]]
    findings: Mapping[tuple[str, str], Finding]
    rest: Rest | None
    balance: Balance | None
    counts: Counts
    trouble: Sequence[tuple[float, str]]
    wrong: Sequence[str]


def render(outcome: Outcome) -> str:
    return "\n".join(
        [
            *_head(outcome),
            *_flatness(outcome),
            *_curves(outcome),
            *_happened(outcome),
            *_accounts(outcome),
            "",
        ]
    )


def _head(outcome: Outcome) -> list[str]:
    verdict = "**passed**" if not outcome.wrong else "**failed**"
    return [
        "# Soak",
        "",
        f"Written by `python -m tests.soak` on {dt.datetime.now(dt.UTC).date()} at commit `{_commit()}`; do not edit.",
        "Run it again with `make soak` (four hours) or `make soak SOAK='--minutes 20'`.",
        "",
        f"{_length(outcome.hours)} of mixed load on {os.cpu_count()} cores, Linux {platform.release()}, Python",
        f"{platform.python_version()}; seed {outcome.seed}, about {outcome.rate:.0f} counted publishes a second.",
        f"Verdict: {verdict}.",
        "",
        *(f"- {line}" for line in outcome.wrong),
        *([""] if outcome.wrong else []),
        LOAD,
        "",
    ]


def _flatness(outcome: Outcome) -> list[str]:
    lines = [
        "## Is it flat?",
        "",
        f"After a warm-up of {outcome.warm_up_s / 60:.0f} min. {STATISTIC}",
        "",
        "| daemon | what | median | growth | allowed | highest | ceiling | seen from, an hour | |",
        "|---|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for (daemon, what), found in outcome.findings.items():
        show = _mib if what in BYTES else _plain
        ceiling = "" if found.ceiling == float("inf") else show(found.ceiling)
        cells = (
            *(daemon, WORDS.get(what, what), show(found.median), show(found.growth, sign=True)),
            *(show(found.allowed), show(found.highest), ceiling),
            *(show(found.smallest_leak_an_hour), "" if found.holds else "**no**"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    rest = outcome.rest
    if rest is not None:
        lines += [
            "",
            "The edge with no client connected, before the load and after it:",
            "",
            "| | before | after |",
            "|---|--:|--:|",
            *(_row(what, *(getattr(each, what) for each in rest)) for what in KERNEL),
            *(
                _row(what, *(each.metrics.get(what, 0) for each in rest))
                for what in ("clients", "sessions")
            ),
        ]
    return [*lines, ""]


def _curves(outcome: Outcome) -> list[str]:
    edge = outcome.samples["edge"]
    lines = ["## The edge over time", "", "```"]
    lines += [_curve(what, [float(getattr(each, what)) for each in edge]) for what in KERNEL]
    told = [each for each in edge if each.metrics]
    lines += [_curve(what, [each.metrics[what] for each in told]) for what in TOLD]
    lines.append(
        _curve("acknowledged/s", _rates([(e.at, e.metrics["acknowledged"]) for e in told]))
    )
    lines.append(_curve("CPU %", _rates([(each.at, each.cpu_s * 100) for each in edge])))
    return [*lines, "```", ""]


def _rates(points: Sequence[tuple[float, float]]) -> list[float]:
    return [(b - a) / (until - since) for (since, a), (until, b) in itertools.pairwise(points)]


def _row(what: str, before: float, after: float) -> str:
    show = _mib if what in BYTES else _plain
    return f"| {WORDS.get(what, what)} | {show(before)} | {show(after)} |"


def _curve(what: str, values: Sequence[float]) -> str:
    show = _mib if what in BYTES else _plain
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    return f"{WORDS.get(what, what):<15} {sparkline(values):<60} {show(low)} to {show(high)}"


def _happened(outcome: Outcome) -> list[str]:
    last = outcome.samples["edge"][-1].metrics if outcome.samples["edge"] else {}
    names = (
        *("connections", "published", "acknowledged", "delivered", "undelivered"),
        *("internal_errors", "state_losses", "checkpoint_failures", "write_failures"),
    )
    lines = ["## What happened", "", "| | |", "|---|--:|"]
    lines += [f"| {name.replace('_', ' ')} | {last.get(name, 0):,.0f} |" for name in names]
    lines.append(f"| misdeeds of unruly clients | {outcome.counts.misdeeds:,} |")
    lines.append(
        f"| acknowledged to paho over WebSocket and TLS | {outcome.counts.foreign_acknowledged:,} |"
    )
    kinds: dict[str, int] = {}
    for _, what in outcome.trouble:
        kinds[what.split(" for ")[0]] = kinds.get(what.split(" for ")[0], 0) + 1
    lines += [f"| {what} | {count} |" for what, count in sorted(kinds.items())]
    return [*lines, ""]


def _accounts(outcome: Outcome) -> list[str]:
    counts, balance = outcome.counts, outcome.balance
    lines = ["## Was anything lost?", ""]
    if balance is None:
        return [*lines, "The lake could not be asked."]
    never = (
        "see above for what was wrong"
        if counts.complaints
        else "none was skipped or came twice at QoS 2"
    )
    lines += [
        f"Publishers outside were acknowledged {balance.acknowledged:,} messages; {balance.doubtful:,} more were in flight",
        f"when a clean session was cut. The lake has {balance.rows:,} rows of theirs; the edge declared",
        f"{balance.declared_lost:,} lost of the stream that drops its oldest.",
        f"Kept sessions that came and went heard {counts.heard:,} messages, {counts.heard_twice:,} of them again with DUP",
        f"after a cut (QoS 1); {never}.",
        "",
        "`headwater verify` said:",
        "",
        "```",
        balance.verify_said,
        "```",
    ]
    return lines


def _mib(value: float, *, sign: bool = False) -> str:
    return f"{value / MIB:{'+' if sign else ''}.1f} MiB"


def _plain(value: float, *, sign: bool = False) -> str:
    return (
        f"{value:{'+' if sign else ''},.1f}" if value % 1 else f"{value:{'+' if sign else ''},.0f}"
    )


def _length(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 2 else f"{hours * 60:.0f} minutes"


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return done.stdout.strip() or "unknown"
