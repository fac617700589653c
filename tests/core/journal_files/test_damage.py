"""Bytes that rotted: start-up never refuses, what is whole is served, what is not is declared, no offset is reused."""

from __future__ import annotations

import os
import random

import pytest

from headwater.core.errors import Missing
from headwater.core.journal.files import FileJournal, Loss, inspection
from headwater.core.journal.files.inspection import dump, verify
from headwater.core.record import TopicPartition
from tests.core.journal_files.oracle import DIRECTORY, PARTITIONS, Life, contents, open_journal
from tests.sim.disk import SimDisk

A, B = TopicPartition("a", 0), TopicPartition("b", 0)


def put(journal: FileJournal, partition: TopicPartition, count: int = 1, size: int = 40) -> None:
    for _ in range(count):
        journal.writer(partition).append(1, None, bytes(size))
    commit = journal.seal()
    assert commit is not None
    commit.write()
    journal.complete(commit)


def segment(sequence: int) -> str:
    return f"{DIRECTORY}/{sequence:020d}.segment"


def filled(disk: SimDisk, *, segments: int = 4) -> FileJournal:
    """Three partitions in each segment; every commit one record of 6,000 bytes each."""
    journal = open_journal(disk)
    while len(journal.shelf.sequences) < segments - 1:
        for partition in PARTITIONS:
            put(journal, partition, size=6000)
    for partition in PARTITIONS:
        put(journal, partition, size=6000)
    return journal


def test_any_flipped_byte_is_declared_or_harmless() -> None:
    effective = 0
    for seed in range(int(os.environ.get("HEADWATER_FLIPS", "400"))):
        rng = random.Random(seed)
        life = Life(seed)
        journal = life.open()
        for _ in range(rng.randint(3, 14)):
            before = journal.end_position
            life._commit(journal)
        newest = journal.shelf.active
        assert newest is not None
        last_frame = before.byte if before.segment == newest.sequence else 4096
        journal.close()
        sequences = [*journal.shelf.sequences, newest.sequence]
        sequence = rng.choice(sequences)
        # the newest commit's own damage cannot be told from a torn one: FORMAT.md says so
        limit = (
            last_frame
            if sequence == newest.sequence
            else len(life.disk.bytes_of(segment(sequence)))
        )
        start = rng.randrange(0, limit)
        for position in range(start, min(limit, start + rng.choice((1, 600, 9000)))):
            life.disk.flip(segment(sequence), position, rng.randint(1, 255))
        try:
            life.check()
            for _ in range(3):
                journal = life.open()
                life._commit(journal)
                journal.close()
            life.check()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {start} of segment {sequence}") from error
        effective += bool(life.model.lost)
    assert effective > 100


def test_a_damaged_segment_header_costs_no_record() -> None:
    disk = SimDisk(random.Random(0))
    journal = filled(disk)
    before = contents(journal)
    journal.close()
    for sequence in (1, 2, 4):
        for position in range(60):
            disk.flip(segment(sequence), position, 0xFF)
    journal = open_journal(disk)
    assert contents(journal) == before
    assert not journal.take_losses()


def test_a_sealed_segment_beyond_reading_is_set_aside_and_its_exact_ranges_declared() -> None:
    disk = SimDisk(random.Random(0))
    journal = filled(disk)
    before = contents(journal)
    footers = {s: dict(journal.shelf.footer(s).present()) for s in journal.shelf.sequences}
    journal.close()
    disk.put(segment(2), bytes(64 * 1024))
    journal = open_journal(disk)
    assert not journal.recovery.losses, "older segments are not read at start"
    after = contents(journal)
    losses = journal.take_losses()
    assert sorted((x.partition, x.first, x.last) for x in losses) == sorted(
        (p, s.base, s.end - 1) for p, s in footers[2].items()
    )
    gone = {(x.partition, o) for x in losses for o in range(x.first, x.last + 1)}
    for partition, records in before.items():
        assert after[partition] == {o: v for o, v in records.items() if (partition, o) not in gone}
    assert disk.list(f"{DIRECTORY}/quarantine") == ["00000000000000000002.segment"]
    assert not journal.take_losses(), "declared once"


def test_damage_in_the_middle_of_a_sealed_segment_is_read_around() -> None:
    disk = SimDisk(random.Random(0))
    journal = filled(disk)
    before = contents(journal)
    journal.close()
    disk.flip(segment(1), 4096 + 8192 + 200)  # the second frame's body
    journal = open_journal(disk)
    after = contents(journal)
    (loss,) = journal.take_losses()
    assert (loss.partition, loss.first, loss.last) == (PARTITIONS[1], 0, 0)
    assert "00000000000000000001.segment" in loss.detail
    assert "12288-20480" in loss.detail
    assert set(before[PARTITIONS[1]]) - set(after[PARTITIONS[1]]) == {0}
    assert after[A] == before[A]


def test_damage_in_the_open_segment_is_declared_at_start_and_never_reuses_offsets() -> None:
    disk = SimDisk(random.Random(0))
    journal = open_journal(disk)
    put(journal, A, 3)
    put(journal, PARTITIONS[1], 5)  # these lie in the frame that will rot
    put(journal, A, 2)
    journal.close()
    disk.flip(segment(1), 8192 + 100)
    journal = open_journal(disk)
    assert journal.bounds(A) == (0, 5)
    assert journal.writer(PARTITIONS[1]).next_offset >= 5, (
        "five offsets were given, none is given again"
    )
    assert contents(journal)[A].keys() == set(range(5))


