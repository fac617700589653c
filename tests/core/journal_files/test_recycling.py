"""Bytes of a file's earlier life never count, however whole they are."""

from __future__ import annotations

import random

import msgspec

from headwater.core.journal.files import FileJournalSettings, StreamRetention
from headwater.core.journal.files.frames import (
    batch_entry,
    body_is_whole,
    decode_frame_header,
    encode_frame,
)
from headwater.core.journal.files.planning import plan
from headwater.core.journal.files.retention import carry_out
from headwater.core.journal.files.scan import scan
from headwater.core.journal.files.settings import HEADROOM_SEGMENTS
from headwater.core.record import TopicPartition
from headwater.core.units import ByteSize
from tests.core.journal_files.oracle import DIRECTORY, SMALL, contents, open_journal
from tests.core.journal_files.test_damage import put
from tests.sim.disk import SimCrash, SimDisk

A = TopicPartition("a", 0)


def test_a_whole_frame_under_another_salt_does_not_validate() -> None:
    body = batch_entry(A, b"x" * 100)
    for salt in range(1, 300):
        data = encode_frame(
            body, entries=1, salt=salt, sequence=7, position=4096, commit=1, wall_ms=0, last=True
        )
        claimed = bytearray(data)
        claimed[8:12] = (0).to_bytes(4, "little")  # even one that claims the right salt
        for candidate in (data, bytes(claimed)):
            assert decode_frame_header(candidate, 0, salt=0, sequence=7, position=4096) is None


def test_a_body_of_another_salt_does_not_validate_under_a_valid_header() -> None:
    body = batch_entry(A, b"x" * 100)
    old = encode_frame(
        body, entries=1, salt=1, sequence=7, position=4096, commit=1, wall_ms=0, last=True
    )
    header = decode_frame_header(old, 0, salt=1, sequence=7, position=4096)
    assert header is not None
    assert body_is_whole(old, 0, header)
    assert not body_is_whole(old, 0, header._replace(salt=2))


def test_a_frame_of_another_sequence_or_position_does_not_count() -> None:
    data = encode_frame(
        b"", entries=0, salt=1, sequence=7, position=4096, commit=1, wall_ms=0, last=True
    )
    assert decode_frame_header(data, 0, salt=1, sequence=7, position=4096) is not None
    assert decode_frame_header(data, 0, salt=1, sequence=8, position=4096) is None
    assert decode_frame_header(data, 0, salt=1, sequence=7, position=8192) is None
    moved = bytes(4096) + bytes(4096) + data
    assert len(scan(moved, salt=1, sequence=7).map) == 0


def test_payload_that_imitates_a_frame_is_not_taken_for_one() -> None:
    """A sensor that learnt the format still does not know the salt."""
    disk = SimDisk(random.Random(0))
    journal = open_journal(disk)
    forged = encode_frame(
        b"", entries=0, salt=0, sequence=1, position=8192, commit=9, wall_ms=0, last=True
    )
    journal.writer(A).append(1, None, forged * 3)
    put(journal, A)
    before = contents(journal)
    journal.close()
    for position in range(4096, 4096 + 60):
        disk.flip(f"{DIRECTORY}/{1:020d}.segment", position)
    put(journal := open_journal(disk), A)
    assert len(contents(journal)[A]) == 1
    assert len(before[A]) == 2


def test_spares_left_by_a_wiped_journal_give_nothing_back() -> None:
    """The one case in which sequence and position repeat too: only the salt tells the two lives apart."""
    for seed in range(20):
        disk = SimDisk(random.Random(seed))
        journal = open_journal(disk, seed=seed)
        for _ in range(6):
            put(journal, A, size=3000)
        journal.close()
        disk.rename(f"{DIRECTORY}/{1:020d}.segment", f"{DIRECTORY}/0000000a.spare")
        for name in ("state.a", "state.b"):
            disk.remove(f"{DIRECTORY}/{name}")
        journal = open_journal(disk, seed=seed + 1000)
        put(journal, A, size=3000)
        journal.close()
        found = contents(open_journal(disk, seed=3))
        assert {p: set(r) for p, r in found.items()} == {A: {0}}, "stale frames came back"


