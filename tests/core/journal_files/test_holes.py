"""Segment files that vanish between two lives: start-up goes on, and what they held is stated, once and exactly."""

from __future__ import annotations

import os
import random

import msgspec
import pytest

from headwater.core.journal.files import FileJournal
from headwater.core.journal.files.holes import between, holes_in, united
from headwater.core.journal.files.inspection import verify
from headwater.core.journal.files.planning import plan
from headwater.core.journal.files.retention import carry_out
from headwater.core.journal.files.settings import StreamRetention, WhenFull
from headwater.core.journal.files.state import load_state, store_state
from headwater.core.record import TopicPartition
from headwater.core.units import ByteSize
from tests.core.journal_files.oracle import DIRECTORY, PARTITIONS, Life, contents, open_journal
from tests.core.journal_files.test_damage import filled, put, segment
from tests.core.journal_files.test_retention import TIGHT
from tests.sim.disk import SimCrash, SimDisk

A, B = TopicPartition("a", 0), TopicPartition("b", 0)
Told = set[tuple[TopicPartition, int, int]]


def delete(disk: SimDisk, *sequences: int) -> None:
    for sequence in sequences:
        disk.remove(segment(sequence))
    disk.sync_directory(DIRECTORY)


def told(journal: FileJournal) -> Told:
    return {(x.partition, x.first, x.last) for x in journal.recovery.losses}


def test_ranges() -> None:
    assert united([(5, 6), (1, 2), (3, 3), (6, 9)]) == [(1, 3), (5, 9)]
    assert between(1, 9, [(0, 2), (5, 5)]) == [(3, 4), (6, 9)]
    assert between(3, 2, []) == []


def test_what_the_next_header_does_not_name_was_never_in_use() -> None:
    before = {4: 2, 9: 7}
    (hole,) = holes_in([2, 4, 9], [(1, 1), (6, 6)], last=9, previous_of=before.get)
    assert (hole.ranges, hole.after) == ([(5, 5), (7, 7)], 9)
    (hole,) = holes_in([2], [(1, 1)], last=4, previous_of=before.get)
    assert (hole.ranges, hole.after) == ([(3, 4)], None)


@pytest.mark.parametrize("gone", [[1], [2], [3], [2, 3], [1, 3], [1, 2, 3]])
def test_deleted_segments_are_declared_exactly_and_again_until_retired(gone: list[int]) -> None:
    disk = SimDisk(random.Random(0))
    journal = filled(disk, segments=5)
    before = contents(journal)
    footers = {s: dict(journal.shelf.footer(s).present()) for s in journal.shelf.sequences}
    ends = {p: journal.bounds(p).end for p in PARTITIONS}
    journal.close()
    delete(disk, *gone)
    report = verify(DIRECTORY, disk=disk)
    assert any(segment(gone[0])[-20:] in line for line in report.damage)
    journal = open_journal(disk)
    lost = {(p, o) for s in gone for p, x in footers[s].items() for o in range(x.base, x.end)}
    declared = {(p, o) for p, first, last in told(journal) for o in range(first, last + 1)}
    assert declared == lost
    assert any(f"{gone[0]:020d}.segment" in warning for warning in journal.recovery.warnings)
    assert {p: journal.bounds(p).end for p in PARTITIONS} == ends
    after = contents(journal)
    for partition, records in before.items():
        assert after[partition] == {o: v for o, v in records.items() if (partition, o) not in lost}
    ranges = told(journal)
    journal.close()
    journal = open_journal(disk)
    assert told(journal) == ranges, "a crash may have come before the gap records were durable"
    assert not journal.recovery.warnings, "warned of once"
    assert any("told at an earlier start" in line for line in verify(DIRECTORY, disk=disk).warnings)


def test_the_last_sealed_one_deleted_makes_those_jump_that_nothing_tells_of() -> None:
    disk = SimDisk(random.Random(0))
    journal = open_journal(disk)
    put(journal, A, 2)
    while len(journal.shelf.sequences) < 2:
        put(journal, B, size=15000)
    newest = journal.shelf.active
    assert newest is not None
    put(journal, A, 1)
    ends = {p: journal.bounds(p).end for p in (A, B)}
    journal.close()
    delete(disk, 2)
    journal = open_journal(disk)
    assert all(journal.bounds(p).end >= end for p, end in ends.items()), "none is given twice"
    assert contents(journal)[A].keys() == {0, 1, 2}
    assert {p for p, _, _ in told(journal)} == {B}


def test_the_newest_deleted_makes_every_next_offset_jump() -> None:
    disk = SimDisk(random.Random(0))
    journal = filled(disk, segments=4)
    while journal.appender.prepare():
        pass
    ends = {p: journal.bounds(p).end for p in PARTITIONS}
    journal.close()
    delete(disk, 4)
    assert not verify(DIRECTORY, disk=disk).whole
    journal = open_journal(disk)
    bounds = {p: journal.bounds(p) for p in PARTITIONS}
    assert all(bounds[p].end >= end for p, end in ends.items())
    assert {p for p, _, _ in told(journal)} == set(PARTITIONS)
    assert {last + 1 for _, _, last in told(journal)} == {b.end for b in bounds.values()}
    journal.close()
    journal = open_journal(disk)
    assert {p: journal.bounds(p) for p in PARTITIONS} == bounds


