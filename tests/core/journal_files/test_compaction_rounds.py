"""Rounds of compaction: what is planned can be carried out, what it takes is bounded, who reads beside it is served."""

from __future__ import annotations

import random

import msgspec
import pytest

from headwater.core.clock import ManualClock
from headwater.core.disk import DiskFull
from headwater.core.errors import Unavailable
from headwater.core.journal.files import (
    FileJournal,
    StreamRetention,
    WhenFull,
    compaction,
    names,
)
from headwater.core.journal.files.compaction import compact, steps
from headwater.core.journal.files.inspection import verify
from headwater.core.journal.files.planning import RetentionPlan, plan
from headwater.core.journal.files.retention import carry_out, give_up
from headwater.core.journal.files.runs import Run
from headwater.core.journal.files.state import load_state, store_state
from headwater.core.units import KIB, Duration
from tests.core.journal_files.oracle import DIRECTORY, contents, open_journal
from tests.core.journal_files.test_compaction import (
    ALARMS,
    DROP,
    OTHER,
    TELEMETRY,
    alarms_of,
    crowded,
    squeezed,
)
from tests.core.journal_files.test_damage import put
from tests.core.journal_files.test_damage import segment as path_of
from tests.core.journal_files.test_retention import TIGHT
from tests.sim.disk import SimDisk


def mixed(rng: random.Random, segments: int) -> FileJournal:
    """Segments each of which one stream has nearly to itself, with alarms in some."""
    journal = open_journal(SimDisk(random.Random(0)))
    while (sealed := len(journal.shelf.sequences)) < segments:
        most = rng.choice(((TELEMETRY, 16_000), (OTHER, 16_000), (ALARMS, 100)))
        while len(journal.shelf.sequences) == sealed:
            put(journal, most[0], size=most[1])
            if rng.random() < 0.3:
                put(journal, ALARMS, size=60)
    return journal


@pytest.mark.parametrize("block", range(3))
def test_runs_of_several_priorities_do_not_reach_over_each_other(block: int) -> None:
    """One that did was not what stood there when its turn came: what it was to free was lost, and the room not gained."""
    rules = {
        "a": StreamRetention(when_full=WhenFull.DROP_OLDEST, priority=1),
        "c": StreamRetention(when_full=WhenFull.DROP_OLDEST, priority=9),
    }
    several = 0
    for seed in range(block, 150, 3):
        rng = random.Random(seed)
        journal = mixed(rng, 6)
        agreed = squeezed(journal, rules, segments=rng.randrange(1, 6))
        several += len(agreed.runs) > 1
        before = journal.counters.segments_compacted
        carry_out(journal, agreed)
        members = sum(len(run.members) for run in agreed.runs)
        assert journal.counters.segments_compacted - before == members, f"seed {seed}: {agreed}"
    assert several > 10, "hardly a round had two runs"


