"""A world for one `PartitionFlow`: a journal, a network that cuts, delays and repeats, a disk, and a broker that keeps
Kafka's rules for idempotent producers to the letter. Seed in, same run out.

The broker (org.apache.kafka.storage.internals.log.ProducerAppendInfo and ProducerStateManager, 3.9):
  a batch equal in first and last sequence to one of the last five of its producer and epoch   -> the original offset
  an older epoch than the one known                                                            -> INVALID_PRODUCER_EPOCH
  a newer epoch                                                                                -> only from sequence 0
  an unknown producer                                                                          -> any first sequence
  anything else must follow the last sequence                                                  -> or OUT_OF_ORDER
Only what is below the high watermark is acknowledged and visible to readers; a change of leader cuts the rest off, and
the new leader knows producers by its own log.

The network: requests on one connection reach the broker in order. A connection that was cut may still deliver a prefix of
what was sent on it, at any later time up to LATE_COPIES_S (a zombie). Producer state expires only when nothing is under
way, as Kafka's does after a day.

The oracle: addresses in the log strictly increase, always; all below `acked` that the journal did not give up is below the
high watermark, always; and once the faults end, everything is.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from typing import NamedTuple

from headwater.core.backoff import Backoff
from headwater.core.kafka.errors import ErrorCode
from headwater.edge.uplink.cursor import Era, PartitionCursor
from headwater.edge.uplink.evidence import Described, Found
from headwater.edge.uplink.partition import Need, PartitionFlow
from headwater.edge.uplink.supply import Cut

MASK = 2**31 - 1
LATE_COPIES_S = 4.0


class Entry(NamedTuple):
    """A batch in the cloud's log."""

    producer_id: int
    epoch: int
    first_sequence: int
    offsets: tuple[int, ...]
    base_offset: int

    @property
    def last_sequence(self) -> int:
        return (self.first_sequence + len(self.offsets) - 1) & MASK


class Broker:
    """One partition."""

    def __init__(self) -> None:
        self.log: list[Entry] = []
        self.base = 0  # records that others wrote before us
        self.start = 0
        self.hw = 0  # entries that are replicated
        self.forgotten: dict[
            int, int
        ] = {}  # producer id to entries of it that were forgotten with its state
        self.poison: set[int] = set()
        self.count_max = 1000
        self.next_producer = 1000

    @property
    def end_offset(self) -> int:
        return self.log[-1].base_offset + len(self.log[-1].offsets) if self.log else self.base

    @property
    def high_watermark(self) -> int:
        entry = self.log[self.hw - 1] if self.hw else None
        return entry.base_offset + len(entry.offsets) if entry else self.base

    def state(self, producer_id: int) -> list[Entry]:
        """What the producer state remembers: the last five batches of the newest epoch."""
        known = self.log[self.forgotten.get(producer_id, 0) :]
        own = [entry for entry in known if entry.producer_id == producer_id]
        return [entry for entry in own if entry.epoch == own[-1].epoch][-5:] if own else []

    def append(
        self, producer_id: int, epoch: int, sequence: int, offsets: tuple[int, ...]
    ) -> tuple[ErrorCode, int]:
        if self.poison.intersection(offsets) or len(offsets) > self.count_max:
            return ErrorCode.MESSAGE_TOO_LARGE, -1
        remembered = self.state(producer_id)
        entry = Entry(producer_id, epoch, sequence, offsets, self.end_offset)
        if remembered:
            last = remembered[-1]
            if epoch < last.epoch:
                return ErrorCode.INVALID_PRODUCER_EPOCH, -1
            if epoch > last.epoch:
                if sequence != 0:
                    return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1
            else:
                for known in remembered:
                    if (known.first_sequence, known.last_sequence) == (
                        sequence,
                        entry.last_sequence,
                    ):
                        return ErrorCode.NONE, known.base_offset
                if sequence != (last.last_sequence + 1) & MASK:
                    return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1
        self.log.append(entry)
        return ErrorCode.NONE, entry.base_offset

    def describe(self, producer_id: int) -> Described | None:
        remembered = self.state(producer_id)
        return Described(remembered[-1].epoch, remembered[-1].last_sequence) if remembered else None

    def read_back(self, floor: int, producer_id: int) -> Found:
        truncated = floor < self.start
        floor = max(floor, self.start)
        seen, after, last = None, floor, None
        for entry in self.log[: self.hw]:
            if entry.base_offset + len(entry.offsets) > floor:
                seen, after = entry.offsets[-1] + 1, entry.base_offset + len(entry.offsets)
                if entry.producer_id == producer_id:
                    last = Described(entry.epoch, entry.last_sequence)
        return Found(seen, after, truncated, last)

    def fail_over(self) -> None:
        """A replica that has all that was acknowledged takes over."""
        del self.log[self.hw :]
        self.forgotten = {key: min(at, self.hw) for key, at in self.forgotten.items()}

    def expire(self) -> None:
        for entry in self.log:
            self.forgotten[entry.producer_id] = len(self.log)


