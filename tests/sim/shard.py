"""A shard under simulation: processes that take it from one another over a bucket in trouble, and the checker.

Each process opens the shard, submits numbered entries, trims, checkpoints, collects, asks for the tail, is killed or
fenced, and comes back. The state machine keeps every entry it was ever given, in its snapshots too, so the state of
the last owner is the whole log, whatever was collected. Claims checked at the end, for every seed:

    acknowledged  exactly once in the log, in the slot that the acknowledgement named
    refused       an entry whose future raised Closed is nowhere in the log
    prefix        what any writer, fenced or not, applied is a prefix of the log
    order         an entry submitted after another's acknowledgement comes after it
    readable      the live batches of the partition are those entries, at their offsets
    current       `tail_current` was never true when another writer's object already stood after the tail
    settled       answers that land minutes later change nothing
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from headwater.core.batch import decode_batch, encode_batch
from headwater.core.errors import Closed, HeadwaterError, Unavailable, Unknown
from headwater.core.journal.objects import (
    Batch,
    CommitResult,
    Entry,
    Event,
    ObjectJournalSettings,
    ShardWriter,
    Trim,
)
from headwater.core.journal.objects.keys import wal_key
from headwater.core.journal.objects.layout import decode_header
from headwater.core.record import Record, TopicPartition
from headwater.core.units import Duration

from .loop import LoopClock, run
from .store import QUIET, ROUGH, SimulatedBucket, SimulatedStore

SHARD = 3
READINGS = TopicPartition("readings", 0)
_SETTLED_S = 400.0


class History:
    """A state machine that forgets nothing: (slot, entry id, offset) of every entry in the log."""

    def __init__(self) -> None:
        self.log: list[tuple[int, int, int]] = []

    def apply(self, seq: int, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if isinstance(entry, Event):
                number, offset = json.loads(entry.data)
                self.log.append((seq, number, offset))

    def snapshot(self) -> bytes:
        return json.dumps(self.log).encode()

    def restore(self, snapshot: bytes) -> None:
        self.log = [(seq, number, offset) for seq, number, offset in json.loads(snapshot)]


@dataclass
class Ledger:
    """What the outside saw."""

    submitted: dict[int, float] = field(default_factory=dict)
    acknowledged: dict[int, tuple[int, float]] = field(default_factory=dict)  # id: slot, when
    refused: set[int] = field(default_factory=set)
    histories: list[History] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    collected: int = 0
    fenced: int = 0

    def next_id(self, now: float) -> int:
        number = len(self.submitted)
        self.submitted[number] = now
        return number


@dataclass(frozen=True)
class Outcome:
    """`trace` is every change of the bucket: the same seed gives the same trace."""

    trace: list[tuple[float, str, str, str]]
    ledger: Ledger
    log: list[tuple[int, int, int]]


class _Process:
    """One process and its lives."""

    def __init__(
        self, name: str, rng: random.Random, bucket: SimulatedBucket, ledger: Ledger
    ) -> None:
        self._rng = rng
        self._ledger = ledger
        late_s = rng.choice((2.0, 30.0))
        self._store = SimulatedStore(rng, bucket=bucket, rates=ROUGH, name=name, late_s=late_s)
        self._settings = ObjectJournalSettings(
            flush_interval=Duration(0.05),
            attempt_timeout=Duration(rng.choice((1.0, 1000.0))),
            retry_cap=Duration(1.0),
            checkpoint_objects=rng.choice((2, 1000)),
            boundary_check_interval=Duration(rng.choice((0.0, 10.0, 1000.0))),
            replay_parallel=rng.choice((1, 4)),
        )

    async def live(self) -> None:
        for _ in range(self._rng.randint(1, 2)):
            await asyncio.sleep(self._rng.random() * 20)
            history = History()
            try:
                writer = await open_shard(self._store, history, self._settings, self._rng)
            except (Closed, Unavailable):
                continue
            self._ledger.histories.append(history)
            await self._work(writer)
            await asyncio.sleep(0)

    async def _work(self, writer: ShardWriter) -> None:
        rng = self._rng
        futures: list[asyncio.Task[None]] = []
        for _ in range(rng.randint(2, 8)):
            if writer.closed_reason is not None:
                break
            with contextlib.suppress(Closed, Unavailable, Unknown):
                await self._step(writer, futures)
            await asyncio.sleep(rng.choice((0.0, 0.1, 5.0)) * rng.random())
        if rng.random() < 0.5:
            writer.kill()
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rng.choice((1.0, 60.0))):
                    await writer.close()
        self._ledger.fenced += (writer.closed_reason or "").startswith("fenced")
        await asyncio.gather(*futures)

    async def _step(self, writer: ShardWriter, futures: list[asyncio.Task[None]]) -> None:
        match self._rng.randrange(8):
            case 0:
                end = writer.next_offset(READINGS)
                writer.submit([Trim(READINGS, self._rng.randint(0, end))]).add_done_callback(
                    lambda done: done.exception()
                )
            case 1:
                await writer.checkpoint()
                self._ledger.collected += await writer.collect()
            case 2:
                await self._ask_tail(writer)
            case _:
                now = asyncio.get_running_loop().time()
                number = self._ledger.next_id(now)
                future = writer.submit(numbered(number, writer.next_offset(READINGS)))
                futures.append(asyncio.ensure_future(self._await(number, future)))

    async def _await(self, number: int, future: asyncio.Future[CommitResult]) -> None:
        try:
            result = await future
        except Closed:
            self._ledger.refused.add(number)
        except Unknown:
            return
        else:
            now = asyncio.get_running_loop().time()
            self._ledger.acknowledged[number] = (result.seq, now)

    async def _ask_tail(self, writer: ShardWriter) -> None:
        others = False
        for slot in (writer.seq + 1, writer.seq + 2):
            held = self._store.bucket.objects.get(wal_key(SHARD, slot))
            if held is not None:
                others |= decode_header(held[0], key="").epoch != writer.epoch
        if await writer.tail_current() and others:
            self._ledger.problems.append("tail_current was true after a takeover")


def numbered(number: int, offset: int) -> list[Entry]:
    """One entry with an identity: an event for the history and a batch that holds the same number."""
    record = Record(1_000 + number, None, str(number).encode())
    return [
        Event(json.dumps([number, offset]).encode()),
        Batch(READINGS, encode_batch([record], base_offset=offset)),
    ]


async def open_shard(
    store: SimulatedStore, history: History, settings: ObjectJournalSettings, rng: random.Random
) -> ShardWriter:
    clock = LoopClock(asyncio.get_running_loop())
    return await ShardWriter.open(
        store, SHARD, state=history, settings=settings, clock=clock, rng=rng
    )


def simulate(seed: int, *, processes: int = 3) -> Outcome:
    """One whole story."""
    return run(_story(random.Random(seed), processes))


async def _story(rng: random.Random, processes: int) -> Outcome:
    bucket, ledger = SimulatedBucket(), Ledger()
    async with asyncio.TaskGroup() as tasks:
        for number in range(processes):
            one = _Process(f"p{number}", random.Random(rng.random()), bucket, ledger)
            tasks.create_task(one.live())
    quiet = SimulatedStore(rng, bucket=bucket, rates=QUIET, name="end")
    settings = ObjectJournalSettings(flush_interval=Duration(0.0))
    try:
        first = History()
        await (await open_shard(quiet, first, settings, rng)).close()
        await asyncio.sleep(_SETTLED_S)
        last = History()
        writer = await open_shard(quiet, last, settings, rng)
        if first.log != last.log:
            ledger.problems.append("the log changed after everything had ended")
        await _check_readable(writer, last, ledger)
        await writer.close()
    except HeadwaterError as error:
        ledger.problems.append(f"the shard cannot be opened or read: {error!r}")
        return Outcome(bucket.trace, ledger, [])
    _check(ledger, last)
    return Outcome(bucket.trace, ledger, last.log)


def _check(ledger: Ledger, last: History) -> None:
    problems = ledger.problems
    place: dict[int, int] = {}
    slot_of: dict[int, int] = {}
    for index, (slot, number, _) in enumerate(last.log):
        if number in place:
            problems.append(f"entry {number} is in the log twice")
        place[number], slot_of[number] = index, slot
    for number, (slot, _) in ledger.acknowledged.items():
        if slot_of.get(number) != slot:
            problems.append(
                f"entry {number} was acknowledged in slot {slot}, found in {slot_of.get(number)}"
            )
    problems += [f"entry {n} was refused and is in the log" for n in ledger.refused & place.keys()]
    problems += [
        "a writer applied what is not in the log"
        for history in ledger.histories
        if history.log != last.log[: len(history.log)]
    ]
    for early, (_, when) in ledger.acknowledged.items():
        for late, submitted in ledger.submitted.items():
            if submitted > when and late in place and place[late] < place.get(early, -1):
                problems.append(f"entry {late} came before {early}, acknowledged earlier")


async def _check_readable(writer: ShardWriter, last: History, ledger: Ledger) -> None:
    if READINGS not in writer.journal.partitions():
        return
    bounds = writer.journal.bounds(READINGS)
    expected = {offset: number for _, number, offset in last.log if offset >= bounds.start}
    at = bounds.start
    found: dict[int, int] = {}
    while at < bounds.end:
        batches = await writer.journal.read(READINGS, at, bytes_max=400)
        for batch in batches:
            header, records = decode_batch(batch)
            found.update((record.offset, int(record.value or b"")) for record in records)
            at = header.last_offset + 1
        if not batches:
            break
    if found != expected:
        ledger.problems.append(f"read {found}, the log holds {expected}")