@pytest.mark.parametrize("written", range(1, 10))
def test_what_a_commit_under_way_has_in_sealed_segments_stays(written: int) -> None:
    """A commit larger than a segment, on a disk that refuses in the middle of it while room is made: how far its records go
    no reader knows yet, so what was declared ended before them; then they went with their segment."""
    disk = SimDisk(random.Random(0))
    journal = open_journal(disk)
    put(journal, TELEMETRY, 2, size=16_000)
    for _ in range(10):
        journal.writer(TELEMETRY).append(1, None, bytes(15_000))
    commit = journal.seal()
    assert commit is not None
    write, left = journal.appender.write_frame, written

    def refused_later(frame: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Unavailable("cannot write: input/output error")
        write(frame)  # type: ignore[arg-type]

    journal.appender.write_frame = refused_later  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        commit.write()
    agreed = squeezed(journal, segments=6)
    journal.appender.write_frame = write  # type: ignore[method-assign]
    commit.write()
    journal.complete(commit)
    carry_out(journal, agreed)
    lost = {offset for loss in agreed.losses for offset in range(loss.first, loss.last + 1)}
    assert contents(journal)[TELEMETRY].keys() == set(range(12)) - lost


def test_a_damaged_header_does_not_cover_what_was_only_to_be_compacted() -> None:
    """A run may end with what an earlier compaction left. While the state names it, only the header tells whether it was
    replaced since; where that is damaged, what stands before it must not be taken for gone."""
    disk = SimDisk(random.Random(0))
    journal = crowded(disk, 8)
    carry_out(journal, RetentionPlan(runs=[Run([3, 4, 5])]))
    assert journal.shelf.sequences[:4] == [1, 2, 5, 6]
    give_up(journal, RetentionPlan(runs=[Run([1, 2, 5])]))  # and then the power goes
    before = contents(journal)
    disk.restart()
    disk.flip(path_of(5), 20)
    journal = open_journal(disk)
    assert contents(journal) == before
    assert not journal.recovery.losses


@pytest.mark.parametrize("members", [3, 4, 5])
def test_what_stood_twice_is_once_after_the_next_compaction(members: int) -> None:
    """A binary from before there were any, started between the renaming and the state, drops the state's account of it."""
    disk = SimDisk(random.Random(0))
    journal = crowded(disk, 8)
    run = Run([*range(1, members + 1)])
    give_up(journal, RetentionPlan(runs=[run]))
    compact(journal, run)
    before = contents(journal)
    disk.restart()
    state = load_state(disk, DIRECTORY).state
    assert state is not None
    store_state(disk, DIRECTORY, msgspec.structs.replace(state, compacting=[], compacted=[]))
    journal = open_journal(disk)
    assert journal.shelf.sequences[0] == 1, "the state would be what tells that it is covered"
    carry_out(journal, RetentionPlan(runs=[Run([*run.members, run.last + 1])]))
    assert journal.shelf.sequences[0] == run.last + 1
    assert contents(journal) == before


def test_a_compacted_file_is_known_for_as_small_as_it_is_though_no_state_says_so() -> None:
    disk = SimDisk(random.Random(0))
    journal = crowded(disk, 8)
    carry_out(journal, RetentionPlan(runs=[Run([1, 2, 3])]))
    used = journal.used_bytes
    disk.restart()
    state = load_state(disk, DIRECTORY).state
    assert state is not None
    store_state(disk, DIRECTORY, msgspec.structs.replace(state, compacting=[], compacted=[]))
    journal = open_journal(disk)
    squeezed(journal)  # looks at every segment that it may give up
    assert journal.used_bytes == used


def test_the_end_of_what_is_durable_stays_where_it_is() -> None:
    """A disk that refuses can leave empty segments behind the newest frame. What was moved into that frame's segment, behind
    where it ended, could not be read in arrival order before the next commit."""
    journal = open_journal(SimDisk(random.Random(0)))
    while len(journal.shelf.sequences) < 5:
        put(journal, TELEMETRY, size=16_000)
        put(journal, ALARMS, 5, size=3000)
    journal.appender.abandon()
    put(journal, ALARMS, size=60)
    newest = journal.end_position.segment
    for _ in range(2):
        journal.appender.abandon()
        journal.appender._open_next()
    before = alarms_of(journal)
    sent = {TELEMETRY: journal.bounds(TELEMETRY).end}
    carry_out(journal, plan(journal, 0, rules={}, sent=sent, free_bytes=64 * KIB))
    assert journal.counters.segments_compacted > 2
    assert newest in journal.shelf.sequences
    assert newest not in journal.shelf.compacted
    assert alarms_of(journal) == before, "by arrival, too"


def test_nothing_is_given_up_for_a_run_that_the_disk_has_no_room_for() -> None:
    journal = crowded(SimDisk(random.Random(0)), 8)
    agreed = plan(journal, 0, rules=DROP, sent={}, free_bytes=4 * KIB)
    assert not agreed.runs
    assert not agreed.losses
    assert plan(journal, 0, rules=DROP, sent={}, free_bytes=64 * KIB).losses


def test_where_there_is_no_room_for_it_nothing_is_written() -> None:
    """A disk that others have filled: tried again every second, half a file each time would wear out a card in weeks."""
    disk = SimDisk(random.Random(0))
    journal = crowded(disk, 8)
    agreed = squeezed(journal)
    give_up(journal, agreed)
    (run, *_) = agreed.runs
    disk.free, calls = run.written - 1, disk.calls
    with pytest.raises(DiskFull):
        compact(journal, run)
    assert disk.calls - calls < 20, "hardly a look"
    disk.free = run.written
    compact(journal, run)
    assert 0 < journal.counters.compacted_bytes <= run.written


@pytest.mark.parametrize("seed", range(20))
def test_what_the_medium_gives_back_otherwise_takes_no_place(seed: int) -> None:
    disk, rng = SimDisk(random.Random(0)), random.Random(seed)
    journal = crowded(disk, 8)
    agreed = squeezed(journal)
    give_up(journal, agreed)
    before, listed, (run, *_) = contents(journal), disk.list(DIRECTORY), agreed.runs
    compacting = steps(journal, run)
    for _ in range(len(run.members) + 1):
        next(compacting)
    path = f"{DIRECTORY}/{names.compacted(run.last)}"
    disk.flip(path, rng.randrange(len(disk.bytes_of(path))), rng.randint(1, 255))
    with pytest.raises(Unavailable):
        next(compacting)
    assert contents(journal) == before
    assert disk.list(DIRECTORY) == listed


def test_what_has_a_limit_of_age_is_not_kept_young_by_what_it_is_united_with() -> None:
    """Without an uplink a log drops by age alone: of alarms united again and again the oldest had the age of the newest."""
    clock, day = ManualClock(), 86_400
    journal = open_journal(SimDisk(random.Random(0)), settings=TIGHT, clock=clock)
    rules = {
        "a": StreamRetention(when_full=WhenFull.DROP_OLDEST, priority=1),
        "b": StreamRetention(age_max=Duration(7 * day)),
    }
    since: dict[int, int] = {}
    for _ in range(200):
        clock.advance(day / 4)
        since[journal.writer(ALARMS).next_offset] = clock.wall_ms()
        put(journal, ALARMS, size=60)
        put(journal, TELEMETRY, 2, size=16_000)
        carry_out(journal, plan(journal, clock.wall_ms(), rules=rules, sent=None))
        journal.update_full()
        assert journal.full is None
        oldest = min(alarms_of(journal))
        assert clock.wall_ms() - since[oldest] <= (2 * 7 + 1) * day * 1000
    assert journal.counters.segments_compacted > 50


@pytest.mark.parametrize("evicted", [False, True])
@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("rounds", [1, 2])
def test_a_renaming_that_takes_effect_and_is_refused_all_the_same(
    evicted: bool, restarted: bool, rounds: int
) -> None:
    """The old footer was held against the new file, all of which was then damaged."""
    disk = SimDisk(random.Random(0))
    journal = crowded(disk, 8)
    if rounds == 2:
        carry_out(journal, squeezed(journal))
    before = alarms_of(journal)
    disk.late_error = ".compacted.tmp"
    carry_out(journal, squeezed(journal))
    disk.late_error = ""
    if evicted:
        journal.shelf._open.clear()
    if restarted:
        journal.close()
        disk.restart(power_cut=False)
        journal = open_journal(disk)
    for _ in range(2):
        assert alarms_of(journal) == before
        contents(journal)
        journal.notes(0)
        assert not journal.shelf.damaged
        assert not journal.take_losses()
        compacted = journal.counters.segments_compacted
        agreed = squeezed(journal)
        carry_out(journal, agreed)
        members = sum(len(run.members) for run in agreed.runs)
        assert journal.counters.segments_compacted - compacted == members, "none is planned in vain"
    assert alarms_of(journal) == before
    journal.close()
    journal = open_journal(disk)
    assert alarms_of(journal) == before
    assert not journal.recovery.losses
    assert verify(DIRECTORY, disk=disk).whole


def test_a_renaming_of_which_nobody_can_tell_whether_it_took_effect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is covered stands beside it until the next run; no table of the old file is held against the new one."""
    disk = SimDisk(random.Random(0))
    journal = crowded(disk, 8)
    before = alarms_of(journal)
    stands = compaction._stands
    disk.late_error = ".compacted.tmp"
    with monkeypatch.context() as patch:
        patch.setattr(compaction, "_stands", lambda *told: stands(*told) and False)
        with pytest.raises(Unavailable):
            carry_out(journal, squeezed(journal))
    disk.late_error = ""
    for sequence in journal.shelf.sequences:
        journal.shelf.batches(sequence)
    assert not journal.shelf.damaged
    assert not journal.take_losses()
    carry_out(journal, squeezed(journal))
    assert alarms_of(journal) == before
    journal.close()
    assert alarms_of(open_journal(disk)) == before
