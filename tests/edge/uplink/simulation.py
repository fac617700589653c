"""A world for one edge partition and its ranges: a journal, a network that cuts, delays and repeats, a disk, a broker
(standins.py). Seed in, same run out.

The network: requests on one connection reach the broker in order. A connection that was cut may still deliver a prefix of
what was sent on it, at any later time up to LATE_COPIES_S (a zombie). Producer state expires only when nothing is under
way, as Kafka's does after a day. What a leader has taken is replicated within a bounded time: Kafka's followers that lag
longer (replica.lag.time.max.ms, 30 s) are not waited for. A flow that must find what it knows nothing of relies on both.

What is asked takes a while: between question and answer, and while a cursor is being written, everything else goes on.

The disk: a save may fail, be written although it failed, or be written and the edge dies. After damage the cursor before
the newest serves, as suspect; where `unnoticed` is among the faults, as if nothing had happened.

The oracle: every record is in the log once (`unnoticed`: once in the lake, which is a table that takes what its coverage
says is new); a label tells the truth; all that is acknowledged and the journal did not give up is below the high
watermark, always; and once the faults end, everything is, and one range is left.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from headwater.cloud.lake.coverage import Coverage
from headwater.core.backoff import Backoff
from headwater.core.kafka.errors import ErrorCode
from headwater.edge.uplink.cursor import Era, PartitionCursor
from headwater.edge.uplink.partition import PartitionFlow
from headwater.edge.uplink.ranges import PartitionRanges, unsent
from headwater.edge.uplink.stages import Need

from .standins import Answer, Broker, Connection, Entry, Journal, Sent, Supply

LATE_COPIES_S = 4.0
REPLICA_LAG_S = 2.0
FAULTS = (
    *("cut", "restart", "expire", "failover", "error", "poison", "gap", "shrink", "damage"),
    *("unnoticed", "trim", "split", "disk"),
)


class Writing(NamedTuple):
    """A save that is under way: one at a time. `era`: which flow's next era it makes durable; none: a range is opened."""

    cursors: list[PartitionCursor]
    beginning: PartitionFlow | None
    era: PartitionCursor | None


