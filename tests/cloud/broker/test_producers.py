"""The idempotence table, rule by rule, and what is under way."""

from __future__ import annotations

import asyncio

import pytest

from headwater.cloud.broker.inflight import Inflight
from headwater.cloud.broker.producers import (
    ACCEPTED,
    MARKS_MAX,
    SEQUENCE_MAX,
    BatchMark,
    Producer,
    Verdict,
    follows,
    judge,
    remember,
)
from headwater.core.batch import BatchHeader, encode_batch, parse_header
from headwater.core.journal.objects import CommitResult
from headwater.core.record import Record, TopicPartition

TP = TopicPartition("t", 0)


def batches(*spans: tuple[int, int], epoch: int = 0) -> Producer:
    """A producer that sent these (first, last) sequences, at offset = 1000 + first."""
    producer: Producer | None = None
    for first, last in spans:
        mark = BatchMark(first, last, 1000 + first, 5)
        producer = remember(producer, epoch=epoch, mark=mark)
    assert producer is not None
    return producer


@pytest.mark.parametrize(
    ("known", "epoch", "sequences", "verdict", "offset"),
    [
        (None, 0, (0, 4), Verdict.ACCEPTED, None),
        (None, 3, (777, 778), Verdict.ACCEPTED, None),  # unknown id: any first sequence
        (batches((0, 4)), 0, (5, 9), Verdict.ACCEPTED, None),
        (batches((0, 4)), 0, (0, 4), Verdict.DUPLICATE, 1000),
        (batches((0, 4), (5, 9)), 0, (0, 4), Verdict.DUPLICATE, 1000),
        (batches((0, 4), (5, 9)), 0, (5, 9), Verdict.DUPLICATE, 1005),
        (batches((0, 4)), 0, (6, 9), Verdict.OUT_OF_ORDER, None),  # a hole
        (batches((0, 4)), 0, (0, 3), Verdict.OUT_OF_ORDER, None),  # cut differently
        (batches((0, 4)), 0, (3, 9), Verdict.OUT_OF_ORDER, None),  # overlaps
        (batches((0, 4), epoch=2), 1, (5, 6), Verdict.STALE_EPOCH, None),
        (batches((0, 4), epoch=2), 3, (0, 1), Verdict.ACCEPTED, None),
        (batches((0, 4), epoch=2), 3, (5, 6), Verdict.OUT_OF_ORDER, None),
        (batches((9, SEQUENCE_MAX)), 0, (0, 1), Verdict.ACCEPTED, None),  # wraps at 2^31-1
        (batches((SEQUENCE_MAX - 1, 3)), 0, (4, 5), Verdict.ACCEPTED, None),
        (batches((SEQUENCE_MAX - 1, 3)), 0, (SEQUENCE_MAX - 1, 3), Verdict.DUPLICATE, None),
        (batches(*((i, i) for i in range(6))), 0, (1, 1), Verdict.DUPLICATE, 1001),
        (batches(*((i, i) for i in range(6))), 0, (0, 0), Verdict.OUT_OF_ORDER, None),  # the sixth
    ],
)
def test_a_batch_is_judged_by_its_first_sequence(
    known: Producer | None,
    epoch: int,
    sequences: tuple[int, int],
    verdict: Verdict,
    offset: int | None,
) -> None:
    first, last = sequences
    judgement = judge(known, epoch=epoch, first_sequence=first, last=last)
    assert judgement.verdict is verdict
    if offset is not None:
        assert judgement.original is not None
        assert judgement.original.base_offset == offset


def test_five_batches_are_remembered_and_a_new_epoch_forgets_the_old() -> None:
    many = batches(*((i, i) for i in range(9)))
    assert [mark.first_sequence for mark in many.marks] == [4, 5, 6, 7, 8]
    assert len(many.marks) == MARKS_MAX
    newer = remember(many, epoch=1, mark=BatchMark(0, 0, 1, 1))
    assert (newer.epoch, len(newer.marks)) == (1, 1)


def test_sequences_wrap_to_zero_and_only_there() -> None:
    assert follows(SEQUENCE_MAX, 0)
    assert follows(41, 42)
    assert not follows(42, 0)
    assert not follows(SEQUENCE_MAX - 1, 0)


def header(sequence: int, *, producer_id: int = 9, epoch: int = 0, count: int = 1) -> BatchHeader:
    records = [Record(1, None, b"v")] * count
    return parse_header(
        encode_batch(records, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)
    )


def test_a_retry_of_a_batch_under_way_shares_its_future() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        inflight = Inflight()
        commits: list[asyncio.Future[CommitResult]] = []
        for sequence in (0, 1):
            ruling = inflight.judge(TP, None, header(sequence))
            assert ruling.judgement == ACCEPTED, (
                "the second follows the first, though neither is durable"
            )
            commits.append(loop.create_future())
            inflight.add(
                TP, None, header(sequence), base_offset=50 + sequence, commit=commits[sequence]
            )
        again = inflight.judge(TP, None, header(0))
        assert again.judgement.verdict is Verdict.DUPLICATE
        assert again.judgement.original is not None
        assert again.judgement.original.base_offset == 50
        assert again.commit is commits[0]
        assert inflight.judge(TP, None, header(3)).judgement.verdict is Verdict.OUT_OF_ORDER
        other = TopicPartition("t", 1)
        assert inflight.judge(other, None, header(3)).judgement == ACCEPTED
        assert inflight.latest(TP) is commits[1]
        for commit in commits:
            commit.set_result(CommitResult(1))
        await asyncio.sleep(0)
        assert inflight.latest(TP) is None
        durable = batches((0, 0), (1, 1))
        settled = inflight.judge(TP, durable, header(0))
        assert settled.judgement.verdict is Verdict.DUPLICATE
        assert settled.commit is None

    asyncio.run(scenario())


def test_without_a_producer_id_everything_is_taken() -> None:
    async def scenario() -> None:
        inflight = Inflight()
        commit = asyncio.get_running_loop().create_future()
        plain = header(-1, producer_id=-1, epoch=-1)
        inflight.add(TP, None, plain, base_offset=0, commit=commit)
        assert inflight.judge(TP, None, plain).judgement == ACCEPTED
        assert inflight.latest(TP) is commit
        commit.set_result(CommitResult(1))

    asyncio.run(scenario())
