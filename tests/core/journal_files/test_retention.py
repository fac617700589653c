"""What may be forgotten: sent first, unsent only by declared choice and only after its gap records are durable."""

from __future__ import annotations

import itertools
import random

import pytest

from headwater.core.clock import ManualClock
from headwater.core.errors import OffsetOutOfRange, Unavailable
from headwater.core.journal.files import (
    FileJournal,
    FileJournalSettings,
    RetentionPlan,
    StreamRetention,
    WhenFull,
)
from headwater.core.journal.files.planning import plan
from headwater.core.journal.files.retention import carry_out
from headwater.core.record import GAPS_STREAM, TopicPartition
from headwater.core.units import KIB, ByteSize, Duration
from tests.core.journal_files.oracle import contents, open_journal
from tests.core.journal_files.test_damage import put
from tests.sim.disk import SimCrash, SimDisk

A, B = TopicPartition("a", 0), TopicPartition("b", 0)
GAPS = TopicPartition(GAPS_STREAM, 0)
TIGHT = FileJournalSettings(
    segment_bytes=ByteSize(64 * KIB),
    bytes_max=ByteSize(10 * 64 * KIB),
    record_bytes_max=ByteSize(24 * KIB),
    commit_bytes_max=ByteSize(24 * KIB),
    spares=1,
)
DROP = StreamRetention(when_full=WhenFull.DROP_OLDEST)


def tight(disk: SimDisk, clock: ManualClock | None = None) -> FileJournal:
    return open_journal(disk, settings=TIGHT, clock=clock)


def fill(journal: FileJournal, partition: TopicPartition, segments: int) -> None:
    """Until so many segments are sealed in all."""
    while len(journal.shelf.sequences) < segments:
        put(journal, partition, size=15000)


def retain(
    journal: FileJournal,
    rules: dict[str, StreamRetention],
    sent: dict[TopicPartition, int] | None,
    *,
    now_ms: int = 0,
    free_bytes: int | None = None,
) -> RetentionPlan:
    agreed = plan(journal, now_ms, rules=rules, sent=sent, free_bytes=free_bytes)
    carry_out(journal, agreed)
    journal.update_full()
    return agreed


def test_a_full_journal_refuses_new_records_and_keeps_unsent_ones() -> None:
    journal = tight(SimDisk(random.Random(0)))
    fill(journal, A, 5)
    assert journal.full is not None
    with pytest.raises(Unavailable, match=r"a/0.*full"):
        journal.writer(A).append(1, None, b"")
    agreed = retain(journal, {}, {A: 0})
    assert not agreed
    assert journal.bounds(A).start == 0


def test_gap_records_are_taken_even_when_full() -> None:
    journal = tight(SimDisk(random.Random(0)))
    fill(journal, A, 5)
    assert journal.full is not None
    put(journal, GAPS)
    assert journal.bounds(GAPS) == (0, 1), "durable, though nothing else is taken"
    with pytest.raises(Unavailable):
        journal.writer(A).append(1, None, b"")


def test_what_was_sent_makes_room_without_a_loss() -> None:
    journal = tight(SimDisk(random.Random(0)))
    fill(journal, A, 5)
    before = contents(journal)[A]
    sent = journal.bounds(A).end
    agreed = retain(journal, {}, {A: sent})
    assert not agreed.losses
    assert journal.full is None
    start = journal.bounds(A).start
    assert contents(journal)[A] == {o: v for o, v in before.items() if o >= start}
    with pytest.raises(OffsetOutOfRange):
        journal.read_sync(A, 0, bytes_max=1)
    journal.writer(A).append(1, None, b"")


def test_drop_oldest_declares_exactly_what_was_not_sent() -> None:
    journal = tight(SimDisk(random.Random(0)))
    fill(journal, A, 5)
    agreed = retain(journal, {"a": DROP}, {A: 2})
    (loss,) = _united(agreed)
    assert loss == (A, 2, journal.bounds(A).start - 1)
    assert loss[2] > 2
    assert journal.full is None


