"""One soak from start to verdict: the tiers, the load, the trouble, the samples, the count.

The edge's log is small and one of its streams smaller, so that retention, recycling and dropping happen all the time.
Not smaller than what the longest outage makes it hold: some three hundred commits a second of 4 KiB each for 100 s,
while nothing may be dropped; otherwise publishes are refused, as they should be, and the count says so.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from headwater.demo.daemon import Daemon, free_port
from headwater.demo.river import Answerless, River
from headwater.edge.workers import THREADS_MAX, WORKERS
from tests.authority import Authority

from . import accounts, report
from .load import Counts
from .report import Outcome, Rest
from .sampling import EDGE_METRICS, Sample, sample, write_csv
from .trouble import Trouble
from .verdict import Finding, Limit, judge

MIB = 1 << 20
CONFIG = """\
[edge]
log_level = "info"

[edge.journal]
bytes_max = "256MiB"

[[edge.listeners]]
name = "tls"
address = "127.0.0.1:{tls}"
tls = {{ certificate = "{certificate}", key = "{key}" }}

[[edge.listeners]]
name = "web"
address = "127.0.0.1:{web}"
kind = "websocket"
publish_rate = 5000

[[edge.streams]]
name = "telemetry"
filters = ["site/#"]
partitions = 4

[[edge.streams]]
name = "binary"
filters = ["binary/#"]

[[edge.streams]]
name = "bulk"
filters = ["bulk/#"]
retention = {{ bytes = "2MiB" }}
when_full = "drop-oldest"

[edge.uplink_options]
backoff_max = "2s"