def test_the_newest_segment_gone_whole_makes_every_next_offset_jump() -> None:
    disk = SimDisk(random.Random(0))
    journal = filled(disk, segments=3)
    ends = {p: journal.bounds(p).end for p in PARTITIONS}
    journal.close()
    disk.put(segment(3), bytes(64 * 1024))
    journal = open_journal(disk)
    lost = {loss.partition: loss for loss in journal.recovery.losses}
    for partition, end in ends.items():
        assert journal.bounds(partition).end >= end
        assert lost[partition].last + 1 == journal.bounds(partition).end
    bounds = {p: journal.bounds(p) for p in PARTITIONS}
    journal.close()
    journal = open_journal(disk)
    again = {loss.partition: (loss.first, loss.last) for loss in journal.recovery.losses}
    assert again == {p: (loss.first, loss.last) for p, loss in lost.items()}, (
        "told again: a crash may have come before the gap records were durable"
    )
    assert {p: journal.bounds(p) for p in PARTITIONS} == bounds


@pytest.mark.parametrize("copies", [["state.a"], ["state.b"], ["state.a", "state.b"]])
def test_the_state_is_kept_twice_and_its_identity_in_each_segment(copies: list[str]) -> None:
    disk = SimDisk(random.Random(0))
    journal = filled(disk)
    before, log_id = contents(journal), journal.log_id
    journal.close()
    for name in copies:
        disk.flip(f"{DIRECTORY}/{name}", 20)
    journal = open_journal(disk, seed=99)
    assert journal.log_id == log_id
    assert len(journal.recovery.warnings) >= len(copies)
    assert contents(journal) == before


def test_a_read_error_of_the_medium_is_a_declared_loss_not_a_stall() -> None:
    disk = SimDisk(random.Random(0))
    journal = open_journal(disk)
    put(journal, A, 3)
    disk.dead = [(segment(1), 0, 64 * 1024)]
    assert journal.read_sync(A, 0, bytes_max=1000) == []
    disk.dead = []
    (loss,) = journal.take_losses()
    assert (loss.partition, loss.first, loss.last) == (A, 0, 2)


def test_a_retired_segment_with_damage_is_kept_aside_and_not_recycled() -> None:
    disk = SimDisk(random.Random(0))
    journal = filled(disk)
    journal.close()
    disk.flip(segment(1), 4096 + 8192 + 200)
    journal = open_journal(disk)
    contents(journal)
    journal.appender.retire([1])
    assert disk.list(f"{DIRECTORY}/quarantine") == ["00000000000000000001.segment"]


def test_quarantine_is_bounded() -> None:
    disk = SimDisk(random.Random(0))
    journal = open_journal(disk)
    for _ in range(30):
        put(journal, A, 3, size=15000)
    sealed = list(journal.shelf.sequences)
    assert len(sealed) > 10
    journal.shelf.damaged.update(sealed)
    journal.appender.retire(sealed)
    assert len(disk.list(f"{DIRECTORY}/quarantine")) == journal.settings.quarantine_max


def test_losses_below_the_log_start_are_nobodys_loss() -> None:
    disk = SimDisk(random.Random(0))
    journal = open_journal(disk)
    put(journal, A, 9)
    journal.writer(A).start = 6
    journal.shelf.losses += [Loss(A, 0, 5, "x"), Loss(A, 4, 7, "x")]
    assert [(x.first, x.last) for x in journal.take_losses()] == [(6, 7)]


def test_verify_names_bytes_and_offsets_and_dump_shows_them() -> None:
    disk = SimDisk(random.Random(0))
    journal = filled(disk)
    assert verify(DIRECTORY, disk=disk).whole, "while it is open"
    journal.close()
    clean = verify(DIRECTORY, disk=disk)
    assert clean.whole
    assert clean.records == sum(len(r) for r in contents(open_journal(disk)).values())
    disk.flip(segment(2), 4096 + 100)
    report = verify(DIRECTORY, disk=disk)
    assert not report.whole
    text = "\n".join(report.lines())
    assert "00000000000000000002.segment: bytes 4096 to 12288 hold no frame" in text
    assert "are missing" in text
    assert any("DAMAGED up to 12288" in line for line in dump(DIRECTORY, disk=disk))


def test_records_of_a_stream_are_shown_on_one_line_each_without_control_characters() -> None:
    disk = SimDisk(random.Random(0))
    journal = open_journal(disk)
    journal.writer(A).append(1000, b"k", b'{"t": "\xc3\xbc"}')
    journal.writer(A).append(2000, None, b"\x1b[2J\n\xff" + bytes(2000))
    put(journal, B)
    first, second = inspection.records(DIRECTORY, A.topic, disk=disk)
    assert first == f'{A}/0  1970-01-01T00:00:01.000+00:00  k  {{"t": "ü"}}'
    assert second.startswith(f"{A}/1  1970-01-01T00:00:02.000+00:00  -  \\x1b[2J\\n\\xff\\x00")
    assert second.endswith("… (2006 bytes)")
    assert second.isprintable()
    with pytest.raises(Missing, match=f"but of {A.topic}, {B.topic}"):
        list(inspection.records(DIRECTORY, "other", disk=disk))