def test_a_full_circle_of_recycling_allocates_nothing() -> None:
    disk = SimDisk(random.Random(0))
    journal = open_journal(disk)
    for _ in range(6):
        put(journal, A, 3, size=15000)
    journal.appender.retire(list(journal.shelf.sequences))
    written = journal.counters.bytes_written
    disk.full = True
    put(journal, A, 3, size=15000)
    put(journal, A, 3, size=15000)
    assert journal.counters.segments_recycled >= 1
    assert journal.counters.bytes_written - written < 4 * 65536


def test_of_many_files_given_back_at_once_few_are_kept() -> None:
    """A lower limit would free no disk else: no one counts spares, and all would stand until a start."""
    disk = SimDisk(random.Random(0))
    journal = open_journal(disk)
    while len(journal.shelf.sequences) < 12:
        put(journal, A, size=15000)
    rules = {"a": StreamRetention(bytes_max=ByteSize(1024))}
    agreed = plan(journal, 0, rules=rules, sent=None)
    assert len(agreed.segments) > 10
    carry_out(journal, agreed)
    spares = [name for name in disk.list(DIRECTORY) if name.endswith(".spare")]
    assert len(spares) == journal.settings.spares + HEADROOM_SEGMENTS
    held = sum(len(disk.bytes_of(f"{DIRECTORY}/{name}")) for name in disk.list(DIRECTORY))
    assert held < journal.used_bytes + journal.settings.reserve_bytes


def test_a_crash_between_retiring_a_file_and_reusing_it_sets_nothing_aside() -> None:
    """Were its old name not durably gone first, the old name could come back over the new content."""
    crashes = 0
    for seed in range(300):
        rng = random.Random(seed)
        disk = SimDisk(rng)
        journal = open_journal(disk)
        while len(journal.shelf.sequences) < 3:
            put(journal, A, size=15000)
        journal.appender.spares.clear()
        rules = {"a": StreamRetention(bytes_max=ByteSize(1024))}
        disk.crash_at = disk.calls + rng.randint(1, 45)
        try:
            carry_out(journal, plan(journal, 0, rules=rules, sent=None))
            for _ in range(5):
                put(journal, A, size=15000)
        except SimCrash:
            crashes += 1
        disk.restart(keep=0.5)
        journal = open_journal(disk)
        contents(journal)
        journal.appender.prepare()
        assert not [name for name in disk.list(DIRECTORY) if name == "quarantine"]
        assert not journal.recovery.quarantined, f"seed {seed}"
        assert not journal.shelf.quarantined, f"seed {seed}"
        for sequence in list(journal.shelf.sequences):
            journal.shelf.footer(sequence)  # each file under a segment's name is that segment
    assert crashes > 100


def test_once_full_the_log_is_overwritten_and_nothing_is_filled_with_zeros_again() -> None:
    """What a card wears by for years: with spares prepared before the oldest segment was given back, each roll zero-filled
    another file, and the bytes that reached the device were twice the log's."""
    settings = msgspec.structs.replace(SMALL, spares=FileJournalSettings().spares)
    journal = open_journal(SimDisk(random.Random(0)), settings=settings)
    appender = journal.appender
    rules = {"a": StreamRetention(bytes_max=ByteSize(1024))}

    def live(rolls: int) -> int:
        """As the rim does: a commit, what is missing is prepared while idle, retention comes later. Bytes written."""
        before, end = appender.counters.bytes_written, appender.counters.segments_sealed + rolls
        while appender.counters.segments_sealed < end:
            put(journal, A, size=15000)
            while appender.prepare():
                pass
            if appender.position > int(journal.settings.segment_bytes) // 2:
                carry_out(journal, plan(journal, 0, rules=rules, sent=None))
        return appender.counters.bytes_written - before

    live(4)
    recycled = appender.counters.segments_recycled
    assert live(10) <= 10.5 * int(journal.settings.segment_bytes)
    assert appender.counters.segments_recycled == recycled + 10


def test_copy_on_write_file_systems_get_plain_append() -> None:
    disk = SimDisk(random.Random(0))
    disk.copy_on_write = True
    journal = open_journal(disk)
    assert not journal.appender.prepare()
    put(journal, A, size=100)
    assert len(disk.bytes_of(f"{DIRECTORY}/{1:020d}.segment")) == 2 * 4096
    for _ in range(4):
        put(journal, A, 3, size=15000)
    before = contents(journal)
    journal.close()
    assert contents(open_journal(disk)) == before
    assert not [name for name in disk.list(DIRECTORY) if name.endswith(".spare")]
