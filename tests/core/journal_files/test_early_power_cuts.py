"""Streams that are acknowledged early, through crashes: an offset that was given is never another record's, and what is
lost is told.

Owed beyond oracle.py: every record that was acknowledged early and is gone lies in a declared `volatile` loss; no such
loss covers a record that was acknowledged by its commit; an early offset is never given again.
"""

from __future__ import annotations

import random

import pytest

from headwater.core.journal.files import FileJournal
from headwater.core.journal.files.early import EarlyRule, EarlyWriter
from headwater.core.journal.files.inspection import verify
from headwater.core.journal.files.reservations import Reserved
from headwater.core.record import TopicPartition
from tests.core.journal_files.oracle import Life, contents, open_journal
from tests.core.journal_files.test_power_cuts import seeds
from tests.sim.disk import SimCrash, SimDisk

EARLY = {"a": EarlyRule(1.0)}
A = TopicPartition("a", 0)


class EarlyLife(Life):
    """Streams `a` is acknowledged early where it may be; commits come when they come."""

    rules = EARLY

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.given: set[tuple[TopicPartition, int]] = set()
        self.committed: set[tuple[TopicPartition, int]] = set()

    def open(self) -> FileJournal:
        self.clock.advance(1)
        journal = open_journal(
            self.disk, seed=self.rng.getrandbits(32), clock=self.clock, early=self.rules
        )
        for loss in journal.recovery.volatile:
            for offset in range(loss.first, loss.last + 1):
                assert (loss.partition, offset) not in self.committed, f"{loss} is on disk"
        self.model.declare(journal.recovery.volatile)
        return journal

    def append(self, journal: FileJournal) -> tuple[TopicPartition, int, bytes]:
        partition, offset, value = super().append(journal)
        assert (partition, offset) not in self.given, f"{partition}/{offset} was given twice"
        if journal.writer(partition).passed:
            self.given.add((partition, offset))
            self.model.acknowledged.setdefault(partition, {})[offset] = value
        return partition, offset, value

    def _step(self, journal: FileJournal) -> None:
        turn = self.rng.random()
        if turn < 0.3:  # appended, perhaps acknowledged, and no commit
            self.append(journal)
        elif turn < 0.36:  # an orderly stop, or nearly
            journal.renounce()
            self._commit(journal)
        else:
            super()._step(journal)

    def _commit(self, journal: FileJournal) -> None:
        super()._commit(journal)
        self.committed |= {(p, o) for p, r in contents(journal).items() for o in r}


@pytest.mark.parametrize("block", range(4))
def test_early_acknowledgements_through_every_life(block: int) -> None:
    lost = given = 0
    for seed in seeds(block)[:: 2 if block else 1]:
        life = EarlyLife(seed)
        try:
            life.lead(rounds=3)
        except (Exception, SimCrash) as error:
            raise AssertionError(f"seed {seed}: rerun with HEADWATER_SEED={seed}") from error
        given += len(life.given)
        lost += len(life.model.lost)
    assert given > 100, "nothing was acknowledged early: the lives prove nothing"
    assert lost > 10, "no early record was ever lost: the lives prove nothing"


def test_a_writer_that_reserves_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def unfounded(writer: EarlyWriter, records: int) -> Reserved | None:
        del records
        writer.reserved = 2**62
        writer._held = False
        return None

    monkeypatch.setattr(EarlyWriter, "reservation", unfounded)
    noticed = 0
    for seed in range(100):
        try:
            EarlyLife(seed).lead(rounds=3)
        except AssertionError:
            noticed += 1
    assert noticed > 12


def _filled(disk: SimDisk, count: int) -> FileJournal:
    journal = open_journal(disk, early=EARLY)
    for _ in range(2):
        journal.writer(A).append(1, None, b"held, then on disk")
        commit = journal.seal()
        assert commit is not None
        commit.write()
        journal.complete(commit)
    for _ in range(count):
        journal.writer(A).append(1, None, b"early")
    return journal


