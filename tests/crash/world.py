"""A world that a story happens to: the tiers, the witness outside them, and a seeded hand that kills.

Rule: a story is over when every acknowledged message can be found in the lake; then the judge speaks, and `headwater
verify` must agree. The lake read at any moment is a prefix of every partition, so the judge may be asked before; only what
is not there *yet* makes us wait. Kill moments are drawn from the seed, which is printed.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from headwater.demo.daemon import Daemon
from headwater.demo.judging import Account, Row, judge
from headwater.demo.river import Answerless, River

from . import ledger

TIERS = ("edge", "cloud", "sink")
BROKEN_SHOWN_MAX = 20
DEVICES = ("f1", "f2", "f3", "f4", "s1", "s2", "x1", "x2")
REPEATING = tuple(name for name in DEVICES if name.startswith("s"))
SINK_INTERVAL = "300ms"
DRAIN_SECONDS_MAX = 150.0
POLL_SECONDS = 0.5
ROWS = 'select edge, log, stream, "partition", "offset", payload from readings'


class World:
    def __init__(
        self,
        directory: Path,
        seed: int,
        *,
        store: str | None = None,
        lake: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        print(f"seed {seed}, logs in {directory}")
        self.rng = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.river = River(
            directory,
            sink_interval=SINK_INTERVAL,
            sink_alone=True,
            store=store,
            lake=lake,
            environment=environment,
        )
        self._ledger = directory / "ledger"
        self.witness = Daemon(
            "witness",
            [
                *(sys.executable, "-m", "tests.crash.witness", "--devices", ",".join(DEVICES)),
                *("--port", str(self.river.mqtt_port), "--ledger", str(self._ledger)),
                *("--seed", str(seed)),
            ],
            log=directory / "witness.log",
        )

    def __enter__(self) -> World:
        self.river.start()
        self.witness.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.witness.close()
        self.river.close()
        if error is not None:
            for daemon in (*self.river.daemons.values(), self.witness):
                print(f"=== {daemon.name}, started {daemon.starts} times\n{daemon.log_tail()}")

    @property
    def account(self) -> Account:
        return ledger.read(self._ledger)

    def live(self, low: float, high: float) -> None:
        """Let things happen for a random while: the moment of the next blow."""
        time.sleep(self.rng.uniform(low, high))

    def kill(self, tier: str) -> None:
        self.river.daemons[tier].kill()
        self.kills[tier] += 1

    def restart(self, tier: str) -> None:
        self.river.daemons[tier].start()

    def storm(self, blows: int, tiers: Sequence[str], *, ready: Sequence[str] = TIERS) -> None:
        """SIGKILL tiers in turn, at random moments; half of the time it gets ready before the next blow.

        `ready` are the tiers that can: a sink without a cloud does not.
        """
        order = [tiers[index % len(tiers)] for index in range(blows)]
        self.rng.shuffle(order)
        for tier in order:
            self.live(0.05, 0.9)
            self.kill(tier)
            if self.rng.random() < 0.2:
                self.live(0.05, 0.3)
            self.restart(tier)
            if tier in ready and self.rng.random() < 0.5:
                self.river.daemons[tier].wait_ready()

    def until(self, happened: Callable[[], bool], timeout_seconds: float = 90.0) -> None:
        """Wait for something that the story needs."""
        deadline = time.monotonic() + timeout_seconds
        while not happened():
            assert time.monotonic() < deadline, f"it did not happen within {timeout_seconds:g} s"
            time.sleep(0.05)

    def more_is_acknowledged(self, count: int = 50) -> None:
        """Wait until the edge has acknowledged so many more messages than now: it is alive and keeps promises."""
        wanted = len(self.account.acknowledged) + count
        self.until(lambda: len(self.account.acknowledged) >= wanted)

    def finish(self) -> Account:
        """Stop publishing, let everything arrive, judge. Returns the account by which it was judged."""
        for daemon in self.river.daemons.values():
            if not daemon.running:
                daemon.start()
            daemon.wait_ready()
        self.witness.stop()
        account = self.account
        rows = self._drain(account)
        broken = judge(account, rows, repeating=REPEATING)
        assert not broken, "\n".join(broken[:BROKEN_SHOWN_MAX])
        complete, said = self.river.verify()
        assert complete, said
        print(
            f"{len(account.acknowledged)} acknowledged, {len(account.uncertain)} uncertain, "
            f"{len(rows)} rows, killed {dict(self.kills)}"
        )
        return account

    def _drain(self, account: Account) -> list[Row]:
        deadline = time.monotonic() + DRAIN_SECONDS_MAX
        while True:
            for daemon in self.river.daemons.values():
                assert daemon.running, f"{daemon.name} ended by itself\n{daemon.log_tail()}"
            rows = self.rows()
            missing = account.acknowledged - {row.message for row in rows}
            if not missing or time.monotonic() > deadline:
                return rows
            time.sleep(POLL_SECONDS)

    def rows(self) -> list[Row]:
        """The lake as the command line shows it; empty before its first commit."""
        try:
            found = self.river.query(ROWS)
        except Answerless as error:
            print(f"no answer from the lake: {error}")
            return []
        return [_row(each) for each in found]


def _row(found: Mapping[str, object]) -> Row:
    reading = json.loads(str(found["payload"]))
    return Row(
        str(found["edge"]),
        str(found["log"]),
        str(found["stream"]),
        int(str(found["partition"])),
        int(str(found["offset"])),
        reading["device"],
        reading["sequence"],
    )
