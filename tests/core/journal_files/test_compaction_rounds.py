"""Rounds of compaction: what is planned can be carried out, what it takes is bounded, who reads beside it is served."""

from __future__ import annotations

import random

import pytest

from headwater.core.errors import Unavailable
from headwater.core.journal.files import FileJournal, StreamRetention, WhenFull
from headwater.core.journal.files.retention import carry_out
from tests.core.journal_files.oracle import contents, open_journal
from tests.core.journal_files.test_compaction import ALARMS, OTHER, TELEMETRY, squeezed
from tests.core.journal_files.test_damage import put
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
