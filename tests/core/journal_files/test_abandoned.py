"""Segments that a failing disk left without a footer: what is damaged in them is told by whatever follows that knows."""

from __future__ import annotations

import random

import msgspec
import pytest

from headwater.core.journal.files import (
    FileJournal,
    FileJournalSettings,
    StreamRetention,
    WhenFull,
)
from headwater.core.journal.files.planning import plan
from headwater.core.record import TopicPartition
from tests.core.journal_files.oracle import SMALL, contents, open_journal
from tests.core.journal_files.test_damage import put, segment
from tests.sim.disk import SimDisk

A, B = TopicPartition("a", 0), TopicPartition("b", 0)


def abandoned(disk: SimDisk, *, between: int, settings: FileJournalSettings = SMALL) -> FileJournal:
    """A first segment of A and B, some of B alone, and an open one in which A goes on; none has a footer."""
    journal = open_journal(disk, settings=settings)
    for _ in range(3):
        put(journal, B, size=3000)
        put(journal, A, size=3000)
    for _ in range(between):
        journal.appender.abandon()
        put(journal, B, size=3000)
    journal.appender.abandon()
    put(journal, A, size=3000)
    put(journal, B, size=3000)
    return journal


def told(journal: FileJournal) -> set[tuple[TopicPartition, int]]:
    losses = [*journal.recovery.losses, *journal.take_losses()]
    return {(x.partition, o) for x in losses for o in range(x.first, x.last + 1)}


@pytest.mark.parametrize("between", range(4))
@pytest.mark.parametrize("frame", range(6))
@pytest.mark.parametrize("index_cache", [2, 32])
def test_damage_in_one_is_told_though_the_next_knows_nothing_of_it(
    between: int, frame: int, index_cache: int
) -> None:
    disk = SimDisk(random.Random(0))
    settings = msgspec.structs.replace(SMALL, index_cache=index_cache)
    journal = abandoned(disk, between=between, settings=settings)
    before = contents(journal)
    journal.close()
    disk.flip(segment(1), 4096 + frame * 4096 + 100)
    journal = open_journal(disk, settings=settings)
    after = contents(journal)
    missing = {(p, o) for p, records in before.items() for o in records if o not in after[p]}
    assert missing == {((B, A)[frame % 2], frame // 2)}
    assert told(journal) == missing


@pytest.mark.parametrize("between", range(1, 4))
def test_one_that_is_missing_is_told_though_the_next_knows_nothing_of_it(between: int) -> None:
    disk = SimDisk(random.Random(0))
    journal = abandoned(disk, between=between)
    journal.appender.prepare()  # so that it is missed
    before = contents(journal)
    journal.close()
    disk.take(segment(1))
    journal = open_journal(disk)
    after = contents(journal)
    missing = {(p, o) for p, records in before.items() for o in records if o not in after[p]}
    assert missing == {(p, o) for p in (A, B) for o in range(3)}
    assert told(journal) == missing


@pytest.mark.parametrize("sealed", [True, False])
def test_a_footer_that_was_not_synced_tells_no_end(sealed: bool) -> None:
    """It is read from the cache until the power goes. The next segment, whose header tells the end, must not go before."""
    disk = SimDisk(random.Random(0))
    journal = open_journal(disk)
    put(journal, B)
    put(journal, A, size=16_000)
    active = journal.shelf.active
    assert active is not None
    disk.sync_error = 0.0 if sealed else 1.0
    journal.appender._seal(active)
    disk.sync_error = 0.0
    while len(journal.shelf.sequences) < 6:
        put(journal, A, size=16_000)
    rules = {"a": StreamRetention(when_full=WhenFull.DROP_OLDEST)}
    agreed = plan(journal, 0, rules=rules, sent={}, free_bytes=0)
    assert (2 in agreed.segments) is sealed
    assert 3 in agreed.segments
