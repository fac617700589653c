"""Memory streams: what stays out of the flash, what gets there, and what a power cut takes."""

from __future__ import annotations

import random

import pytest

from headwater.core.batch import decode_batch
from headwater.core.journal.files import FileJournal
from headwater.core.journal.files.early import EarlyRule, EarlyWriter
from headwater.core.journal.files.volatile import AHEAD, VolatileWriter
from headwater.core.record import TopicPartition
from headwater.core.units import KIB
from tests.core.journal_files.oracle import contents, open_journal
from tests.core.journal_files.test_early_power_cuts import EarlyLife
from tests.core.journal_files.test_power_cuts import seeds
from tests.sim.disk import SimCrash, SimDisk

RULES = {"a": EarlyRule(1.0, 64 * KIB)}
A = TopicPartition("a", 0)


def opened(disk: SimDisk) -> tuple[FileJournal, VolatileWriter]:
    journal = open_journal(disk, early=RULES)
    writer = journal.writer(A)
    assert isinstance(writer, VolatileWriter)
    return journal, writer


def commit(journal: FileJournal) -> None:
    sealed = journal.seal()
    if sealed is not None:
        sealed.write()
        journal.complete(sealed)


def read(journal: FileJournal, offset: int, *, bytes_max: int = 10**6) -> list[tuple[int, bytes]]:
    batches = journal.read_sync(A, offset, bytes_max=bytes_max)
    return [(r.offset, r.value or b"") for b in batches for r in decode_batch(b)[1]]


def test_an_edge_whose_link_holds_writes_next_to_nothing() -> None:
    journal, writer = opened(SimDisk(random.Random(1)))
    writer.append(1, None, b"held")
    commit(journal)
    frames, written = journal.counters.frames, journal.counters.bytes_written
    for index in range(20_000):
        writer.append(index, None, bytes(100))
        assert writer.passed
        assert journal.bounds(A).end == index + 2, "seen at once"
        if index % 100 == 99:
            writer.sent(index + 2)
            commit(journal)
    assert journal.counters.frames - frames <= 20_000 // AHEAD + 1
    assert journal.counters.bytes_written - written < 20_000 * 2
    assert writer.tail_bytes == 0
    assert writer.tail_first == journal.bounds(A).end == 20_001


def test_readers_get_what_is_in_memory_and_what_was_written_in_one_order() -> None:
    journal, writer = opened(SimDisk(random.Random(1)))
    writer.append(1, None, b"0")
    commit(journal)
    for index in range(1, 30):
        writer.append(1, None, b"%d" % index)
        if index == 10:
            writer.spill()
            commit(journal)
        if index == 15:
            writer.spill()
            sealed = journal.seal()
    assert journal.bounds(A).end == 30
    expected = [(index, b"%d" % index) for index in range(30)]
    for _ in range(2):
        for start in (0, 5, 11, 20, 29):
            found: list[tuple[int, bytes]] = []
            offset = start
            while offset < 30:
                found += read(journal, offset, bytes_max=200)
                offset = found[-1][0] + 1
            assert [each for each in found if each[0] >= start] == expected[start:]
        if sealed is not None:
            sealed.write()
            journal.complete(sealed)
            sealed = None
    assert journal.bounds(A).end == 30


def test_a_tail_half_full_is_written() -> None:
    journal, writer = opened(SimDisk(random.Random(1)))
    writer.append(1, None, b"held")
    commit(journal)
    for _ in range(40):
        writer.append(1, None, bytes(1000))
    assert journal.patience_s is None, "as much as a commit takes: it goes at once"
    assert journal.pending_bytes > 32 * KIB
    commit(journal)
    assert writer.tail_bytes == 0
    assert journal.pending_bytes == 0


def test_an_orderly_stop_writes_the_tail_and_declares_nothing() -> None:
    disk = SimDisk(random.Random(1))
    journal, writer = opened(disk)
    for _ in range(5):
        writer.append(1, None, b"v")
        commit(journal)
    writer.sent(3)
    journal.renounce()
    commit(journal)
    disk.restart(power_cut=True)
    again, _ = opened(disk)
    assert not again.recovery.volatile
    assert again.bounds(A).end == 5
    assert [offset for offset, _ in read(again, 0)][-1] == 4


def test_a_partition_that_was_never_written_is_known_after_a_power_cut() -> None:
    disk = SimDisk(random.Random(1))
    journal, writer = opened(disk)
    writer.append(1, None, b"held")
    commit(journal)
    for _ in range(10):
        writer.append(1, None, b"v")
    writer.sent(8)
    disk.restart(power_cut=True)
    again, later = opened(disk)
    (loss,) = again.recovery.volatile
    assert loss.first == 1
    assert loss.last + 1 == later.next_offset == again.bounds(A).end
    assert A in again.partitions()
    assert read(again, 5) == []


class VolatileLife(EarlyLife):
    """As EarlyLife, with streams `a` in memory, and a cloud that takes what it can read."""

    rules = RULES

    def _step(self, journal: FileJournal) -> None:
        turn = self.rng.random()
        partition = TopicPartition("a", self.rng.randint(0, 1))
        writer = journal.volatile.get(partition)
        if writer is not None and turn < 0.15:
            self._send(journal, writer)
        elif writer is not None and turn < 0.25:
            writer.spill()
        else:
            super()._step(journal)

    def _send(self, journal: FileJournal, writer: VolatileWriter) -> None:
        """The cloud takes from memory; what it took must be what was given at that offset."""
        seen: int = writer.tail_first
        for batch in journal.read_sync(writer.partition, seen, bytes_max=5000):
            for record in decode_batch(batch)[1]:
                place = (writer.partition, record.offset)
                assert (record.value or b"") in self.model.tried[place]
                self.given.add(place)
                self.model.lost.add(place)  # it need not be here any more
                seen = record.offset + 1
        writer.sent(seen)

    def _commit(self, journal: FileJournal) -> None:
        before = {p: w.tail_first for p, w in journal.volatile.items()}
        super(EarlyLife, self)._commit(journal)
        for partition, writer in journal.volatile.items():
            written = range(before.get(partition, 0), writer.tail_first)
            self.committed |= {(partition, offset) for offset in written}

    def append(self, journal: FileJournal) -> tuple[TopicPartition, int, bytes]:
        found = super().append(journal)
        if self.rng.random() < 0.05:
            journal.writer(found[0]).hurry()
        return found


@pytest.mark.parametrize("block", range(4))
def test_memory_streams_through_every_life(block: int) -> None:
    given = 0
    for seed in seeds(block)[::6]:  # jumps are wide, and each offset is looked at
        life = VolatileLife(seed)
        try:
            life.lead(rounds=3)
        except (Exception, SimCrash) as error:
            raise AssertionError(f"seed {seed}: rerun with HEADWATER_SEED={seed}") from error
        given += len(life.given)
    assert given > 20


def test_an_orderly_stop_that_leaves_the_tail_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VolatileWriter, "stop", EarlyWriter.stop)
    noticed = 0
    for seed in range(60):
        try:
            VolatileLife(seed).lead(rounds=2)
        except AssertionError:
            noticed += 1
    assert noticed


def test_contents_of_a_journal_with_a_tail_are_whole_after_reopening() -> None:
    disk = SimDisk(random.Random(1))
    journal, writer = opened(disk)
    for index in range(100):
        writer.append(1, None, b"%d" % index)
        if index % 7 == 0:
            commit(journal)
    journal.renounce()
    commit(journal)
    journal.close()
    disk.restart(power_cut=False)
    again, _ = opened(disk)
    assert sorted(contents(again)[A]) == list(range(100))
