"""Planning a round of retention: what digests are kept, and that a plan is the same with them and without."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import pytest

from headwater.core.errors import Unavailable
from headwater.core.gap import GAPS_PARTITION
from headwater.core.journal.files import FileJournal, StreamRetention, WhenFull, digests
from headwater.core.journal.files.planning import RetentionPlan, plan
from headwater.core.journal.files.retention import carry_out
from headwater.core.journal.files.segment import OpenSegment
from headwater.core.record import TopicPartition
from headwater.core.units import KIB
from tests.core.journal_files.oracle import open_journal
from tests.core.journal_files.test_compaction import TELEMETRY, crowded, squeezed
from tests.core.journal_files.test_damage import put
from tests.sim.disk import SimDisk

PARTITIONS = [TELEMETRY, *(TopicPartition(name, 0) for name in "bcd"), TopicPartition("b", 1)]


def filled(journal: FileJournal, rng: random.Random) -> None:
    for _ in range(rng.randrange(1, 8)):
        most, size = rng.choice(PARTITIONS), rng.choice((100, 3000, 16_000))
        sealed = len(journal.shelf.sequences)
        while len(journal.shelf.sequences) == sealed:
            put(journal, most, size=size)
            if rng.random() < 0.3:
                put(journal, rng.choice([*PARTITIONS, GAPS_PARTITION]), size=60)


def asked(journal: FileJournal, rng: random.Random) -> dict[str, Any]:
    rules = {
        name: StreamRetention(when_full=rng.choice(list(WhenFull)), priority=rng.randrange(10))
        for name in "abcd"
        if rng.random() < 0.8
    }
    sent = {
        writer.partition: rng.randint(writer.start, writer.end)
        for writer in journal.writers()
        if rng.random() < 0.6
    }
    free = rng.choice((0, 64 * KIB, 256 * KIB))
    return {"rules": rules, "sent": rng.choice((None, sent, sent)), "free_bytes": free}


@pytest.mark.parametrize("block", range(3))
def test_a_plan_is_the_same_whether_digests_are_kept_or_made_anew(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the life of a log: what is compacted, goes or comes in between has no digest of before."""
    with_runs = with_segments = kept = 0
    for seed in range(block, 90, 3):
        rng = random.Random(seed)
        journal = open_journal(SimDisk(random.Random(0)))
        for _ in range(4):
            with suppress(Unavailable):  # it is full, and some must go
                filled(journal, rng)
            question = asked(journal, rng)
            agreed = plan(journal, 0, **question)
            kept += len(journal.shelf.digests)
            with monkeypatch.context() as patched:
                patched.setattr(digests, "DIGESTS_BYTES_MAX", 0)
                patched.setattr(journal.shelf, "digests", digests.Digests())
                anew = plan(journal, 0, **question)
                assert len(journal.shelf.digests) == 0
            assert asdict(agreed) == asdict(anew), f"seed {seed}"
            with_runs += bool(agreed.runs)
            with_segments += bool(agreed.segments)
            carry_out(journal, agreed)
    assert with_runs > 20
    assert with_segments > 20
    assert kept > 200


def test_the_second_look_at_a_full_log_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = crowded(SimDisk(random.Random(0)), segments=40)
    assert squeezed(journal).runs
    opened: list[int] = []
    look = journal.shelf.open_apart

    def look_again(sequence: int) -> OpenSegment:
        opened.append(sequence)
        return look(sequence)

    monkeypatch.setattr(journal.shelf, "open_apart", look_again)
    assert not squeezed(journal, {}), "what says refuse stays"
    assert not opened
    assert len(journal.shelf.digests) == len(journal.shelf.sequences)


def test_digests_are_bounded_and_go_with_their_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = crowded(SimDisk(random.Random(0)), segments=12)
    whole = squeezed(journal)
    monkeypatch.setattr(digests, "DIGESTS_BYTES_MAX", 5 * 800)
    journal.shelf.digests = digests.Digests()
    assert asdict(squeezed(journal)) == asdict(whole)
    assert 0 < len(journal.shelf.digests) <= 5
    carry_out(journal, squeezed(journal))
    left = set(journal.shelf.sequences)
    known = {s for s in range(100) if journal.shelf.digests.get(s) is not None}
    assert known <= left
    assert not known & set(journal.shelf.compacted), "what is in its place was another segment"


def test_what_says_refuse_does_not_make_writing_dearer() -> None:
    """Its priority is no level of its own: where nothing is given up, no more is written than is gained (ADR 15)."""
    journal = crowded(SimDisk(random.Random(0)), segments=8)
    sent = {TELEMETRY: 9}
    plans: list[RetentionPlan] = []
    for priority in (0, 9):
        rules = {"b": StreamRetention(when_full=WhenFull.REFUSE, priority=priority)}
        plans.append(plan(journal, 0, rules=rules, sent=sent, free_bytes=0))
    assert asdict(plans[0]) == asdict(plans[1])
