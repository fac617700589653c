"""A log that drops its oldest goes on for ever, whatever its link does, and its account of losses stays whole."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from headwater.core.batch import decode_batch
from headwater.core.clock import SystemClock
from headwater.core.gap import GAPS_PARTITION, Gap, GapReason
from headwater.core.journal.files import Committer, FileJournal, Loss
from headwater.core.journal.files.carrying import unite
from headwater.core.record import TopicPartition
from tests.core.journal_files.test_real_disk import open_real
from tests.core.journal_files.test_retention import DROP, TIGHT

A = TopicPartition("a", 0)


def gap(
    first: int, last: int, *, partition: TopicPartition = A, reason: GapReason = GapReason.RETENTION
) -> Gap:
    return Gap(
        edge="e",
        log="l",
        stream=partition.topic,
        partition=partition.partition,
        first=first,
        last=last,
        reason=reason,
    )


def gaps_of(journal: FileJournal) -> list[Gap]:
    start, _ = journal.bounds(GAPS_PARTITION)
    batches = journal.read_sync(GAPS_PARTITION, start, bytes_max=1 << 20)
    records = [record for batch in batches for record in decode_batch(batch)[1]]
    return [Gap.decode(record.value or b"") for record in records if record.offset >= start]


@pytest.mark.parametrize("sent", [None, {A: 0}], ids=["no uplink", "link down"])
def test_gap_records_never_jam_a_log_that_drops_its_oldest(
    tmp_path: Path, sent: dict[TopicPartition, int] | None
) -> None:
    async def run() -> None:
        journal = open_real(tmp_path, TIGHT)
        committer = Committer(journal, clock=SystemClock(), rng=random.Random(1))
        committer.start()

        def declare(losses: Sequence[Loss]) -> None:
            for partition, first, last, _ in losses:
                journal.append(GAPS_PARTITION, gap(first, last, partition=partition).record(1))
            committer.request()

        for turn in range(200):
            journal.writer(A).append(turn, None, bytes(15_000))
            committer.request()
            await committer.wait_durable(journal.open_commit)
            if journal.full is not None:
                await committer.enforce_retention(1, rules={"a": DROP}, sent=sent, declare=declare)
            assert journal.full is None, f"jammed after {turn} records"
        account = gaps_of(journal)
        for partition in (A, GAPS_PARTITION):
            start = journal.bounds(partition).start
            assert start > 0
            held = {
                n
                for g in account
                if g.stream == partition.topic
                for n in range(g.first, g.last + 1)
            }
            assert held >= set(range(start)), f"{partition}: what is gone is declared"
        assert len(account) < 20, "carried gap records are united, not piled up"
        await committer.close()
        journal.close()

    asyncio.run(run())


def test_ranges_that_touch_or_overlap_become_one() -> None:
    assert unite([gap(0, 4), gap(8, 9), gap(5, 7), gap(2, 6)]) == [gap(0, 9)]
    assert unite([gap(0, 4), gap(6, 7)]) == [gap(0, 4), gap(6, 7)]


def test_only_what_is_alike_is_united() -> None:
    other = TopicPartition("a", 1)
    apart = [gap(0, 4), gap(5, 7, reason=GapReason.DAMAGE), gap(5, 7, partition=other)]
    assert sorted(unite(apart), key=str) == sorted(apart, key=str)
