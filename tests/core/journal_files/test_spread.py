"""A commit that needs several segments is there as a whole or not at all: its notes say who sent its records."""

from __future__ import annotations

import contextlib
import random

import pytest

from headwater.core.errors import Unavailable
from headwater.core.journal.files import FileJournal
from headwater.core.record import TopicPartition
from tests.core.journal_files.oracle import Contents, contents, open_journal
from tests.core.journal_files.test_damage import put
from tests.sim.disk import SimCrash, SimDisk

A, B = TopicPartition("a", 0), TopicPartition("b", 0)
NOTE = (7, b"who sent them")


def large(journal: FileJournal) -> None:
    """Four segments of records in two partitions, and a note that belongs to them."""
    for number in range(24):
        journal.writer(A if number % 3 else B).append(number, None, b"x" * 10_000)
    journal.note(*NOTE)
    commit = journal.seal()
    assert commit is not None
    commit.write()
    journal.complete(commit)


def found(journal: FileJournal) -> tuple[Contents, list[tuple[int, bytes]]]:
    return contents(journal), [(note.kind, note.payload) for note in journal.notes(0)]


def started(seed: int, *, roll: bool) -> tuple[SimDisk, FileJournal]:
    """With commits before, in the segment that is open, or just sealed behind a full one."""
    disk = SimDisk(random.Random(seed))
    journal = open_journal(disk)
    put(journal, A, size=15000)
    while roll and len(journal.shelf.sequences) < 1:
        put(journal, B, size=15000)
    return disk, journal


@pytest.mark.parametrize("roll", [False, True])
def test_a_crash_at_each_disk_call_leaves_all_of_it_or_nothing(roll: bool) -> None:
    disk, journal = started(0, roll=roll)
    calls = disk.calls
    large(journal)
    calls, whole = disk.calls - calls, found(journal)
    assert len(journal.shelf.sequences) > 3
    parts = 0
    for call in range(calls + 1):
        for keep in (0.0, 0.5, 1.0):
            disk, journal = started(call, roll=roll)
            before = found(journal)
            disk.crash_at = disk.calls + call
            try:
                large(journal)
                disk.crash_at = None
            except SimCrash:
                pass
            disk.restart(keep=keep)
            standing = len(disk.list("/j"))
            journal = open_journal(disk)
            now = found(journal)
            assert now in (before, whole), f"call {call}, keep {keep}"
            assert not journal.recovery.losses
            assert not journal.recovery.damage
            parts += now == before and len(disk.list("/j")) < standing
            journal.close()
            journal = open_journal(disk)
            assert found(journal) == now, "recovering twice shows the same"
            put(journal, B, size=100)
            large(journal)
            after = found(journal)
            assert len(after[0][A]) == len(now[0][A]) + 16
            journal.close()
            assert found(open_journal(disk)) == after
    assert parts > 10, "some crashes left whole segments of it"


def test_it_is_taken_away_however_often_that_is_interrupted() -> None:
    interrupted = 0
    for seed in range(60):
        rng = random.Random(seed)
        disk, journal = started(seed, roll=True)
        before = found(journal)
        frames = 5  # of eleven
        write = journal.appender.write_frame
        count = iter(range(frames))

        def some(frame: object, write=write, count=count) -> None:  # type: ignore[no-untyped-def]
            if next(count, None) is None:
                raise SimCrash
            write(frame)

        journal.appender.write_frame = some  # type: ignore[method-assign]
        with pytest.raises(SimCrash):
            large(journal)
        disk.restart(keep=0.5)
        for _ in range(3):
            disk.crash_at = disk.calls + rng.randint(1, 30)
            try:
                open_journal(disk).close()
            except SimCrash:
                interrupted += 1
            disk.restart(keep=0.5)
        disk.crash_at = None
        journal = open_journal(disk)
        assert found(journal) == before, f"seed {seed}"
        assert not journal.recovery.losses
    assert interrupted > 60


@pytest.mark.parametrize("frames", [1, 3, 4, 8, 11])
@pytest.mark.parametrize("keep", [0.5, 1.0])
def test_a_full_disk_keeps_no_log_with_a_part_of_a_commit_from_starting(
    frames: int, keep: float
) -> None:
    """It is served without that part; nothing is appended before the state says that the part is gone."""
    for call in range(25):
        disk, journal = started(call, roll=True)
        before = found(journal)
        write = journal.appender.write_frame
        count = iter(range(frames))

        def some(frame: object, write=write, count=count) -> None:  # type: ignore[no-untyped-def]
            if next(count, None) is None:
                raise SimCrash
            write(frame)

        journal.appender.write_frame = some  # type: ignore[method-assign]
        with pytest.raises(SimCrash):
            large(journal)
        disk.restart(keep=keep)
        for name in disk.list("/j"):
            if name.endswith(".spare"):
                disk.take(f"/j/{name}")
        disk.full = True
        journal = open_journal(disk)
        assert found(journal) == before
        writer = journal.writer(B)
        offset = writer.append(1, None, bytes(100))
        commit = journal.seal()
        assert commit is not None
        disk.crash_at = disk.calls + call + 1
        is_written = False
        try:
            with contextlib.suppress(Unavailable):
                commit.write()
            disk.full = False
            commit.write()
            is_written = True
        except SimCrash:
            pass
        disk.restart(keep=keep)
        journal = open_journal(disk)
        now = found(journal)
        assert now[0][A] == before[0][A]
        assert now[1] == before[1]
        expected = {**before[0].get(B, {}), offset: bytes(100)}
        assert now[0].get(B, {}) == expected or (not is_written and now == before)
        assert not journal.recovery.losses