class Journal:
    """Offsets that exist at the edge: a start, an end, holes."""

    def __init__(self, start: int) -> None:
        self.start = self.end = start
        self.first = start
        self.holes: set[int] = set()

    def lost(self, offset: int) -> bool:
        return offset < self.start or offset in self.holes

    def held(self, offset: int, count: int) -> list[int]:
        found: list[int] = []
        for candidate in range(max(offset, self.start), self.end):
            if candidate not in self.holes:
                found.append(candidate)
                if len(found) == count:
                    break
        return found


class Supply:
    """Cuts of random size."""

    def __init__(self, journal: Journal, rng: random.Random) -> None:
        self._journal = journal
        self._rng = rng
        self._buffer: deque[int] = deque()
        self._wanted = 0

    @property
    def first(self) -> int | None:
        return self._buffer[0] if self._buffer else None

    @property
    def wanted(self) -> int:
        return self._wanted

    def feed(self) -> None:
        offsets = self._journal.held(self._wanted, self._rng.randint(1, 12))
        self._buffer.extend(offsets)
        self._wanted = offsets[-1] + 1 if offsets else max(self._wanted, self._journal.end)

    def ripe(self, now: float) -> bool:
        return True

    def restart(self, offset: int) -> None:
        self._buffer.clear()
        self._wanted = offset

    def cut(self, era: Era, *, records_max: int, plain: bool) -> Cut:
        first = self._buffer[0]
        count = 1
        limit = min(records_max, self._rng.randint(1, 4))
        while count < min(limit, len(self._buffer)) and self._buffer[count] == first + count:
            count += 1
        for _ in range(count):
            self._buffer.popleft()
        return Cut(first, count, era, b"x" * count)


class Sent(NamedTuple):
    cut: Cut
    producer_id: int
    epoch: int
    sequence: int
    offsets: tuple[int, ...]


class Answer(NamedTuple):
    cut: Cut
    code: ErrorCode
    base_offset: int
    entries: int  # how much of the log must be replicated before it may leave


class Connection:
    def __init__(self) -> None:
        self.broken_at = 0.0
        self.requests: deque[Sent] = deque()
        self.answers: deque[Answer] = deque()