def _united(agreed: RetentionPlan) -> list[tuple[TopicPartition, int, int]]:
    united: list[tuple[TopicPartition, int, int]] = []
    for loss in agreed.losses:
        if united and united[-1][0] == loss.partition and united[-1][2] + 1 == loss.first:
            united[-1] = (loss.partition, united[-1][1], loss.last)
        else:
            united.append((loss.partition, loss.first, loss.last))
    return united


def test_a_refusing_stream_is_never_dropped_for_a_dropping_one() -> None:
    journal = tight(SimDisk(random.Random(0)))
    put(journal, B)  # lies in the first segment and pins it
    fill(journal, A, 5)
    retain(journal, {"a": DROP}, {A: 0, B: 0})
    assert journal.bounds(B) == (0, 1)
    assert contents(journal)[B].keys() == {0}
    assert journal.bounds(A).start > 0
    assert journal.full is None
    assert journal.shelf.sequences[0] == 1, "the pinned segment stays, a younger one went"


def test_a_full_journal_says_whose_records_keep_it_full() -> None:
    journal = tight(SimDisk(random.Random(0)))
    turns = itertools.cycle(((A, 12000), (A, 12000), (A, 12000), (B, 10)))
    while journal.full is None:
        partition, size = next(turns)
        put(journal, partition, size=size)
    retain(journal, {"b": DROP}, {A: 0, B: 0})
    assert journal.full is not None
    assert journal.full.endswith("unsent records of a are in every segment, and may not be lost")
    end = journal.bounds(A).end
    retain(journal, {"b": DROP}, {A: end, B: 0})
    assert journal.full is None


def test_nothing_is_gone_before_the_plan_is_carried_out() -> None:
    disk = SimDisk(random.Random(0))
    journal = tight(disk)
    fill(journal, A, 5)
    before = contents(journal)
    agreed = plan(journal, 0, rules={"a": DROP}, sent={A: 0})
    assert agreed.losses
    assert contents(journal) == before
    disk.restart()
    assert contents(tight(disk)) == before


def test_a_crash_while_carrying_out_leaves_all_or_drops_what_was_declared() -> None:
    calls = 0
    for crash in range(1, 60):
        disk = SimDisk(random.Random(crash))
        journal = tight(disk)
        fill(journal, A, 5)
        before = contents(journal)[A]
        agreed = plan(journal, 0, rules={"a": DROP}, sent={A: 0})
        disk.crash_at = disk.calls + crash
        try:
            carry_out(journal, agreed)
        except SimCrash:
            calls += 1
        disk.restart()
        journal = tight(disk)
        start = journal.bounds(A).start
        assert start in {0, agreed.starts[A]}
        assert contents(journal)[A] == {o: v for o, v in before.items() if o >= start}
        assert not journal.recovery.quarantined
        assert not journal.take_losses()
    assert calls > 10


def test_a_partition_whose_records_are_all_retired_goes_on_at_its_next_offset() -> None:
    disk = SimDisk(random.Random(0))
    journal = tight(disk)
    put(journal, B, 7)
    fill(journal, A, 5)
    retain(journal, {}, {A: journal.bounds(A).end, B: 7})
    assert journal.bounds(B) == (7, 7)
    for _ in range(3):
        journal.close()
        journal = tight(disk)
        assert journal.bounds(B) == (7, 7)
    assert journal.writer(B).append(1, None, b"") == 7


def test_age_drops_what_was_sent_and_keeps_what_was_not() -> None:
    clock = ManualClock()
    journal = tight(SimDisk(random.Random(0)), clock)
    fill(journal, A, 2)
    old_end = journal.shelf.footer(journal.shelf.sequences[-1]).end(A)
    clock.advance(3600)
    fill(journal, A, 4)
    rules = {"a": StreamRetention(age_max=Duration(1800))}
    assert not retain(journal, rules, {A: 0}, now_ms=clock.wall_ms())
    assert retain(journal, rules, {A: 1}, now_ms=clock.wall_ms()).starts == {A: 1}
    agreed = retain(journal, rules, {A: 10**6}, now_ms=clock.wall_ms())
    assert agreed.starts == {A: old_end}
    assert agreed.segments == [1, 2]
    assert not agreed.losses


