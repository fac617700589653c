"""A log that is full under live load: each durability class under each policy, and who gives way to whom.

The uplink's cloud is out of reach, so everything is unsent: only where the policy says so may anything of it go.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headwater.core.gap import GapReason
from headwater.core.record import TopicPartition
from headwater.demo.daemon import Daemon, total
from tests.powercut import headwater_edge
from tests.powercut.headwater_edge import Scenario
from tests.powercut.publishers import Ledger, Pace, Publisher, name_of
from tests.powercut.recording import publishing
from tests.powercut.view import View

pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]

PATIENCE_SECONDS = 60.0
DURABILITIES = ("sync", "interval", "memory")
_STREAM = """
[[edge.streams]]
name = "{name}"
filters = ["{name}/#"]
when_full = "{policy}"
durability = "{durability}"
interval = "200ms"
priority = {priority}
"""
UNREACHABLE = "kafka://127.0.0.1:9"


def stream(name: str, policy: str, *, durability: str = "sync", priority: int = 4) -> str:
    return _STREAM.format(name=name, policy=policy, durability=durability, priority=priority)


class FullEdge:
    def __init__(self, folder: Path, streams: dict[str, str]) -> None:
        self.scenario = Scenario(
            name="full",
            says="a small log",
            streams="".join(streams.values()),
            topics=[f"{name}/{n}" for name in streams for n in range(2)],
            journal_bytes=1 << 20,
        )
        self.folder = folder
        self.ledger = Ledger(time.monotonic_ns, time.monotonic_ns)
        subject = headwater_edge.edge(self.scenario, folder, folder)
        config = folder / "edge.toml"
        text = config.read_text(encoding="utf-8").replace(
            'uplink = "none"', f'uplink = "{UNREACHABLE}"'
        )
        config.write_text(text, encoding="utf-8")
        self.daemon: Daemon = subject.daemon
        self.port = subject.port

    @contextlib.asynccontextmanager
    async def loaded(self, topics: list[str]) -> AsyncIterator[None]:
        rng = random.Random(1)
        everybody = [
            Publisher(
                f"c{n}-{topic[:3]}",
                self.ledger,
                topics=[topic],
                window=4,
                pace=Pace(0.3, 0.02),
                rng=rng,
            )
            for n, topic in enumerate(topics)
        ]
        async with publishing(everybody, self.port):
            yield

    async def until(self, metric: str, least: float) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while total(await asyncio.to_thread(self.daemon.metrics), metric) < least:
                assert self.daemon.running, self.daemon.log_tail()
                await asyncio.sleep(0.05)

    def view(self) -> View:
        journal = headwater_edge.open_journal(self.folder, self.scenario.settings)
        try:
            return headwater_edge.view(journal)
        finally:
            journal.close()

    def acknowledged(self, name: str) -> set[str]:
        return {
            m.name
            for m in self.ledger.messages.values()
            if m.acked > 0 and m.topic.startswith(f"{name}/")
        }


def told_lost(view: View) -> Counter[str]:
    """By stream, how many offsets the gap records name, each once."""
    lost: dict[TopicPartition, set[int]] = {}
    for gap in view.gaps:
        where = TopicPartition(gap.stream, gap.partition)
        lost.setdefault(where, set()).update(range(gap.first, gap.last + 1))
    return Counter({tp.topic: 0 for tp in lost}) + Counter(
        {tp.topic: len(offsets) for tp, offsets in lost.items()}
    )


def kept(view: View, name: str) -> list[str]:
    return [
        name_of(value)
        for tp, records in view.records.items()
        if tp.topic == name
        for _, value in records
    ]


@pytest.mark.parametrize("policy", ["refuse", "drop-oldest", "thin-oldest"])
def test_a_full_log_keeps_each_stream_to_its_policy_whatever_its_durability(
    tmp_path: Path, policy: str
) -> None:
    edge = FullEdge(tmp_path, {d: stream(d, policy, durability=d) for d in DURABILITIES})

    async def run() -> None:
        edge.daemon.start()
        await asyncio.to_thread(edge.daemon.wait_ready)
        async with edge.loaded([*edge.scenario.topics]):
            if policy == "refuse":
                await edge.until("headwater_journal_full", 1)
                status, said = await asyncio.to_thread(edge.daemon.get, "/readyz")
                assert (status, "nothing may be dropped" in said) == (503, True)
                await edge.until("headwater_mqtt_refused_total", 20)
            else:
                await edge.until("headwater_journal_records_lost_total", 300)
        await asyncio.to_thread(edge.daemon.stop)

    try:
        asyncio.run(run())
    finally:
        edge.daemon.close()
    view = edge.view()
    lost = told_lost(view)
    for name in DURABILITIES:
        there = kept(view, name)
        assert len(there) == len(set(there)), "each once"
        gone = edge.acknowledged(name) - set(there)
        assert len(gone) <= lost[name], f"{name}: {len(gone)} gone, {lost[name]} declared"
        if policy == "refuse":
            assert not gone, "unsent data are never purged"
    if policy == "thin-oldest":
        assert any(tp.topic.endswith(".thinned") for tp in view.records), "summaries stand for them"
    assert policy == "refuse" or {gap.reason for gap in view.gaps} <= {
        GapReason.RETENTION,
        GapReason.THINNED,
        GapReason.VOLATILE,
    }


def test_the_lowest_priority_gives_way_and_who_may_not_drop_loses_nothing(tmp_path: Path) -> None:
    streams = {
        "first": stream("first", "drop-oldest", priority=9),
        "last": stream("last", "drop-oldest", priority=1),
    }
    edge = FullEdge(tmp_path, streams)

    async def run() -> None:
        edge.daemon.start()
        await asyncio.to_thread(edge.daemon.wait_ready)
        async with edge.loaded(["first/0"]):
            await edge.until("headwater_journal_used_bytes", 300_000)
        async with edge.loaded(["last/0", "last/1"]):  # segments of its own
            await edge.until("headwater_journal_records_lost_total", 300)
        await asyncio.to_thread(edge.daemon.stop)

    try:
        asyncio.run(run())
    finally:
        edge.daemon.close()
    view = edge.view()
    assert edge.acknowledged("first") <= set(kept(view, "first")), "it had priority"
    assert told_lost(view)["last"] >= 300
    assert not told_lost(view)["first"]
