"""Notes through crashes: a commit is there as a whole, or not at all.

The edge notes beside a commit's records who sent them, so that a repetition is known for one. Were the records there and
their note not, it would be stored twice; were the note there and its records not, it would be lost. Owed beyond oracle.py:

  every note that was acknowledged and is still wanted (`need_notes_from`) is there, once, in order
  a note that is there has all its records; records that nobody was told of have their note
The second is not promised where a failing disk spread a commit over two segments (FORMAT.md), so such lives are not asked.
SQLite, which keeps the checkpoint beside the log, cannot run on this disk: tests/powercut has it under a real ext4.
"""

from __future__ import annotations

import os
import random

import pytest

from headwater.core.journal.files import FileJournal, recovery
from headwater.core.journal.files.scan import Scan, scan
from headwater.core.record import TopicPartition
from tests.core.journal_files.oracle import Contents, Life, contents, open_journal
from tests.core.journal_files.test_power_cuts import seeds
from tests.sim.disk import SimCrash, SimDisk

KIND = 9
A, B = TopicPartition("a", 0), TopicPartition("b", 0)
Named = list[tuple[TopicPartition, int, bytes]]


class NotedLife(Life):
    """Each commit carries a note of its records; now and then a checkpoint makes older notes unwanted."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.open_records: Named = []
        self.named: dict[bytes, Named] = {}
        self.acknowledged_notes: list[tuple[int, bytes]] = []
        self.wanted_from = 0

    def open(self) -> FileJournal:
        journal = super().open()
        self.open_records = []
        journal.need_notes_from(self.wanted_from)
        journal.before_seal(lambda commit: self._note(journal))
        return journal

    def append(self, journal: FileJournal) -> tuple[TopicPartition, int, bytes]:
        appended = super().append(journal)
        self.open_records.append(appended)
        return appended

    def _note(self, journal: FileJournal) -> None:
        name = b"note %d" % len(self.named)
        self.named[name], self.open_records = self.open_records, []
        journal.note(KIND, name)

    def _commit(self, journal: FileJournal) -> None:
        before, commit = len(self.named), journal.open_commit
        super()._commit(journal)
        if len(self.named) > before:
            self.acknowledged_notes.append((commit, list(self.named)[-1]))
        if self.rng.random() < 0.1:
            self.wanted_from = journal.open_commit
            journal.need_notes_from(self.wanted_from)

    def check(self) -> None:
        journal = self.open()
        found = [(note.commit, note.payload) for note in journal.notes(self.wanted_from)]
        assert found == sorted(set(found)), "notes are out of order, or twice"
        wanted = [each for each in self.acknowledged_notes if each[0] >= self.wanted_from]
        if not journal.recovery.damage:
            assert [each for each in found if each in wanted] == wanted, (
                "an acknowledged note is lost"
            )
        shown = contents(journal)
        for _, name in found:
            self._has_records(journal, shown, name)
        self.acknowledged_notes = found
        journal.close()
        self.disk.restart(power_cut=False)
        super().check()

    def _has_records(self, journal: FileJournal, shown: Contents, name: bytes) -> None:
        for partition, offset, value in self.named[name]:
            if (partition, offset) in self.model.lost or offset < journal.bounds(partition).start:
                continue
            assert shown[partition].get(offset) == value, f"{name!r} without {partition}/{offset}"


@pytest.mark.parametrize("block", range(2))
def test_notes_survive_every_life_with_their_records(block: int) -> None:
    noted = 0
    for seed in seeds(block)[::2]:
        life = NotedLife(seed)
        try:
            life.lead(rounds=2)
        except (Exception, SimCrash) as error:
            raise AssertionError(f"seed {seed}: rerun with HEADWATER_SEED={seed}") from error
        noted += len(life.acknowledged_notes)
    if "HEADWATER_SEED" not in os.environ:
        assert noted > 20, "hardly a note outlived a crash: the lives prove nothing"


def _script(disk: SimDisk) -> None:
    """Commits of several frames, segment after segment."""
    journal = open_journal(disk)
    for number in range(6):
        for partition, size in ((A, 9000), (B, 9000), (A, 9000), (B, 30)):
            journal.writer(partition).append(1, None, bytes([number]) * size)
        journal.note(KIND, bytes([number]))
        commit = journal.seal()
        assert commit is not None
        commit.write()
        journal.complete(commit)


def _parts(keep: float) -> list[int]:
    """At each disk call a power cut: the calls after which a commit is there in part."""
    counting = SimDisk(random.Random(1))
    _script(counting)
    partial = []
    for call in range(1, counting.calls + 1):
        disk = SimDisk(random.Random(call))
        disk.crash_at = call
        with pytest.raises(SimCrash):
            _script(disk)
        disk.restart(power_cut=True, keep=keep)
        for _ in range(2):  # recovering again shows the same
            journal = open_journal(disk)
            noted = {note.payload[0] for note in journal.notes(0)}
            shown = [
                value[0] for records in contents(journal).values() for value in records.values()
            ]
            if sorted(shown) != sorted(4 * list(noted)):
                partial.append(call)
            disk.restart(power_cut=True)
    return partial


@pytest.mark.parametrize("keep", [0.0, 0.5, 1.0])
def test_a_commit_of_several_frames_is_there_whole_or_not_at_all(keep: float) -> None:
    assert not _parts(keep)


def test_a_recovery_that_keeps_parts_of_a_commit_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def frame_by_frame(buffer: bytes, *, salt: int, sequence: int) -> Scan:
        return scan(buffer, salt=salt, sequence=sequence)._replace(partial=0)

    monkeypatch.setattr(recovery, "scan", frame_by_frame)
    assert _parts(1.0)


def test_after_a_part_was_cut_off_what_follows_is_kept() -> None:
    counting = SimDisk(random.Random(1))
    _script(counting)
    for call in range(counting.calls - 12, counting.calls + 1):
        disk = SimDisk(random.Random(call))
        disk.crash_at = call
        with pytest.raises(SimCrash):
            _script(disk)
        disk.restart(power_cut=True, keep=1.0)
        journal = open_journal(disk)
        before = contents(journal)
        offset = journal.writer(A).append(1, None, b"after")
        commit = journal.seal()
        assert commit is not None
        commit.write()
        journal.complete(commit)
        disk.restart(power_cut=True)
        again = contents(open_journal(disk))
        assert again.pop(A) == before.pop(A) | {offset: b"after"}
        assert again == before


@pytest.mark.parametrize("keep", [0.0, 0.5, 1.0])
def test_a_segment_of_notes_alone_still_tells_them_when_recovery_closes_it(keep: float) -> None:
    """What it closes it for is a commit of two frames of which the power left one; no batch stands before that."""
    for call in range(1, 5):
        disk = SimDisk(random.Random(call))
        journal = open_journal(disk)
        for number in range(3):
            journal.note(KIND, b"%d" % number)
            _commit_all(journal)
        journal.writer(A).append(1, None, bytes(15_000))
        journal.writer(B).append(1, None, bytes(15_000))
        disk.crash_at = disk.calls + call
        with pytest.raises(SimCrash):
            _commit_all(journal)
        disk.restart(power_cut=True, keep=keep)
        for _ in range(2):
            found = [note.payload for note in open_journal(disk).notes(0)]
            assert found[:3] == [b"0", b"1", b"2"]
            disk.restart(power_cut=True)


def _commit_all(journal: FileJournal) -> None:
    commit = journal.seal()
    assert commit is not None
    commit.write()
    journal.complete(commit)