def test_the_first_record_is_held_and_those_within_the_reservation_are_not() -> None:
    journal = open_journal(SimDisk(random.Random(1)), early=EARLY)
    writer = journal.writer(A)
    writer.append(1, None, b"first")
    assert not writer.passed
    assert journal.patience_s is None, "it asks for its commit at once"
    commit = journal.seal()
    assert commit is not None
    writer.append(1, None, b"overtakes nothing")
    assert not writer.passed
    commit.write()
    journal.complete(commit)
    writer.append(1, None, b"still behind one that is held")
    assert not writer.passed
    commit = journal.seal()
    assert commit is not None
    commit.write()
    journal.complete(commit)
    writer.append(1, None, b"early")
    assert writer.passed
    assert journal.patience_s == 1.0
    journal.hurry()
    assert journal.patience_s is None


def test_an_orderly_stop_loses_nothing_and_jumps_nowhere() -> None:
    disk = SimDisk(random.Random(1))
    journal = _filled(disk, 5)
    journal.renounce()
    commit = journal.seal()
    assert commit is not None
    commit.write()
    journal.complete(commit)
    journal.writer(A).append(1, None, b"after the end")
    assert not journal.writer(A).passed
    disk.restart(power_cut=True)
    again = open_journal(disk, early=EARLY)
    assert not again.recovery.volatile
    assert again.bounds(A).end == again.writer(A).next_offset == 7


def test_a_power_cut_jumps_over_what_was_given_and_says_so_until_a_commit_follows() -> None:
    disk = SimDisk(random.Random(1))
    _filled(disk, 5)
    for _ in range(3):
        disk.restart(power_cut=True)
        again = open_journal(disk, early=EARLY)
        (loss,) = again.recovery.volatile
        assert (loss.partition, loss.first) == (A, 2)
        assert 7 <= again.writer(A).next_offset == loss.last + 1 <= 2 + 80
        assert "at most" in loss.detail
    again.writer(A).append(1, None, b"beyond the jump")
    commit = again.seal()
    assert commit is not None
    commit.write()
    found = verify("/j", disk=disk)
    assert found.whole, found.damage
    assert any("were reserved" in warning for warning in found.warnings)


def test_reservations_outlive_every_segment_they_were_written_in() -> None:
    disk = SimDisk(random.Random(1))
    journal = _filled(disk, 0)
    b = TopicPartition("b", 0)
    for _ in range(30):  # several segments of 64 KiB, with nothing of `a` in them
        journal.writer(b).append(1, None, bytes(9000))
        commit = journal.seal()
        assert commit is not None
        commit.write()
        journal.complete(commit)
    assert journal.counters.segments_sealed > 2
    journal.writer(A).append(1, None, b"early")
    assert journal.writer(A).passed
    disk.restart(power_cut=True)
    (loss,) = open_journal(disk, early=EARLY).recovery.volatile
    assert loss.first == 2


def test_damage_that_may_hide_a_reservation_makes_the_jump_wider() -> None:
    """Bit rot in the frame that reserved, with frames after it: what it reserved may have been given."""
    disk = SimDisk(random.Random(1))
    journal = open_journal(disk, early=EARLY)
    b = TopicPartition("b", 0)

    def commit(partition: TopicPartition, value: bytes) -> int:
        journal.writer(partition).append(1, None, value)
        sealed = journal.seal()
        assert sealed is not None
        place = journal.appender.position
        sealed.write()
        journal.complete(sealed)
        return place

    commit(A, b"first")
    for _ in range(60):
        journal.writer(A).append(1, None, b"early")
    second = commit(A, b"renews what is reserved")
    commit(b, b"after it")
    given = 0
    while journal.writer(A).append(1, None, b"early") >= 0 and journal.writer(A).passed:
        given = journal.writer(A).next_offset
    assert given > 66, "beyond what the first note reserved"
    disk.flip("/j/00000000000000000001.segment", second + 100)
    disk.restart(power_cut=True)
    for _ in range(2):
        again = open_journal(disk, early=EARLY)
        assert again.recovery.damage
        assert again.writer(A).next_offset >= given
        again.close()