[cloud]
sink_restart_max = "1s"
"""

# What is judged, and why so: an edge promises less than 80 MiB under load; by 6 MiB the allocator's arenas come and go
# under this load; descriptors follow the clients, of whom some twenty come and go at any moment. Threads are begun in the
# moment in which as many are busy for the first time, which may be hours after the start; so they may grow to what the
# edge says that it has at most, and not by one more.
JUDGED = {
    ("edge", "rss"): Limit(6 * MIB, 0.10, 80 * MIB),
    ("edge", "anonymous"): Limit(6 * MIB, 0.10),
    ("edge", "descriptors"): Limit(10),
    ("edge", "threads"): Limit(WORKERS, ceiling=THREADS_MAX),
    ("sink", "anonymous"): Limit(64 * MIB, 0.25),
    ("sink", "descriptors"): Limit(10),
}
NEVER = (
    "internal_errors",
    "state_losses",
    "checkpoint_failures",
    "write_failures",
    "segments_abandoned",
)
SHOWN = ("clients", "sessions", "behind", "journal", "acknowledged", "internal_errors")
DRAIN_S = 300.0
# beyond what it had at rest with an empty log: files of the segments that are read (edge.journal.index_cache is 32) and
# a few of threads and the link; hundreds of connections that were not closed would be more
REST_DESCRIPTORS = 40


class Options(NamedTuple):
    seconds: float
    seed: int
    rate: float
    sample_s: float
    directory: Path

    @property
    def warm_up_s(self) -> float:
        """Until the log has reached its size and caches theirs: a third of a short run, ten minutes of a long one."""
        return min(600.0, self.seconds / 3)


class Soak:
    def __init__(self, options: Options) -> None:
        self._options = options
        directory = options.directory
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self._authority = Authority(directory)
        self._renew()
        self._tls, self._web = free_port(), free_port()
        config = CONFIG.format(
            tls=self._tls,
            web=self._web,
            certificate=directory / "edge.pem",
            key=directory / "edge.key.pem",
        )
        self._river = River(directory, sink_interval="5s", sink_alone=True, config=config)
        self._account = directory / "account.json"
        self._load = Daemon("load", self._load_command(), log=directory / "load.log")
        rng = random.Random(options.seed)
        pause = min(240.0, max(15.0, options.seconds / 8))
        self._trouble = Trouble(
            self._river.edge,
            self._river.cloud,
            self._river.config,
            self._renew,
            rng,
            pause_s=pause,
            outage_s=min(40.0, pause / 4),
        )
        self._samples: dict[str, list[Sample]] = {name: [] for name in self._river.daemons}
        self._wrong: list[str] = []

    def _renew(self) -> None:
        self._authority.issue("127.0.0.1", file="edge")

    def _load_command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "tests.soak.load", "--plain", str(self._river.mqtt_port)),
            *("--tls", str(self._tls), "--web", str(self._web), "--ca", self._authority.path),
            *("--account", str(self._account), "--seed", str(self._options.seed)),
            *("--rate", str(self._options.rate)),
        ]

    def run(self) -> tuple[Outcome, str]:
        """The outcome and its report. What fails is in `wrong`; only a daemon that does not start raises."""
        options = self._options
        print(
            f"seed {options.seed}, {options.seconds:.0f} s, logs in {options.directory}", flush=True
        )
        try:
            self._river.start()
            before = self._at_rest()
            self._load.start()
            self._watch()
            counts = self._finish_load()
            after = self._at_rest()
            balance = self._drain(counts)
        finally:
            self._trouble.calm()
            self._load.close()
            self._river.close()
        rest = Rest(before, after) if before and after else None
        findings = self._judge()
        self._check(findings, rest, counts)
        outcome = Outcome(
            hours=options.seconds / 3600,
            seed=options.seed,
            rate=options.rate,
            warm_up_s=options.warm_up_s,
            samples=self._samples,
            findings=findings,
            rest=rest,
            balance=balance,
            counts=counts,
            trouble=self._trouble.log,
            wrong=self._wrong,
        )
        text = report.render(outcome)
        (options.directory / "report.md").write_text(text, encoding="utf-8")
        for name, taken in self._samples.items():
            write_csv(options.directory / f"{name}.csv", taken)
        return outcome, text

    def _watch(self) -> None:
        began = time.monotonic()
        due = 0.0
        while (now := time.monotonic() - began) < self._options.seconds:
            self._trouble.turn(now)
            if now >= due:
                due = now + self._options.sample_s
                self._take(now)
            if not self._load.running:
                self._wrong.append(f"the load ended by itself: {self._load.log_tail()[-600:]}")
                return
            for name in ("edge", "sink"):
                if not self._river.daemons[name].running:
                    self._wrong.append(f"{name} ended by itself after {now:.0f} s")
                    return
            time.sleep(min(0.5, self._options.sample_s / 2))

    def _take(self, now: float) -> None:
        for name, daemon in self._river.daemons.items():
            taken = sample(daemon, now, EDGE_METRICS if name == "edge" else {})
            if taken is not None:
                self._samples[name].append(taken)
        edge = self._samples["edge"][-1]
        print(
            f"{now:7.0f} s  {edge.rss / MIB:6.1f} MiB  {edge.anonymous / MIB:6.1f} allocated  "
            f"{edge.descriptors:4} files  {edge.threads:3} threads  "
            + " ".join(f"{name} {edge.metrics.get(name, 0):.0f}" for name in SHOWN),
            flush=True,
        )

    def _finish_load(self) -> Counts:
        """The counted publishers get their last acknowledgements; the cloud comes back, if it was away."""
        self._trouble.calm()
        if not self._river.cloud.running:
            self._river.cloud.start()
        self._river.cloud.wait_ready(60)
        if self._load.running:
            os.kill(self._load.pid, 15)
        deadline = time.monotonic() + 120
        while self._load.running and time.monotonic() < deadline:
            time.sleep(0.2)
        counts = msgspec.json.decode(self._account.read_bytes(), type=Counts)
        if not counts.finished:
            self._wrong.append("the load did not get all its acknowledgements at the end")
        return counts

    def _at_rest(self) -> Sample | None:
        """The edge when nobody is connected; connections that were cut are given time to be noticed."""
        deadline = time.monotonic() + 40
        while True:
            taken = sample(self._river.edge, 0.0, EDGE_METRICS)
            idle = taken is not None and taken.metrics.get("clients") == 0
            if idle or time.monotonic() > deadline:
                return taken
            time.sleep(1)

    def _drain(self, counts: Counts) -> accounts.Balance | None:
        """Wait until the count comes out, or for DRAIN_S: then what is wrong is wrong."""
        deadline = time.monotonic() + DRAIN_S
        found: accounts.Balance | None = None
        while time.monotonic() < deadline:
            try:
                found = accounts.balance(self._river, counts.accounts)
            except Answerless as error:
                print(f"no answer from the lake: {error}", flush=True)
            if found is not None and not found.wrong:
                return found
            time.sleep(5)
        self._wrong += found.wrong if found is not None else ["the lake did not answer"]
        return found

    def _judge(self) -> dict[tuple[str, str], Finding]:
        return {
            (daemon, what): judge(
                [(each.at, float(getattr(each, what))) for each in self._samples[daemon]],
                limit,
                warm_up_s=self._options.warm_up_s,
            )
            for (daemon, what), limit in JUDGED.items()
        }

    def _check(
        self, findings: dict[tuple[str, str], Finding], rest: Rest | None, counts: Counts
    ) -> None:
        for (daemon, what), found in findings.items():
            if not found.holds:
                self._wrong.append(f"{daemon} {what}: {found}")
        last = self._samples["edge"][-1].metrics if self._samples["edge"] else {}
        self._wrong += [f"{name} is {last[name]:.0f}" for name in NEVER if last.get(name)]
        if len({each.pid for each in self._samples["edge"]}) > 1:
            self._wrong.append("the edge was another process at the end")
        if rest is None:
            self._wrong.append("the edge did not answer at rest")
        elif rest.after.descriptors > rest.before.descriptors + REST_DESCRIPTORS:
            self._wrong.append(
                f"at rest {rest.before.descriptors} descriptors before, {rest.after.descriptors} after"
            )
        self._wrong += counts.complaints[:20]
        self._wrong += [f"{count} times {what}" for what, count in counts.mishaps.items()]