class World:
    """One run. `step` does one random thing; `heal` ends the faults and waits for the end."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        start = self.rng.choice([0, 0, 7, 2**31 - 20])
        self.journal = Journal(start)
        self.broker = Broker()
        self.broker.base = self.rng.choice([0, 100])
        self.broker.start = self.broker.base
        self.refused: set[int] = set()
        self.connection = Connection()
        self.zombies: list[Connection] = []
        origin = start if self.rng.random() < 0.5 else max(0, start - 3)
        era = Era(self._new_producer(), 0, origin)
        self.durable = self.older = PartitionCursor(1, 0, era, start, self.broker.end_offset)
        self.fresh = True
        self.restarts = -1
        self._restart()
        self.faults = {
            name: self.rng.random() < 0.6
            for name in (
                "cut",
                "restart",
                "expire",
                "failover",
                "error",
                "poison",
                "gap",
                "shrink",
                "damage",
                "trim",
            )
        }

    def _new_producer(self) -> int:
        self.broker.next_producer += 1
        return self.broker.next_producer

    # -- the edge ----------------------------------------------------------------------------------------------------

    def _restart(self) -> None:
        self.restarts += 1
        self.connection.broken_at = self.now
        self.zombies.append(self.connection)
        self.connection = Connection()
        self.supply = Supply(self.journal, self.rng)
        self.flow = PartitionFlow(
            self.durable,
            self.supply,
            backoff=Backoff(self.rng, first_s=0.1, cap_s=1.0),
            fresh=self.fresh,
            late_copies_s=LATE_COPIES_S,
        )
        self.flow.log_end = max(self.durable.acked, self.journal.end)

    def _meet(self, *, faults: bool) -> None:
        need = self.flow.need(self.now)
        self.flow.log_end = self.journal.end
        fails = faults and self.rng.random() < 0.15
        match need:
            case Need.NOTHING:
                return
            case Need.SAVE:
                cursor = self.flow.next_cursor()
                crash = self.rng.random() if faults and self.faults["restart"] else 1.0
                if crash > 0.1:
                    self._write(cursor)
                if crash < 0.2:
                    self._restart()
                elif not fails:
                    self.flow.saved(cursor)
                return
            case Need.DECLARE:
                refusal = self.flow.refusal
                assert refusal is not None
                if fails:
                    self.flow.failed(self.now, "gap record not durable")
                    return
                assert refusal.first == refusal.last
                assert refusal.first in self.broker.poison or self.broker.count_max < 1
                self.refused.add(refusal.first)
                self.flow.declared()
                return
            case _:
                pass
        if fails:
            self.flow.failed(self.now, "no answer")
        elif need is Need.DESCRIBE:
            self.flow.described(self.broker.describe(self.flow.cursor.era.producer_id), self.now)
        elif need is Need.READ_BACK:
            cursor = self.flow.cursor
            found = self.broker.read_back(cursor.floor, cursor.era.producer_id)
            self.flow.looked(found, self.now)
        elif need is Need.PRODUCER:
            self.flow.producer(self._new_producer(), 0)

    def _write(self, cursor: PartitionCursor) -> None:
        if cursor != self.durable:
            self.older, self.durable = self.durable, cursor

    def _send(self) -> None:
        cut = self.flow.take(self.now)
        if cut is None:
            return
        self.fresh = False
        # the era must have been durable before its first use
        assert (self.durable.era.producer_id, self.durable.era.epoch) == (
            cut.era.producer_id,
            cut.era.epoch,
        )
        offsets = tuple(range(cut.first, cut.next_offset))
        self.connection.requests.append(
            Sent(cut, cut.era.producer_id, cut.era.epoch, cut.era.sequence(cut.first), offsets)
        )

    # -- the network and the broker ----------------------------------------------------------------------------------

    def _serve(self, connection: Connection, *, faults: bool) -> None:
        if not connection.requests:
            return
        sent = connection.requests.popleft()
        error = faults and self.faults["error"] and self.rng.random() < 0.1
        if error and self.rng.random() < 0.5:
            code = self.rng.choice(
                [ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_ENOUGH_REPLICAS]
            )
            connection.answers.append(Answer(sent.cut, code, -1, 0))
            return
        code, base = self.broker.append(sent.producer_id, sent.epoch, sent.sequence, sent.offsets)
        if error and code is ErrorCode.NONE:
            late = self.rng.choice([ErrorCode.REQUEST_TIMED_OUT, ErrorCode.UNKNOWN_SERVER_ERROR])
            connection.answers.append(Answer(sent.cut, late, -1, 0))
            return
        entries = len(self.broker.log) if code is ErrorCode.NONE else 0
        connection.answers.append(Answer(sent.cut, code, base, entries))
        self._check_order()

    def _deliver(self) -> None:
        if not self.connection.answers:
            return
        answer = self.connection.answers[0]
        if answer.entries > self.broker.hw:
            return
        self.connection.answers.popleft()
        self.flow.answered(answer.cut, int(answer.code), answer.base_offset, self.now)

    def _cut_connection(self) -> None:
        self.connection.broken_at = self.now
        self.zombies.append(self.connection)
        self.connection = Connection()
        self.flow.lost(self.now)

    def _expire(self) -> None:
        """A day passes: whatever was under way has arrived or is lost."""
        self._replicate_all()
        while self.connection.answers and self.rng.random() < 0.5:
            self._deliver()
        self._cut_connection()
        self.zombies.clear()
        self.now += 90_000
        self.broker.expire()

    def _replicate_all(self) -> None:
        self.broker.hw = len(self.broker.log)

    def _fail_over(self) -> None:
        """The old leader's answers that were not yet due never come; what was sent to it arrives nowhere."""
        self.broker.fail_over()
        self.zombies.clear()
        kept = deque(item for item in self.connection.answers if item.entries <= self.broker.hw)
        self.connection.answers = kept
        self.connection.requests.clear()
        if self.rng.random() < 0.8 or self.flow.flying:
            self._cut_connection()
            self.zombies.clear()

    def _damage(self) -> None:
        """The newest cursor file is unreadable after a crash; the one before serves."""
        self.durable = self.older
        self.fresh = False
        self._restart()

    # -- a run -------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        rng, faults = self.rng, self.faults
        choice = rng.random()
        if choice < 0.16:
            self.journal.end += rng.randint(1, 5)
            self.flow.log_end = self.journal.end
            if faults["poison"] and rng.random() < 0.1:
                self.broker.poison.add(self.journal.end - 1)
        elif choice < 0.28:
            self.supply.feed()
        elif choice < 0.46:
            self._send()
        elif choice < 0.60:
            self._serve(self.connection, faults=True)
        elif choice < 0.70:
            self._deliver()
        elif choice < 0.76:
            self.broker.hw = rng.randint(self.broker.hw, len(self.broker.log))
        elif choice < 0.86:
            self._meet(faults=True)
        elif choice < 0.90:
            self.now += rng.choice([0.05, 0.5, 5.0])
            if rng.random() < 0.5:
                self._write(self.flow.cursor)
        elif choice < 0.93 and self.zombies:
            self.zombies = [c for c in self.zombies if self.now - c.broken_at < LATE_COPIES_S]
            if self.zombies:
                self._serve(rng.choice(self.zombies), faults=False)
        else:
            self._fault(rng.random())
        self._check_acked()

    def _fault(self, choice: float) -> None:
        rng, faults = self.rng, self.faults
        if choice < 0.25 and faults["cut"]:
            self._cut_connection()
        elif choice < 0.45 and faults["restart"]:
            self._restart()
        elif choice < 0.55 and faults["failover"]:
            self._fail_over()
        elif choice < 0.63 and faults["expire"]:
            self._expire()
        elif choice < 0.70 and faults["shrink"]:
            self.broker.count_max = rng.choice([1, 2, 1000])
        elif choice < 0.78 and faults["gap"] and self.journal.end > self.journal.start:
            # retention may take what is unsent only where its owner said so: it does here
            self.journal.start = rng.randint(self.journal.start, self.journal.end)
        elif choice < 0.86 and faults["gap"] and self.journal.end > self.journal.start:
            self.journal.holes.add(rng.randrange(self.journal.start, self.journal.end))
        elif choice < 0.93 and faults["trim"]:
            # the cloud's retention, no further than what every cursor knows to be acknowledged
            self.broker.start = max(self.broker.start, min(self.durable.floor, self.older.floor))
        elif choice < 0.96 and faults["damage"]:
            self._damage()

    def heal(self) -> None:
        """No more faults; returns when everything arrived, or raises after far too many turns."""
        self.zombies.clear()
        for _ in range(4000):
            self.flow.log_end = self.journal.end
            self._meet(faults=False)
            if self.supply.first is None and self.supply.wanted < self.journal.end:
                self.supply.feed()
            self._send()
            self._serve(self.connection, faults=False)
            self._replicate_all()
            self._deliver()
            self._check_acked()
            self.now += 0.5
            done = self.flow.drained and self.flow.acked == self.flow.position
            if done and self.flow.need(self.now) is Need.NOTHING:
                return
        raise AssertionError(
            f"stuck: {self.flow.stage} acked {self.flow.acked} of {self.journal.end}"
        )

    # -- the oracle --------------------------------------------------------------------------------------------------

    def addresses(self) -> list[int]:
        return [offset for entry in self.broker.log for offset in entry.offsets]

    def _check_order(self) -> None:
        tail = self.addresses()[-12:]
        assert all(a < b for a, b in itertools.pairwise(tail)), f"order or duplicate: {tail}"

    def _check_acked(self) -> None:
        stored = {offset for entry in self.broker.log[: self.broker.hw] for offset in entry.offsets}
        for offset in range(self.journal.first, self.flow.acked):
            if not self.journal.lost(offset) and offset not in self.refused:
                assert offset in stored, f"offset {offset} is acknowledged and not in the cloud"

    def check(self) -> None:
        stored = self.addresses()
        assert stored == sorted(set(stored)), "twice, or out of order"
        held = set(range(self.journal.first, self.journal.end))
        missing = {o for o in held - set(stored) if not self.journal.lost(o)} - self.refused
        assert not missing, f"never arrived: {sorted(missing)}"
        assert not self.refused & set(stored), "declared lost and there"
