"""An edge on a card that fails, under load, and what an outsider holds it to.

while it refuses   nothing is acknowledged; the process stands; /readyz and `headwater edge status` say why
afterwards         it goes on, by itself where Linux lets it
at the end         killed and started again on a healthy card, everything acknowledged is there once, by the judge of
                   tests/powercut/oracle.py
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import msgspec

from headwater.demo.daemon import Daemon, total
from tests.powercut import headwater_edge, recording
from tests.powercut.headwater_edge import Scenario
from tests.powercut.oracle import Judge
from tests.powercut.publishers import Ledger, Pace
from tests.powercut.story import Story
from tests.powercut.view import View

from .card import Card

PATIENCE_SECONDS = 60.0
# Some hundreds of messages a second: a log of 20 MiB does not fill while a test looks at something else.
PACE = Pace(share=1.0, seconds=0.06)
POLL_SECONDS = 0.02
_EVER = 2**63


class FailingEdge:
    def __init__(self, card: Card, folder: Path, scenario: Scenario, seed: int) -> None:
        self.card = card
        self.scenario = scenario
        self.ledger = Ledger(time.monotonic_ns, time.monotonic_ns)
        self._rng = random.Random(seed)
        subject = headwater_edge.edge(scenario, folder, card.mount)
        config = folder / "edge.toml"
        limits = "[edge.mqtt_limits]\n"
        often = f'{limits}checkpoint_interval = "1s"\n'
        text = config.read_text(encoding="utf-8").replace(limits, often)
        config.write_text(text, encoding="utf-8")
        self.daemon: Daemon = subject.daemon
        self.port = subject.port

    @contextlib.asynccontextmanager
    async def loaded(self) -> AsyncIterator[None]:
        """Started, and published to."""
        self.daemon.start()
        await self.ready()
        crowd = recording.plain(self.scenario.topics, PACE)(self.ledger, Story(), self._rng, "c")
        async with recording.publishing(crowd, self.port):
            await self.more(100)
            yield

    async def more(self, messages: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.ledger.more(messages)

    async def ready(self) -> None:
        await asyncio.to_thread(self.daemon.wait_ready)

    async def until(self, happened: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not happened():
            assert time.monotonic() < deadline, f"{what}\n{self.daemon.log_tail()}"
            assert self.daemon.running, f"it ended by itself\n{self.daemon.log_tail()}"
            await asyncio.sleep(POLL_SECONDS)

    async def reasons(self) -> str:
        """Until /readyz says no, and /status the same. Nobody may wait for the disk to hear it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            status, said = await asyncio.to_thread(self.daemon.get, "/readyz")
            if status == 503:
                break
            assert time.monotonic() < deadline, f"it says it is ready\n{self.daemon.log_tail()}"
            await asyncio.sleep(POLL_SECONDS)
        _, text = await asyncio.to_thread(self.daemon.get, "/status")
        shown = msgspec.json.decode(text)
        assert shown["not_ready"], "the status says what /readyz says"
        return said

    async def nothing_is_acknowledged(self) -> None:
        """While the disk goes on refusing; what was read by now may have been on its way."""
        await asyncio.sleep(0.2)
        before = self.ledger.acknowledged
        await asyncio.sleep(2.5)  # it is tried every two seconds at most
        assert self.ledger.acknowledged == before, "acknowledged though the disk refuses"

    def metric(self, name: str, **labels: str) -> float:
        samples: Mapping[str, float] = self.daemon.metrics()
        assert samples, "the metrics answer"
        return total(samples, name, **labels)

    @property
    def stalled(self) -> str:
        with contextlib.suppress(OSError):
            status = msgspec.json.decode(self.daemon.get("/status")[1])
            return str(status["journal"]["stalled"])
        return ""

    def judge(self) -> View:
        """The edge is down. What the journal on the card holds, in which nothing acknowledged may be missing."""
        view, broken = self.judged()
        assert not broken, "\n".join(broken[:10])
        return view

    def judged(self) -> tuple[View, list[str]]:
        journal = headwater_edge.open_journal(self.card.mount, self.scenario.settings)
        try:
            view = headwater_edge.view(journal)
        finally:
            journal.close()
        return view, Judge(self.ledger.messages, self.scenario.policy).violations(view, _EVER)
