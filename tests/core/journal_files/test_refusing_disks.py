"""A disk that refuses: full, read-only, failing. Nothing acknowledged is lost, the commit can be tried again."""

from __future__ import annotations

import random

import pytest

from headwater.core.clock import ManualClock
from headwater.core.disk import DiskFull
from headwater.core.errors import AlreadyExists, Closed, Refused, Unavailable
from headwater.core.journal.files import Commit, FileJournal, FileJournalSettings
from headwater.core.record import TopicPartition
from headwater.core.units import KIB, ByteSize
from tests.core.journal_files.oracle import DIRECTORY, SMALL, contents, open_journal
from tests.core.journal_files.test_damage import put
from tests.sim.disk import SimDisk

A = TopicPartition("a", 0)


def sealed(journal: FileJournal, value: bytes = b"v") -> Commit:
    journal.writer(A).append(1, None, value)
    commit = journal.seal()
    assert commit is not None
    return commit


def test_a_full_disk_keeps_the_commit_and_takes_it_when_there_is_room() -> None:
    disk = SimDisk(random.Random(0))
    disk.copy_on_write = True  # plain append: each commit needs new space
    journal = open_journal(disk)
    put(journal, A)
    disk.full = True
    commit = sealed(journal)
    for _ in range(3):
        with pytest.raises(DiskFull, match="no space left"):
            commit.write()
    assert journal.bounds(A).end == 1, "not readable before it is durable"
    disk.full = False
    commit.write()
    journal.complete(commit)
    assert journal.counters.segments_abandoned == 0, (
        "a full disk is no reason to distrust the segment"
    )
    disk.restart(keep=0.0)
    assert contents(open_journal(disk))[A].keys() == {0, 1}


def test_a_failed_sync_is_never_repeated_and_the_segment_never_written_again() -> None:
    disk = SimDisk(random.Random(0))
    journal = open_journal(disk)
    put(journal, A)
    commit = sealed(journal, b"second")
    abandoned = disk.bytes_of(f"{DIRECTORY}/{1:020d}.segment")[:8192]
    failures = 0

    def fail_once(probability: float) -> bool:
        nonlocal failures
        if probability > 0 and failures == 0:
            failures += 1
            return True
        return False

    disk.sync_error = 1.0
    disk.chance = fail_once  # type: ignore[method-assign]
    commit.write()
    journal.complete(commit)
    assert journal.counters.segments_abandoned == 1
    put(journal, A)
    assert disk.bytes_of(f"{DIRECTORY}/{1:020d}.segment")[:8192] == abandoned
    found = contents(journal)[A]
    assert found[1] == b"second"
    assert found.keys() == {0, 1, 2}, (
        "same offsets, each once, though the first attempt may be whole on disk"
    )
    disk.restart()
    assert contents(open_journal(disk))[A] == found


def test_a_read_only_disk_stalls_with_a_reason_and_loses_nothing() -> None:
    disk = SimDisk(random.Random(0))
    journal = open_journal(disk)
    put(journal, A, 5)
    disk.read_only = True
    commit = sealed(journal)
    with pytest.raises(Unavailable, match="read-only file system"):
        commit.write()
    assert contents(journal)[A].keys() == set(range(5)), "still readable"
    disk.read_only = False
    commit.write()
    journal.complete(commit)
    disk.restart()
    assert contents(open_journal(disk))[A].keys() == set(range(6))


def test_a_new_journal_on_an_unwritable_disk_says_so() -> None:
    disk = SimDisk(random.Random(0))
    disk.read_only = True
    with pytest.raises(Unavailable, match="read-only file system"):
        open_journal(disk)
    assert not disk.locked, "the lock is given back"


def test_one_process_per_directory() -> None:
    disk = SimDisk(random.Random(0))
    journal = open_journal(disk)
    with pytest.raises(Refused, match="in use by process"):
        open_journal(disk)
    journal.close()
    open_journal(disk).close()


def test_a_record_above_the_limit_is_refused_and_takes_no_offset() -> None:
    journal = open_journal(SimDisk(random.Random(0)))
    writer = journal.writer(A)
    with pytest.raises(Refused, match="above"):
        writer.append(1, None, bytes(int(SMALL.record_bytes_max) + 100))
    with pytest.raises(Refused, match="above"):
        writer.append(1, b"k", b"v", (("é" * 13_000, None),))
    assert writer.next_offset == 0
    writer.append(1, None, bytes(int(SMALL.record_bytes_max) - 100))
    put(journal, A)
    assert contents(journal)[A].keys() == {0, 1}


def test_a_large_commit_becomes_several_frames_and_one_number() -> None:
    disk = SimDisk(random.Random(0))
    journal = open_journal(disk)
    for index in range(200):
        journal.writer(TopicPartition("a", index % 3)).append(index, b"key", bytes(1000))
    commit = journal.seal()
    assert commit is not None
    assert len(commit.frames) > 8
    commit.write()
    journal.complete(commit)
    assert journal.durable_commit == commit.number
    assert journal.pending_bytes == 0
    found = contents(journal)
    assert sum(len(records) for records in found.values()) == 200
    disk.restart(keep=0.0)
    assert contents(open_journal(disk)) == found


def test_partitions_are_limited_by_what_a_segment_can_index() -> None:
    disk = SimDisk(random.Random(0))
    journal = open_journal(disk)
    count = 0
    while journal.appender.partitions_fit(count + 1, 1, 1):
        journal.writer(TopicPartition("a", count)).append(1, None, b"")
        count += 1
    assert count > 200
    with pytest.raises(Refused, match="partitions are as many as"):
        journal.writer(TopicPartition("a", count))
    for _ in range(5):
        put(journal, A, 2, size=20000)
    disk.restart()
    assert len(open_journal(disk).partitions()) == count


def test_a_closed_journal_takes_nothing() -> None:
    journal = open_journal(SimDisk(random.Random(0)))
    writer = journal.writer(A)
    journal.close()
    journal.close()
    with pytest.raises(Closed):
        writer.append(1, None, b"")
    with pytest.raises(Closed):
        journal.note(1, b"")


def test_notes_come_back_from_the_checkpoint_on() -> None:
    disk = SimDisk(random.Random(0))
    journal = open_journal(disk)
    numbers = []
    for index in range(12):
        numbers.append(journal.note(3, f"mark {index}".encode()))
        put(journal, A, size=9000)
    journal.note(3, b"not durable")
    disk.restart()
    journal = FileJournal.open(
        DIRECTORY,
        disk=disk,
        clock=ManualClock(),
        settings=SMALL,
        rng=random.Random(1),
        notes_since=numbers[7],
    )
    assert [note.payload for note in journal.recovery.notes] == [
        f"mark {index}".encode() for index in range(7, 12)
    ]
    assert [note.commit for note in journal.recovery.notes] == numbers[7:]


def test_settings_that_cannot_work_together_are_refused() -> None:
    with pytest.raises(Refused, match="multiple of 4KiB"):
        FileJournalSettings(segment_bytes=ByteSize(5000))
    with pytest.raises(Refused, match="at least 9 segments"):
        FileJournalSettings(bytes_max=ByteSize(1024))
    with pytest.raises(Refused, match="half of segment_bytes"):
        FileJournalSettings(record_bytes_max=ByteSize(3 * 1024 * KIB))


def test_creating_a_file_that_exists_is_an_error_of_its_own() -> None:
    disk = SimDisk(random.Random(0))
    disk.make_directory("/d")
    disk.create("/d/x")
    with pytest.raises(AlreadyExists):
        disk.create("/d/x")
