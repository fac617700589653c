"""What a journal owes, kept outside of it, and the random life a seed leads it through.

Owed, after any crash and any recovery:
  every acknowledged record is there exactly once, at its offset, with its bytes (unless retired, or declared lost)
  what is there beyond was appended at that offset, and follows without a hole
  reading by partition and by arrival order give the same records
  recovering again, even after another power cut, gives the same
What recovery showed counts as acknowledged from then on: the uplink may have sent it.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Mapping

from headwater.core.batch import decode_batch
from headwater.core.clock import ManualClock
from headwater.core.errors import Unavailable
from headwater.core.journal.files import (
    FileJournal,
    FileJournalSettings,
    Loss,
    Position,
    RetentionPlan,
    StreamRetention,
    WhenFull,
)
from headwater.core.journal.files.early import EarlyRule
from headwater.core.journal.files.planning import plan
from headwater.core.journal.files.retention import carry_out
from headwater.core.record import TopicPartition
from headwater.core.units import KIB, ByteSize
from tests.sim.disk import SimCrash, SimDisk

DIRECTORY = "/j"
SMALL = FileJournalSettings(
    segment_bytes=ByteSize(64 * KIB),
    bytes_max=ByteSize(64 * 64 * KIB),
    record_bytes_max=ByteSize(24 * KIB),
    commit_bytes_max=ByteSize(24 * KIB),
    spares=1,
    map_cache=1,
    index_cache=3,
)
PARTITIONS = [TopicPartition("a", 0), TopicPartition("a", 1), TopicPartition("b.long-name", 7)]
Contents = dict[TopicPartition, dict[int, bytes]]


def open_journal(
    disk: SimDisk,
    *,
    seed: int = 0,
    settings: FileJournalSettings = SMALL,
    clock: ManualClock | None = None,
    early: Mapping[str, EarlyRule] | None = None,
) -> FileJournal:
    return FileJournal.open(
        DIRECTORY,
        disk=disk,
        clock=clock or ManualClock(),
        settings=settings,
        rng=random.Random(seed),
        early=early,
    )


def contents(journal: FileJournal) -> Contents:
    """Every record by partition; asserts that arrival order tells the same, each record once."""
    by_partition: Contents = {}
    for partition in journal.partitions():
        records = by_partition[partition] = {}
        offset, end = journal.bounds(partition)
        start = offset
        while batches := journal.read_sync(partition, offset, bytes_max=20_000):
            for batch in batches:
                header, stored = decode_batch(batch)
                for record in stored:
                    assert record.offset not in records, f"{partition}/{record.offset} read twice"
                    records[record.offset] = record.value or b""
                offset = header.next_offset
        assert offset <= end
        by_partition[partition] = {o: v for o, v in records.items() if o >= start}
    by_arrival: Contents = {partition: {} for partition in by_partition}
    position = Position(0, 0)
    while True:
        arrivals, position = journal.read_arrivals_sync(position, bytes_max=20_000)
        if not arrivals:
            break
        for arrival in arrivals:
            seen = by_arrival[arrival.partition]
            for record in decode_batch(arrival.batch)[1]:
                assert record.offset not in seen, (
                    f"{arrival.partition}/{record.offset} arrived twice"
                )
                assert not seen or record.offset > max(seen), "arrival order is not offset order"
                seen[record.offset] = record.value or b""
    for partition, seen in by_arrival.items():
        start = journal.bounds(partition).start
        volatile = journal.volatile.get(partition)
        written = 2**63 if volatile is None else volatile.tail_first  # the rest is in memory
        assert {o: v for o, v in seen.items() if start <= o < written} == {
            o: v for o, v in by_partition[partition].items() if o < written
        }
    return by_partition


class Model:
    """What was promised so far."""

    def __init__(self) -> None:
        self.acknowledged: Contents = {}
        self.tried: dict[tuple[TopicPartition, int], set[bytes]] = {}
        self.starts: dict[TopicPartition, int] = {}  # retention may have moved so far
        self.starts_sure: dict[TopicPartition, int] = {}  # … and has moved so far
        self.lost: set[tuple[TopicPartition, int]] = set()

    def declare(self, losses: Iterable[Loss]) -> None:
        for loss in losses:
            for offset in range(loss.first, min(loss.last, loss.first + 100_000) + 1):
                self.lost.add((loss.partition, offset))

    def check(self, found: Contents, journal: FileJournal) -> None:
        if journal.recovery.damage:
            self._forget_unnamed(found, journal)
        for partition, records in self.acknowledged.items():
            if not records:
                continue
            assert partition in found, f"{partition} is gone"
            start, end = journal.bounds(partition)
            assert start <= self.starts.get(partition, 0), f"{partition} starts at {start}"
            assert start >= self.starts_sure.get(partition, 0), (
                f"{partition} start went back to {start}"
            )
            assert end > max(records), f"{partition} ends at {end}: offsets would be given twice"
            for offset, value in records.items():
                if offset < start or (partition, offset) in self.lost:
                    continue
                got = found.get(partition, {}).get(offset)
                assert got == value, (
                    f"{partition}/{offset} acknowledged, found {got and got[:20]!r}"
                )
        for partition, records in found.items():
            start, end = journal.bounds(partition)
            for offset in range(start, end):
                if (partition, offset) in self.lost:
                    continue
                assert offset in records, f"{partition}/{offset}: a hole between {start} and {end}"
            for offset, value in records.items():
                assert value in self.tried[partition, offset], (
                    f"{partition}/{offset}: never written"
                )
        for partition, records in found.items():
            # what the outside saw, it may have sent
            self.acknowledged.setdefault(partition, {}).update(records)

    def _forget_unnamed(self, found: Contents, journal: FileJournal) -> None:
        """All of a partition lay in the damage: nothing can name it, yet its offsets are not given again."""
        for partition, records in list(self.acknowledged.items()):
            if partition not in found and records:
                floor = journal.writer(partition).next_offset
                assert floor > max(records), f"{partition}/{max(records)} would be given twice"
                del self.acknowledged[partition]
                self.starts[partition] = floor


class Life:
    """One journal through several crashes, driven by a seed."""

    def __init__(self, seed: int, *, lying_sync: bool = False) -> None:
        self.rng = random.Random(seed)
        self.disk = SimDisk(random.Random(self.rng.getrandbits(64)))
        self.disk.lying_sync = lying_sync
        self.disk.copy_on_write = self.rng.random() < 0.2
        self.model = Model()
        self.clock = ManualClock()
        self.crashes = 0
        self.compacted = 0

    def lead(self, *, rounds: int = 3) -> None:
        for _ in range(rounds):
            self._live_until_crash()
            self.disk.clear_faults()
            self.check()

    def open(self) -> FileJournal:
        self.clock.advance(1)
        return open_journal(self.disk, seed=self.rng.getrandbits(32), clock=self.clock)

    def check(self) -> None:
        journal = self.open()
        self.model.declare(journal.recovery.losses)
        found = contents(journal)
        self.model.declare(journal.take_losses())
        self.model.check(found, journal)
        bounds = {p: journal.bounds(p) for p in journal.partitions()}
        log_id = journal.log_id
        self.disk.restart(power_cut=True)
        journal = self.open()
        assert journal.log_id == log_id
        assert {p: journal.bounds(p) for p in journal.partitions()} == bounds, (
            "recovery is not stable"
        )
        assert contents(journal) == found, "recovery is not stable"
        journal.close()

    def _live_until_crash(self) -> None:
        rng, disk = self.rng, self.disk
        if rng.random() < 0.3:
            disk.write_error = disk.sync_error = rng.choice((0.02, 0.2))
            disk.name_error = rng.choice((0.0, 0.05))
        disk.crash_at = disk.calls + rng.choice((rng.randint(1, 30), rng.randint(1, 250)))
        kill = rng.random() < 0.3
        try:
            journal = self._open_stubbornly()
            for _ in range(rng.randint(5, 30)):
                self._step(journal)
            disk.crash_at = None
            journal.close()
            kill = True
        except SimCrash:
            self.crashes += 1
        disk.restart(power_cut=not kill)

    def _open_stubbornly(self) -> FileJournal:
        for _ in range(20):
            try:
                return self.open()
            except Unavailable:
                continue
        self.disk.clear_faults()
        return self.open()

    def _step(self, journal: FileJournal) -> None:
        rng = self.rng
        turn = rng.random()
        if turn < 0.05:
            self.disk.full = not self.disk.full and rng.random() < 0.5
        elif turn < 0.15:
            with contextlib.suppress(Unavailable):
                journal.appender.prepare()
        elif turn < 0.25:
            self._retain(journal)
        elif turn < 0.30:
            contents(journal)
        else:
            self._commit(journal)

    def append(self, journal: FileJournal) -> tuple[TopicPartition, int, bytes]:
        rng = self.rng
        partition = rng.choice(PARTITIONS)
        size = rng.choice((rng.randint(8, 60), rng.randint(8, 60), rng.randint(60, 9000)))
        return self.append_to(journal, partition, size)

    def append_to(
        self, journal: FileJournal, partition: TopicPartition, size: int
    ) -> tuple[TopicPartition, int, bytes]:
        rng = self.rng
        value = rng.getrandbits(64).to_bytes(8, "big") * (size // 8)
        writer = journal.writer(partition)
        if partition not in self.model.acknowledged:  # after damage it may begin above zero
            self.model.starts[partition] = max(writer.start, self.model.starts.get(partition, 0))
        offset = writer.append(self.clock.wall_ms(), None, value)
        self.model.tried.setdefault((partition, offset), set()).add(value)
        return partition, offset, value

    def _commit(self, journal: FileJournal) -> None:
        journal.bytes_limit = 2**40  # what happens at the limit has its own tests
        journal.update_full()
        self.commit(journal, [self.append(journal) for _ in range(self.rng.randint(1, 8))])

    def commit(
        self, journal: FileJournal, appended: list[tuple[TopicPartition, int, bytes]]
    ) -> None:
        commit = journal.seal()
        if commit is None:
            assert all(journal.writer(p).passed for p, _, _ in appended), "nothing to commit"
            return
        for attempt in range(12):
            if attempt == 6:
                self.disk.clear_faults()
            try:
                commit.write()
                break
            except Unavailable:
                continue
        journal.complete(commit)
        for partition, offset, value in appended:
            self.model.acknowledged.setdefault(partition, {})[offset] = value

    def _retain(self, journal: FileJournal) -> None:
        if self.rng.random() < 0.5:
            self.crowd(journal)
            return
        rule = StreamRetention(
            bytes_max=ByteSize(self.rng.randint(1, 200) * KIB), when_full=WhenFull.DROP_OLDEST
        )
        agreed = plan(
            journal, self.clock.wall_ms(), rules={"a": rule, "b.long-name": rule}, sent=None
        )
        self.carry_out(journal, agreed)

    def crowd(self, journal: FileJournal) -> None:
        """A log that must make room, by the policies and priorities that its streams happen to have."""
        rng = self.rng
        rules = {
            stream: StreamRetention(
                when_full=rng.choice(list(WhenFull)), priority=rng.choice((1, 4, 9))
            )
            for stream in ("a", "b.long-name")
        }
        sent = {p: rng.randint(0, journal.bounds(p).end) for p in journal.partitions()}
        self.carry_out(
            journal,
            plan(
                journal,
                self.clock.wall_ms(),
                rules=rules,
                sent=rng.choice((None, {}, {}, sent)),
                free_bytes=rng.randint(0, 6) * 64 * KIB,
            ),
        )

    def carry_out(self, journal: FileJournal, agreed: RetentionPlan) -> None:
        for partition, start in agreed.starts.items():
            self.model.starts[partition] = max(start, self.model.starts.get(partition, 0))
        before = journal.counters.segments_compacted
        try:
            carry_out(journal, agreed)
        except Unavailable:
            return
        finally:
            self.compacted += journal.counters.segments_compacted - before
        self.model.starts_sure |= agreed.starts