def retired_in_the_middle(disk: SimDisk) -> FileJournal:
    """B holds the first segment and is not dropped; A's go from behind it."""
    journal = open_journal(disk, settings=TIGHT)
    put(journal, B)
    while len(journal.shelf.sequences) < 5:
        put(journal, A, size=15000)
    rules = {"a": StreamRetention(when_full=WhenFull.DROP_OLDEST)}
    carry_out(journal, plan(journal, 0, rules=rules, sent={}))
    assert journal.shelf.sequences[:1] == [1]
    assert journal.shelf.sequences[1] > 2, "there is a hole"
    return journal


def test_what_retention_took_out_of_the_middle_is_no_damage() -> None:
    disk = SimDisk(random.Random(0))
    retired_in_the_middle(disk).close()
    assert verify(DIRECTORY, disk=disk).whole
    journal = open_journal(disk, settings=TIGHT)
    assert not journal.recovery.losses
    assert not journal.recovery.warnings


def test_a_crash_at_each_call_of_retiring_makes_no_false_alarm() -> None:
    counting = SimDisk(random.Random(0))
    retired_in_the_middle(counting)
    for call in range(counting.calls - 40, counting.calls + 1):
        disk = SimDisk(random.Random(0))
        disk.crash_at = call
        with pytest.raises(SimCrash):
            retired_in_the_middle(disk)
        disk.restart()
        journal = open_journal(disk, settings=TIGHT)
        assert not journal.recovery.losses, f"call {call}"
        assert not journal.recovery.warnings, f"call {call}"


def test_a_state_of_before_there_was_a_list_takes_holes_for_retired_and_records_them() -> None:
    disk = SimDisk(random.Random(0))
    retired_in_the_middle(disk).close()
    state = load_state(disk, DIRECTORY).state
    assert state is not None
    store_state(disk, DIRECTORY, msgspec.structs.replace(state, absent=None))
    journal = open_journal(disk, settings=TIGHT)
    assert not journal.recovery.warnings
    assert not journal.recovery.losses
    last = journal.shelf.sequences[-1]
    journal.close()
    upgraded = load_state(disk, DIRECTORY).state
    assert upgraded is not None
    assert upgraded.absent == state.absent
    delete(disk, last)
    assert open_journal(disk, settings=TIGHT).recovery.losses, "from now on it is missed"


def test_without_any_state_a_hole_is_told_although_retention_may_have_made_it() -> None:
    disk = SimDisk(random.Random(0))
    journal = filled(disk, segments=5)
    exact = {(p, s.base, s.end - 1) for p, s in journal.shelf.footer(3).present()}
    journal.close()
    delete(disk, 3)
    for name in ("state.a", "state.b"):
        disk.flip(f"{DIRECTORY}/{name}", 20)
    assert told(open_journal(disk)) == exact


def test_a_number_that_the_disk_refused_is_no_hole() -> None:
    disk = SimDisk(random.Random(4))
    journal = filled(disk, segments=3)
    sync = disk.sync_directory
    failing = [True]

    def refuse(path: str) -> None:
        if failing and path == DIRECTORY:
            failing.clear()
            disk.name_error = 1.0
            try:
                sync(path)
            finally:
                disk.name_error = 0.0
        sync(path)

    disk.sync_directory = refuse  # type: ignore[method-assign]
    while failing:
        put(journal, A, size=15000)
    disk.sync_directory = sync  # type: ignore[method-assign]
    journal.close()
    journal = open_journal(disk)
    assert not journal.recovery.losses
    assert not journal.recovery.warnings


def test_the_list_stays_small_however_long_the_log_lives() -> None:
    disk = SimDisk(random.Random(0))
    journal = open_journal(disk)
    rule = StreamRetention(bytes_max=ByteSize(100_000), when_full=WhenFull.DROP_OLDEST)
    for _ in range(60):
        put(journal, A, 4, size=15000)
        carry_out(journal, plan(journal, 0, rules={"a": rule}, sent=None))
    assert journal.appender.absent == [(1, journal.shelf.sequences[0] - 1)]


def test_any_segment_deleted_between_lives_is_declared() -> None:
    effective = 0
    for seed in range(int(os.environ.get("HEADWATER_HOLES", "150"))):
        rng = random.Random(seed)
        life = Life(seed)
        try:
            for _ in range(2):
                journal = life.open()
                for turn in range(rng.randint(3, 14)):
                    life._commit(journal)
                    if turn % 5 == 3:
                        life._retain(journal)
                journal.appender.prepare()
                standing = list(journal.shelf.sequences)
                newest = journal.shelf.active
                assert newest is not None
                journal.close()
                chosen = [newest.sequence, *standing]
                delete(life.disk, *rng.sample(chosen, rng.choice((1, 1, min(2, len(chosen))))))
                life.check()
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
        effective += bool(life.model.lost)
    assert effective > 30