class World:
    """One run. `step` does one random thing; `heal` ends the faults and waits for the end."""

    def __init__(self, seed: int, *, ranges_max: int = 4) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.faults = {name: self.rng.random() < 0.6 for name in FAULTS}
        self.faults["unnoticed"] = self.rng.random() < 0.1
        start = self.rng.choice([0, 0, 7, 2**31 - 20])
        self.journal = Journal(start)
        self.broker = Broker()
        self.broker.base = self.rng.choice([0, 100])
        self.broker.start = self.broker.base
        self.refused: set[int] = set()
        self.stored: set[int] = set()
        self.checked = 0  # entries of the log that the oracle has seen
        self.taken_at: list[float] = []  # of each entry
        self.zombie_s = LATE_COPIES_S - (REPLICA_LAG_S if self.faults["damage"] else 0.0)
        self.connection = Connection()
        self.zombies: list[Connection] = []
        self.ranges_max = ranges_max
        self.ranges_seen = 1
        self.asked: dict[PartitionFlow, Callable[[], None]] = {}  # answers that are under way
        self.opening: tuple[int, int] | None = None  # begun, not being written: producer id, floor
        self.writing: Writing | None = None
        origin = start if self.rng.random() < 0.5 else max(0, start - 3)
        era = Era(self._new_producer(), 0, origin)
        self.durable = self.older = [PartitionCursor(1, 0, era, start, self.broker.end_offset)]
        self.fresh = True
        self.copies_allowed = False
        self.restarts = -1
        self._restart()

    def _new_producer(self) -> int:
        self.broker.next_producer += 1
        return self.broker.next_producer

    # -- the edge ----------------------------------------------------------------------------------------------------

    def _restart(self) -> None:
        self.restarts += 1
        self.connection.broken_at = self.now
        self.zombies.append(self.connection)
        self.connection = Connection()
        if self.writing is not None and self.rng.random() < 0.5:
            self._keep(self.writing.cursors)
        self.asked, self.opening, self.writing = {}, None, None
        self.ranges = PartitionRanges(
            self.durable, self._flow, fresh=self.fresh, most=self.ranges_max
        )
        for flow in self.ranges.flows:
            flow.observe(max(flow.acked, self.journal.end))

    def _flow(self, cursor: PartitionCursor, fresh: bool) -> PartitionFlow:
        return PartitionFlow(
            cursor,
            Supply(self.journal, self.rng),
            backoff=Backoff(self.rng, first_s=0.1, cap_s=1.0),
            fresh=fresh,
            late_copies_s=LATE_COPIES_S,
        )

    @property
    def flows(self) -> list[PartitionFlow]:
        return self.ranges.flows

    def _meet(self, flow: PartitionFlow, *, faults: bool) -> None:
        if flow in self.asked or (self.writing and self.writing.beginning is flow):
            return
        need = flow.need(self.now)
        flow.observe(self.journal.end)
        fails = faults and self.rng.random() < 0.15
        if need is Need.SAVE:
            self._save_era(flow)
        elif need is Need.NOTHING:
            return
        elif fails:
            flow.failed(self.now, "no answer")
        elif need is Need.DECLARE:
            refusal = flow.refusal
            assert refusal is not None
            assert refusal.first == refusal.last
            assert refusal.first in self.broker.poison or self.broker.count_max < 1
            self.refused.add(refusal.first)
            flow.declared()
        elif need is Need.PRODUCER:
            flow.producer(self._new_producer(), 0)
        else:
            self.asked[flow] = self._ask(need, flow)
        if not faults or self.rng.random() < 0.5:
            self._hear(flow)

    def _ask(self, need: Need, flow: PartitionFlow) -> Callable[[], None]:
        """The broker sees the question now; what is returned is heard later."""
        era, asked_at = flow.cursor.era, self.now
        if need is Need.DESCRIBE:
            known = self.broker.describe(era.producer_id)
            return lambda: flow.described(known, asked_at)
        found = self.broker.read_back(flow.cursor.floor, era.producer_id, flow.cursor.origin)

        def heard() -> None:
            flow.looked(found, self.now)
            if flow in self.flows:
                self.ranges.adopt(flow)
                self.ranges.observe(self.journal.end)

        return heard

    def _hear(self, flow: PartitionFlow) -> None:
        if (answer := self.asked.pop(flow, None)) is not None:
            answer()

    def _save_era(self, beginning: PartitionFlow) -> None:
        if self.writing is None:
            cursor = beginning.next_cursor()
            cursors = [cursor if flow is beginning else flow.cursor for flow in self.flows]
            self.writing = Writing(cursors, beginning, cursor)

    def _write(self, *, faults: bool) -> None:
        """The save that is under way ends: written; failed, or not after all; or the edge dies in the middle."""
        if (writing := self.writing) is None:
            return
        self.writing = None
        died = faults and self.faults["restart"] and self.rng.random() < 0.15
        failed = faults and self.faults["disk"] and self.rng.random() < 0.2
        if not (died or failed) or self.rng.random() < 0.5:
            self._keep(writing.cursors)
        if died:
            self._restart()
        elif failed and writing.beginning is None:
            self.ranges.give_up_opening()
        elif failed and writing.beginning is not None:
            writing.beginning.failed(self.now, "disk")
        elif writing.beginning is None:
            self.ranges.open(writing.cursors[-1]).observe(self.journal.end)
            self.ranges_seen = max(self.ranges_seen, len(self.flows))
        elif writing.era is not None:
            writing.beginning.saved(writing.era)

    def _keep(self, cursors: list[PartitionCursor]) -> None:
        if cursors != self.durable:
            self.older, self.durable = self.durable, cursors

    def _split(self) -> None:
        """One step further in opening a live range."""
        self.ranges.observe(self.journal.end)
        if self.opening is not None:
            if self.writing is None:
                self.writing = Writing(self.ranges.next_cursors(*self.opening), None, None)
                self.opening = None
        elif self.ranges.splits(self.rng.randint(0, 8)):
            self.ranges.begin_opening(self.journal.end)
            self.opening = self._new_producer(), self.broker.high_watermark

    def _send(self, flow: PartitionFlow) -> None:
        cut = flow.take(self.now)
        if cut is None:
            return
        self.fresh = False
        # the era must have been durable before its first use
        era = cut.era
        assert any(
            (era.producer_id, era.epoch) == (cursor.era.producer_id, cursor.era.epoch)
            for cursor in self.durable
        )
        assert flow.end is None or cut.next_offset <= flow.end
        offsets = tuple(range(cut.first, cut.next_offset))
        label, sequence = int(cut.payload), era.sequence(cut.first)
        self.connection.requests.append(
            Sent(flow, cut, era.producer_id, era.epoch, sequence, offsets, label)
        )

    # -- the network and the broker ----------------------------------------------------------------------------------

    def _serve(self, connection: Connection, *, faults: bool) -> None:
        if not connection.requests:
            return
        sent = connection.requests.popleft()
        error = faults and self.faults["error"] and self.rng.random() < 0.1
        answer = connection.answers.append
        if error and self.rng.random() < 0.5:
            code = self.rng.choice(
                [ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_ENOUGH_REPLICAS]
            )
            answer(Answer(sent.flow, sent.cut, code, -1, 0))
            return
        code, base = self.broker.append(
            sent.producer_id, sent.epoch, sent.sequence, sent.offsets, sent.label
        )
        self._check_log()
        if error and code is ErrorCode.NONE:
            late = self.rng.choice([ErrorCode.REQUEST_TIMED_OUT, ErrorCode.UNKNOWN_SERVER_ERROR])
            answer(Answer(sent.flow, sent.cut, late, -1, 0))
            return
        entries = len(self.broker.log) if code is ErrorCode.NONE else 0
        answer(Answer(sent.flow, sent.cut, code, base, entries))

    def _deliver(self) -> None:
        if not self.connection.answers or self.connection.answers[0].entries > self.broker.hw:
            return
        answer = self.connection.answers.popleft()
        answer.flow.answered(answer.cut, int(answer.code), answer.base_offset, self.now)

    def _cut_connection(self) -> None:
        self.connection.broken_at = self.now
        self.zombies.append(self.connection)
        self.connection = Connection()
        for flow in self.flows:
            flow.lost(self.now)

    def _expire(self) -> None:
        """A day passes: whatever was under way has arrived or is lost."""
        self.broker.hw = len(self.broker.log)
        while self.connection.answers and self.rng.random() < 0.5:
            self._deliver()
        self._cut_connection()
        for flow in list(self.asked):
            self._hear(flow)
        self.zombies.clear()
        self.now += 90_000
        self.broker.expire()

    def _fail_over(self) -> None:
        """The old leader's answers that were not yet due never come; what was sent to it arrives nowhere."""
        self.broker.fail_over()
        self.stored = set(self.addresses())
        self.checked = len(self.broker.log)
        del self.taken_at[self.checked :]
        self.zombies.clear()
        kept = deque(item for item in self.connection.answers if item.entries <= self.broker.hw)
        self.connection.answers = kept
        self.connection.requests.clear()
        if self.rng.random() < 0.8 or any(flow.flying for flow in self.flows):
            self._cut_connection()
            self.zombies.clear()

    def _damage(self) -> None:
        """The newest cursor file is unreadable after a crash, or an older one was put back; the one before serves."""
        unnoticed = self.faults["unnoticed"] and self.rng.random() < 0.5
        self.copies_allowed = self.copies_allowed or unnoticed
        self.durable = [
            msgspec.structs.replace(cursor, suspect=cursor.suspect or not unnoticed)
            for cursor in self.older
        ]
        self.older = self.durable
        self.fresh = False
        self._restart()

    # -- a run -------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        rng, faults = self.rng, self.faults
        choice, flow = rng.random(), rng.choice(self.flows)
        if choice < 0.16:
            self.journal.end += rng.randint(1, 5)
            self.ranges.observe(self.journal.end)
            if faults["poison"] and rng.random() < 0.1:
                self.broker.poison.add(self.journal.end - 1)
        elif choice < 0.28:
            flow.supply.feed()  # type: ignore[attr-defined]
        elif choice < 0.46:
            self._send(flow)
        elif choice < 0.60:
            self._serve(self.connection, faults=True)
        elif choice < 0.70:
            self._deliver()
        elif choice < 0.76:
            self.broker.hw = rng.randint(self.broker.hw, len(self.broker.log))
        elif choice < 0.86:
            self._meet(flow, faults=True)
            if self.asked and rng.random() < 0.5:
                self._hear(rng.choice(list(self.asked)))
            if rng.random() < 0.5:
                self._write(faults=True)
        elif choice < 0.90:
            self._wait()
        elif choice < 0.93 and self.zombies:
            self.zombies = [c for c in self.zombies if self.now - c.broken_at < self.zombie_s]
            if self.zombies:
                self._serve(rng.choice(self.zombies), faults=False)
        else:
            self._fault(rng.random())
        self._check_acked()

    def _wait(self) -> None:
        self.now += self.rng.choice([0.05, 0.5, 5.0])
        old = sum(at <= self.now - REPLICA_LAG_S for at in self.taken_at)
        self.broker.hw = max(self.broker.hw, old)
        if self.rng.random() < 0.7:
            self.ranges.merge()
        if self.faults["split"] and self.rng.random() < 0.6:
            self._split()
        if self.rng.random() < 0.5 and self.writing is None:
            self._keep(self.ranges.cursors())

    def _fault(self, choice: float) -> None:
        rng, faults = self.rng, self.faults
        if choice < 0.20 and faults["cut"]:
            self._cut_connection()
        elif choice < 0.34 and faults["split"]:
            self._split()
        elif choice < 0.48 and faults["restart"]:
            self._restart()
        elif choice < 0.56 and faults["failover"]:
            self._fail_over()
        elif choice < 0.64 and faults["expire"]:
            self._expire()
        elif choice < 0.70 and faults["shrink"]:
            self.broker.count_max = rng.choice([1, 2, 1000])
        elif choice < 0.78 and faults["gap"] and self.journal.end > self.journal.start:
            # retention may take what is unsent only where its owner said so: it does here
            self.journal.start = rng.randint(self.journal.start, self.journal.end)
        elif choice < 0.86 and faults["gap"] and self.journal.end > self.journal.start:
            self.journal.holes.add(rng.randrange(self.journal.start, self.journal.end))
        elif choice < 0.92 and faults["trim"]:
            # the cloud's retention, no further than what every cursor knows to be acknowledged
            floors = [cursor.floor for cursor in (*self.durable, *self.older)]
            self.broker.start = max(self.broker.start, min(floors))
        elif choice < 0.97 and faults["damage"]:
            self._damage()

    def heal(self) -> None:
        """No more faults; returns when everything arrived, or raises after far too many turns."""
        self.zombies.clear()
        for _ in range(4000):
            self.ranges.observe(self.journal.end)
            if self.opening is not None:
                self._split()
            self._write(faults=False)
            for flow in list(self.flows):
                self._hear(flow)
                self._meet(flow, faults=False)
                if flow.supply.first is None and flow.supply.wanted < flow.log_end:
                    flow.supply.feed()  # type: ignore[attr-defined]
                self._send(flow)
                self._serve(self.connection, faults=False)
                self.broker.hw = len(self.broker.log)
                self._deliver()
            self.ranges.merge()
            self._check_acked()
            self.now += 0.5
            live = self.ranges.live
            settled = self.opening is None and self.writing is None and len(self.flows) == 1
            done = settled and live.drained and live.acked == live.position
            if done and live.need(self.now) is Need.NOTHING:
                return
        stuck = [(flow.stage, flow.cursor.origin, flow.acked, flow.end) for flow in self.flows]
        raise AssertionError(f"stuck: {stuck} of {self.journal.end}")

    # -- the oracle --------------------------------------------------------------------------------------------------

    def addresses(self) -> list[int]:
        return [offset for entry in self.broker.log for offset in entry.offsets]

    def _given_up(self, offset: int) -> bool:
        return self.journal.lost(offset) or offset in self.refused

    def _check_log(self) -> None:
        for entry in self.broker.log[self.checked :]:
            again = self.stored.intersection(entry.offsets)
            assert not again or self.copies_allowed, f"twice: {sorted(again)}"
            self._check_label(entry)
            self.stored.update(entry.offsets)
            self.taken_at.append(self.now)
        self.checked = len(self.broker.log)

    def _check_label(self, entry: Entry) -> None:
        for offset in range(max(entry.label, self.journal.first), entry.offsets[0]):
            if offset not in self.stored:
                assert self._given_up(offset), f"{entry.offsets[0]} says {offset} came before it"

    def _check_acked(self) -> None:
        below = self.stored
        if self.broker.hw < len(self.broker.log):
            below = {o for entry in self.broker.log[: self.broker.hw] for o in entry.offsets}
        for first, after in self.ranges.acknowledged:
            for offset in range(max(first, self.journal.first), after):
                if offset not in below and not self._given_up(offset):
                    raise AssertionError(f"offset {offset} is acknowledged and not in the cloud")

    def lake(self) -> list[int]:
        """What a table takes that reads the log from its beginning."""
        coverage, rows = Coverage(), []
        for entry in self.broker.log:
            for offset in entry.offsets:
                if offset not in coverage:
                    coverage.add(entry.label, offset + 1)
                    rows.append(offset)
        return rows

    def check(self) -> None:
        stored, rows = self.addresses(), self.lake()
        assert len(rows) == len(set(rows)), "twice in the lake"
        assert set(rows) == set(stored), "the lake took a record for a copy that was none"
        assert self.copies_allowed or len(stored) == len(rows), "twice"
        held = set(range(self.journal.first, self.journal.end))
        missing = {o for o in held - set(rows) if not self._given_up(o)}
        assert not missing, f"never arrived: {sorted(missing)}"
        assert not self.refused & set(rows), "declared lost and there"
        for first, last in unsent(
            self.ranges.acknowledged, self.journal.first, self.journal.end - 1
        ):
            assert all(map(self._given_up, range(first, last + 1))), "not known to be there"