@pytest.mark.parametrize("years", [1, 70])
def test_what_came_in_just_now_is_not_old_because_the_clock_has_jumped(years: int) -> None:
    """A board without a clock learns the time after an hour, or an alarm clock chip says 2099."""
    clock = ManualClock()
    journal = tight(SimDisk(random.Random(0)), clock)
    fill(journal, A, 2)
    rules = {"a": StreamRetention(age_max=Duration(1800), when_full=WhenFull.DROP_OLDEST)}
    clock.advance(1000)
    clock.step_wall(years * 365 * 86_400_000)
    assert not retain(journal, rules, None, now_ms=clock.wall_ms())
    fill(journal, A, 3)
    clock.advance(1000)
    agreed = retain(journal, rules, None, now_ms=clock.wall_ms())
    assert len(agreed.segments) == 2, "those are older than half an hour by any clock"


def test_without_an_uplink_age_and_bytes_apply_as_they_stand() -> None:
    journal = tight(SimDisk(random.Random(0)))
    fill(journal, A, 4)
    agreed = retain(journal, {"a": StreamRetention(bytes_max=ByteSize(100 * KIB))}, None)
    assert agreed.starts[A] > 0
    assert not agreed.losses
    held = sum(len(value) for value in contents(journal)[A].values())
    assert 100 * KIB <= held <= 100 * KIB + 2 * 64 * KIB, "rounded up to segments"


def test_bytes_of_one_stream_do_not_count_for_another() -> None:
    journal = tight(SimDisk(random.Random(0)))
    for _ in range(6):
        put(journal, A, size=15000)
        put(journal, B, size=1000)
    rules = {
        "a": StreamRetention(bytes_max=ByteSize(30 * KIB)),
        "b": StreamRetention(bytes_max=ByteSize(30 * KIB)),
    }
    agreed = retain(journal, rules, None)
    assert agreed.starts.keys() == {A}


def test_a_disk_that_others_fill_lowers_the_limit() -> None:
    journal = tight(SimDisk(random.Random(0)))
    fill(journal, A, 3)
    assert journal.full is None
    agreed = retain(journal, {"a": DROP}, {A: 0}, free_bytes=100 * KIB)
    assert agreed.losses
    assert journal.bytes_limit < TIGHT.bytes_max


class Crammed(SimDisk):
    """Others fill it at once, but for what we give up ourselves."""

    def remove(self, path: str) -> None:
        super().remove(path)
        if path.endswith(".spare"):
            self.full = False


def test_a_disk_that_others_have_filled_does_not_keep_a_log_from_dropping_its_oldest() -> None:
    disk = Crammed(random.Random(0))
    journal = tight(disk)
    fill(journal, A, 3)
    while journal.appender.prepare():
        pass
    disk.full = True
    agreed = retain(journal, {"a": DROP}, {A: 0}, free_bytes=0)
    assert agreed.segments
    assert journal.bounds(A).start > 0
    assert journal.appender.spares, "what was given back is one"
    disk.restart(keep=0.0)
    assert tight(disk).bounds(A).start == agreed.starts[A]


def test_notes_still_needed_pin_their_segment() -> None:
    journal = tight(SimDisk(random.Random(0)))
    commit = journal.note(7, b"session")
    fill(journal, A, 5)
    journal.need_notes_from(commit)
    retain(journal, {"a": DROP}, {A: 0})
    assert [note.payload for note in journal.notes(commit)] == [b"session"]
    journal.need_notes_from(journal.open_commit)
    retain(journal, {"a": DROP}, {A: 10**6})
    assert list(journal.notes(commit)) == []


def test_months_of_traffic_stay_within_the_limit() -> None:
    disk = SimDisk(random.Random(0))
    journal = tight(disk)
    for turn in range(120):
        put(journal, A, size=15000)
        if journal.full is not None or turn % 10 == 0:
            retain(journal, {}, {A: journal.bounds(A).end})
        held = sum(len(disk.bytes_of(f"/j/{name}")) for name in disk.list("/j"))
        assert held <= TIGHT.bytes_max
    assert journal.counters.segments_recycled > 20
