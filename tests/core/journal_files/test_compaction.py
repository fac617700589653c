"""What must survive of segments survives where it stood; what room costs is bounded; damage is told as anywhere."""

from __future__ import annotations

import itertools
import random

import pytest

from headwater.core.batch import decode_batch
from headwater.core.errors import Unavailable
from headwater.core.journal.files import (
    Arrival,
    FileJournal,
    Position,
    RetentionPlan,
    StreamRetention,
    WhenFull,
    frames,
    segment,
)
from headwater.core.journal.files.compaction import compact, steps
from headwater.core.journal.files.early import EarlyRule
from headwater.core.journal.files.index import Footer, SegmentMap, encode_footer
from headwater.core.journal.files.inspection import dump, verify
from headwater.core.journal.files.patience import PatientDisk
from headwater.core.journal.files.planning import plan
from headwater.core.journal.files.retention import carry_out, give_up, settle
from headwater.core.journal.files.runs import WRITTEN_PER_GAINED_MAX, Candidate, Costs, choose
from headwater.core.record import TopicPartition
from headwater.core.units import KIB
from tests.core.journal_files.oracle import DIRECTORY, contents, open_journal
from tests.core.journal_files.test_damage import put
from tests.core.journal_files.test_damage import segment as path_of
from tests.core.journal_files.test_retention import TIGHT
from tests.sim.disk import SimDisk

TELEMETRY, ALARMS = TopicPartition("a", 0), TopicPartition("b", 0)
OTHER = TopicPartition("c", 0)
DROP = {"a": StreamRetention(when_full=WhenFull.DROP_OLDEST)}
KEEP: dict[TopicPartition, int] = {}  # with an uplink that sent nothing


def alarmed(journal: FileJournal, segments: int) -> None:
    """Until so many segments are sealed, an alarm in each."""
    while len(journal.shelf.sequences) < segments:
        put(journal, ALARMS, size=60)
        for _ in range(2):
            put(journal, TELEMETRY, size=16_000)


def squeezed(
    journal: FileJournal, rules: dict[str, StreamRetention] | None = None, *, segments: int = 3
) -> RetentionPlan:
    """Planned so that so many segments' worth of room is wanted."""
    journal.bytes_limit = 2**40
    free = (6 - segments) * 64 * KIB  # four are the reserve, two the headroom
    return plan(journal, 0, rules=DROP if rules is None else rules, sent=KEEP, free_bytes=free)


def crowded(disk: SimDisk, segments: int = 6) -> FileJournal:
    journal = open_journal(disk)
    alarmed(journal, segments)
    return journal


def alarms_of(journal: FileJournal) -> dict[int, bytes]:
    return contents(journal)[ALARMS]


# planning

COSTS = Costs(64 * KIB, 8 * KIB)
NOBODY = Footer(encode_footer(SegmentMap(), ends={}, stream_bytes={}, data_end=4096, salt=1))


def candidate(sequence: int, kept: int, size: int = 64 * KIB) -> Candidate:
    return Candidate(sequence, size, kept, {}, NOBODY.end)


def chosen(*candidates: Candidate | None, wanted: int = 2**40) -> list[list[int]]:
    return [
        [each.sequence for each in run] for run in choose(candidates, wanted=wanted, costs=COSTS)
    ]


def test_the_oldest_run_that_fits_is_chosen_and_no_more_of_it_than_is_wanted() -> None:
    ten = [candidate(n, 500) for n in range(1, 11)]
    assert chosen(*ten, wanted=1) == [[1]]
    assert chosen(*ten, wanted=100 * KIB) == [[1, 2]]
    assert chosen(*ten) == [[*range(1, 11)]]
    assert chosen(*(candidate(n, 12 * KIB) for n in range(1, 8))) == [[1, 2, 3], [4, 5, 6], [7]]


def test_a_segment_that_must_stay_ends_a_run() -> None:
    assert chosen(candidate(1, 500), None, candidate(3, 500)) == [[1], [3]]


def test_what_is_nearly_all_survivors_is_left_alone() -> None:
    assert chosen(candidate(1, 60 * KIB), candidate(2, 500)) == [[2]]
    assert not chosen(candidate(1, 60 * KIB))


def test_what_an_earlier_compaction_left_is_merged_while_it_is_small() -> None:
    small, large = candidate(1, 9 * KIB, 17 * KIB), candidate(1, 30 * KIB, 42 * KIB)
    assert chosen(small, candidate(2, 500), wanted=1) == [[1, 2]]
    assert chosen(large, candidate(2, 500), wanted=1) == [[2]]
    assert not chosen(small), "alone it gains nothing"


def test_where_a_partition_jumped_between_two_segments_a_run_ends() -> None:
    jumped = Footer(
        encode_footer(SegmentMap(), ends={ALARMS: 90}, stream_bytes={}, data_end=4096, salt=1)
    )
    first = Candidate(1, 64 * KIB, 500, {ALARMS: 50}, NOBODY.end)
    assert chosen(first, Candidate(2, 64 * KIB, 500, {}, jumped.end)) == [[1], [2]]
    assert chosen(first, Candidate(2, 64 * KIB, 500, {ALARMS: 90}, jumped.end)) == [[1, 2]]


@pytest.mark.parametrize("seed", range(30))
def test_writing_is_bounded_by_what_is_gained(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        several = [
            rng.choice((None, candidate(n, rng.randrange(64 * KIB), rng.randrange(12, 65) * KIB)))
            for n in range(1, 40)
        ]
        runs = choose(several, wanted=rng.randrange(1, 2**21), costs=COSTS)
        for run in runs:
            assert COSTS.written(run) <= WRITTEN_PER_GAINED_MAX * COSTS.gain(run)
            assert COSTS.fits(run)
        members = [each.sequence for run in runs for each in run]
        assert members == sorted(set(members))


# what survives


def test_alarms_survive_and_telemetry_gives_way_with_exact_losses() -> None:
    journal = crowded(SimDisk(random.Random(0)))
    before, used = contents(journal), journal.used_bytes
    agreed = squeezed(journal)
    assert not agreed.segments, "an alarm is in each"
    (run,) = agreed.runs
    carry_out(journal, agreed)
    after = contents(journal)
    assert after[ALARMS] == before[ALARMS]
    start = journal.bounds(TELEMETRY).start
    assert after[TELEMETRY] == {o: v for o, v in before[TELEMETRY].items() if o >= start}
    assert [(x.partition, x.first, x.last) for x in agreed.losses] == [(TELEMETRY, 0, start - 1)]
    assert used - journal.used_bytes >= 3 * 64 * KIB
    assert journal.shelf.sequences[0] == run.last
    assert verify(DIRECTORY, disk=_disk_of(journal)).whole


def _disk_of(journal: FileJournal) -> SimDisk:
    disk = journal.appender._disk
    assert isinstance(disk, PatientDisk)
    disk = disk._disk
    assert isinstance(disk, SimDisk)
    return disk


def test_used_bytes_are_what_the_files_take_and_the_same_after_a_restart() -> None:
    disk = SimDisk(random.Random(0))
    journal = crowded(disk)
    carry_out(journal, squeezed(journal))
    size = len(disk.bytes_of(path_of(journal.shelf.sequences[0])))
    assert size <= 16 * KIB
    (others,) = [len(journal.shelf.sequences) - 1]
    assert journal.used_bytes == size + (others + 1 + journal.settings.spares) * 64 * KIB
    used, found = journal.used_bytes, contents(journal)
    for cut in (False, True):
        disk.restart(power_cut=cut)
        journal = open_journal(disk)
        assert (journal.used_bytes, contents(journal)) == (used, found)
        journal.close()


def test_the_lower_priority_goes_out_of_shared_segments_first() -> None:
    journal = open_journal(SimDisk(random.Random(0)))
    while len(journal.shelf.sequences) < 6:
        put(journal, OTHER, size=900)
        for _ in range(2):
            put(journal, TELEMETRY, size=16_000)
    rules = {
        "a": StreamRetention(when_full=WhenFull.DROP_OLDEST, priority=1),
        "c": StreamRetention(when_full=WhenFull.DROP_OLDEST, priority=9),
    }
    agreed = squeezed(journal, rules)
    assert {loss.partition for loss in agreed.losses} == {TELEMETRY}
    carry_out(journal, agreed)
    assert journal.bounds(OTHER).start == 0
    assert contents(journal)[OTHER].keys() == set(range(journal.bounds(OTHER).end))


def test_the_padding_of_small_commits_goes_before_any_record_does() -> None:
    journal = open_journal(SimDisk(random.Random(0)))
    while len(journal.shelf.sequences) < 6:
        put(journal, TELEMETRY, size=100)  # takes 4 KiB
    before, used = contents(journal), journal.used_bytes
    agreed = squeezed(journal)
    assert agreed.runs
    assert not agreed.losses
    carry_out(journal, agreed)
    assert contents(journal) == before
    assert used - journal.used_bytes >= 3 * 64 * KIB


def test_what_was_sent_goes_out_of_pinned_segments_before_anything_is_lost() -> None:
    journal = crowded(SimDisk(random.Random(0)))
    sent = {TELEMETRY: journal.bounds(TELEMETRY).end}
    agreed = plan(journal, 0, rules={}, sent=sent, free_bytes=3 * 64 * KIB)
    assert agreed.runs
    assert not agreed.losses
    before = alarms_of(journal)
    carry_out(journal, agreed)
    assert alarms_of(journal) == before


def test_compactions_over_compactions_keep_every_alarm_and_write_little() -> None:
    disk = SimDisk(random.Random(0))
    journal = open_journal(disk, settings=TIGHT)
    written = itertools.count()
    for _ in range(150):
        for partition, size in ((ALARMS, 60), *(2 * [(TELEMETRY, 16_000)])):
            put(journal, partition, size=size)
            next(written)
        if journal.crowded:
            carry_out(journal, plan(journal, 0, rules=DROP, sent=KEEP))
            journal.update_full()
        assert journal.full is None
    assert alarms_of(journal).keys() == set(range(150))
    counters = journal.counters
    assert counters.compacted_bytes < counters.bytes_written / 3
    held = sum(len(disk.bytes_of(f"/j/{name}")) for name in disk.list("/j"))
    assert held <= TIGHT.bytes_max
    compacted = [s for s in journal.shelf.sequences if s in journal.shelf.compacted]
    assert len(compacted) <= 3, "small ones are merged"


def test_notes_still_wanted_and_the_newest_segments_are_left_alone() -> None:
    journal = open_journal(SimDisk(random.Random(0)))
    commit = journal.note(7, b"session")
    alarmed(journal, 6)
    journal.need_notes_from(commit)
    agreed = squeezed(journal)
    assert agreed.runs
    first, newest = journal.shelf.sequences[0], journal.shelf.sequences[-1]
    members = {sequence for run in agreed.runs for sequence in run.members}
    assert not members & {first, newest}
    carry_out(journal, agreed)
    assert [note.payload for note in journal.notes(commit)] == [b"session"]


def test_a_reader_in_arrival_order_misses_nothing_wherever_it_stood() -> None:
    journal = crowded(SimDisk(random.Random(0)))
    places, position = [Position(0, 0)], Position(0, 0)
    seen: list[set[int]] = [set()]
    while True:
        arrivals, position = journal.read_arrivals_sync(position, bytes_max=1)
        if not arrivals:
            break
        places.append(position)
        seen.append(seen[-1] | _alarms(arrivals))
    for _ in range(2):
        carry_out(journal, squeezed(journal))
        journal.update_full()
        alarmed(journal, len(journal.shelf.sequences) + 2)
    wanted = set(alarms_of(journal))
    for position, before in zip(places, seen, strict=True):
        later: set[int] = set()
        while True:
            arrivals, position = journal.read_arrivals_sync(position, bytes_max=9000)  # noqa: PLW2901
            if not arrivals:
                break
            later |= _alarms(arrivals)
        assert before | later == wanted


def _alarms(arrivals: list[Arrival]) -> set[int]:
    return {
        record.offset
        for arrival in arrivals
        if arrival.partition == ALARMS
        for record in decode_batch(arrival.batch)[1]
    }


def test_reservations_outlive_the_segments_they_were_written_in() -> None:
    disk = SimDisk(random.Random(0))
    early = {"c": EarlyRule(1.0)}
    journal = open_journal(disk, early=early)
    put(journal, OTHER)
    put(journal, OTHER)
    alarmed(journal, 6)
    reserved = journal.appender.reserved[OTHER]
    carry_out(journal, squeezed(journal))
    journal.writer(OTHER).append(1, None, b"early")
    assert journal.writer(OTHER).passed
    disk.restart()
    assert verify(DIRECTORY, disk=disk).whole
    journal = open_journal(disk, early=early)
    assert journal.writer(OTHER).next_offset == reserved.end


# a disk that refuses


@pytest.mark.parametrize("trouble", ["full", "write_error", "sync_error", "name_error"])
def test_a_disk_that_refuses_leaves_everything_as_it_was_until_it_does_not(trouble: str) -> None:
    disk = SimDisk(random.Random(0))
    journal = crowded(disk)
    agreed = squeezed(journal)
    give_up(journal, agreed)
    before, used, listed = contents(journal), journal.used_bytes, disk.list(DIRECTORY)
    setattr(disk, trouble, True if trouble == "full" else 1.0)
    with pytest.raises(Unavailable):
        compact(journal, agreed.runs[0])
    disk.clear_faults()
    assert contents(journal) == before
    again = squeezed(journal)
    assert not again.losses, "it was declared before"
    assert journal.used_bytes == used
    left = [name for name in disk.list(DIRECTORY) if not name.endswith(".tmp")]
    assert left == listed
    carry_out(journal, again)
    assert contents(journal) == before
    assert used - journal.used_bytes >= 3 * 64 * KIB


def test_damage_met_while_compacting_is_told_and_what_is_left_stays() -> None:
    disk = SimDisk(random.Random(0))
    journal = crowded(disk)
    place = journal.shelf.footer(2).summary(ALARMS)
    assert place is not None
    journal.close()
    disk.flip(path_of(2), place.first_position)
    journal = open_journal(disk)
    agreed = squeezed(journal)
    give_up(journal, agreed)
    compact(journal, agreed.runs[0])
    assert not journal.counters.segments_compacted
    (loss,) = journal.take_losses()
    assert loss.partition == ALARMS
    assert 2 in journal.shelf.damaged
    assert all(2 not in run.members for run in squeezed(journal).runs)


def test_commits_have_their_turn_after_each_segment_of_a_run() -> None:
    disk = SimDisk(random.Random(0))
    journal = crowded(disk)
    agreed = squeezed(journal)
    give_up(journal, agreed)
    before, (run, *_) = alarms_of(journal), agreed.runs
    turns = 0
    journal.bytes_limit = 2**40
    journal.update_full()
    for _ in steps(journal, run):
        put(journal, ALARMS, size=5000)
        turns += 1
    settle(journal)
    assert turns == len(run.members) + 1
    assert journal.counters.segments_compacted == len(run.members)
    after = alarms_of(journal)
    assert len(after) == len(before) + turns
    assert before.items() <= after.items()
    journal.close()
    assert alarms_of(open_journal(disk)) == after


# damage afterwards


@pytest.mark.parametrize("seed", range(60))
def test_a_flipped_byte_of_a_compacted_segment_is_declared_or_harmless(seed: int) -> None:
    rng = random.Random(seed)
    disk = SimDisk(rng)
    journal = crowded(disk)
    carry_out(journal, squeezed(journal))
    before = contents(journal)
    path = path_of(journal.shelf.sequences[0])
    journal.close()
    start = rng.randrange(len(disk.bytes_of(path)))
    for position in range(start, min(start + rng.choice((1, 600)), len(disk.bytes_of(path)))):
        disk.flip(path, position, rng.randint(1, 255))
    journal = open_journal(disk)
    after = contents(journal)
    losses = [*journal.recovery.losses, *journal.take_losses()]
    lost = {(x.partition, o) for x in losses for o in range(x.first, x.last + 1)}
    for partition, records in before.items():
        kept = {o: v for o, v in records.items() if (partition, o) not in lost}
        assert {o: v for o, v in after[partition].items() if o in kept} == kept
    disk.restart()
    assert contents(open_journal(disk)) == after


@pytest.mark.parametrize("header", [False, True])
def test_without_footer_and_header_it_ends_where_its_frames_do(header: bool) -> None:
    disk = SimDisk(random.Random(0))
    journal = crowded(disk)
    carry_out(journal, squeezed(journal))
    before, path = contents(journal), path_of(journal.shelf.sequences[0])
    journal.close()
    disk.flip(path, len(disk.bytes_of(path)) - 1)
    if header:
        disk.flip(path, 20)
    journal = open_journal(disk)
    assert contents(journal) == before
    assert not journal.take_losses()
    assert not journal.recovery.damage


def test_both_states_lost_in_the_worst_moment_cost_nothing() -> None:
    disk = SimDisk(random.Random(0))
    journal = crowded(disk)
    agreed = squeezed(journal)
    give_up(journal, agreed)
    compact(journal, agreed.runs[0])
    assert journal.counters.segments_compacted
    before = contents(journal)
    disk.restart()
    for name in ("state.a", "state.b"):
        disk.remove(f"{DIRECTORY}/{name}")
    journal = open_journal(disk)
    assert not journal.recovery.damage
    assert alarms_of(journal) == before[ALARMS]


def test_a_binary_from_before_reads_it_by_its_first_frame_and_footer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = SimDisk(random.Random(0))
    journal = crowded(disk)
    carry_out(journal, squeezed(journal))
    before = contents(journal)
    journal.close()
    monkeypatch.setattr(frames, "COMPACTED_MAGIC", b"unheard!")
    monkeypatch.setattr(segment, "COMPACTED", 0)
    journal = open_journal(disk)
    assert contents(journal) == before
    assert not journal.take_losses()


def test_dump_and_verify_know_it() -> None:
    disk = SimDisk(random.Random(0))
    journal = crowded(disk)
    carry_out(journal, squeezed(journal))
    lines = list(dump(DIRECTORY, disk=disk))
    last = journal.shelf.sequences[0]
    assert any(f"{last:020d}.segment: compacted, stands for 1 to {last}" in x for x in lines)
    found = verify(DIRECTORY, disk=disk)
    assert found.whole, found.damage
    assert found.bounds[ALARMS] == tuple(journal.bounds(ALARMS))


def test_a_file_that_is_gone_though_it_is_open_is_told_and_not_planned_again() -> None:
    disk = SimDisk(random.Random(0))
    journal = crowded(disk)
    agreed = squeezed(journal)
    (run,) = agreed.runs
    gone = run.first
    journal.shelf.segment(gone)  # a reader has it open
    disk.remove(path_of(gone))
    carry_out(journal, agreed)
    assert gone not in journal.shelf.sequences
    assert ALARMS in {loss.partition for loss in journal.take_losses()}
    agreed = squeezed(journal)
    carry_out(journal, agreed)
    assert journal.shelf.compacted, "what is left is compacted"
