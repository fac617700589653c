"""What was submitted and is not yet durable, as far as producers are concerned.

A retry may arrive while its original still waits for the store: it must be recognised, and must share the original's
fate instead of being answered early. So for each producer with batches under way this overlay holds the producer as it
will be once all of them are durable, and the future of each. A submitted batch is never taken back (a shard writer that
doubts is thrown away whole, and this with it), so the overlay only ever grows towards the durable state and is dropped
when nothing is under way.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from ...core.batch import BatchHeader
from ...core.journal.objects import CommitResult
from ...core.record import TopicPartition
from .producers import ACCEPTED, BatchMark, Judgement, Producer, Verdict, judge, remember

Commit = asyncio.Future[CommitResult]


class Ruling(NamedTuple):
    """The judgement, and for a duplicate still under way the future that decides it."""

    judgement: Judgement
    commit: Commit | None = None


class _UnderWay:
    __slots__ = ("commits", "producer")

    def __init__(self, producer: Producer | None) -> None:
        self.producer = producer
        self.commits: dict[tuple[int, int], Commit] = {}  # by epoch and first sequence


class Inflight:
    def __init__(self) -> None:
        self._producers: dict[tuple[TopicPartition, int], _UnderWay] = {}
        self._latest: dict[TopicPartition, Commit] = {}

    def judge(self, tp: TopicPartition, durable: Producer | None, header: BatchHeader) -> Ruling:
        """`durable` is the producer in the shard's state."""
        if header.producer_id < 0:
            return Ruling(ACCEPTED)
        under_way = self._producers.get((tp, header.producer_id))
        judgement = judge(
            durable if under_way is None else under_way.producer,
            epoch=header.producer_epoch,
            first_sequence=header.base_sequence,
            last=header.last_sequence,
        )
        if judgement.verdict is Verdict.DUPLICATE and under_way is not None:
            key = (header.producer_epoch, header.base_sequence)
            return Ruling(judgement, under_way.commits.get(key))
        return Ruling(judgement)

    def add(
        self,
        tp: TopicPartition,
        durable: Producer | None,
        header: BatchHeader,
        *,
        base_offset: int,
        commit: Commit,
    ) -> None:
        self._latest[tp] = commit
        commit.add_done_callback(lambda done: self._settled(tp, done))
        if header.producer_id < 0:
            return
        key = (tp, header.producer_id)
        under_way = self._producers.get(key)
        if under_way is None:
            under_way = self._producers[key] = _UnderWay(durable)
        mark = BatchMark(
            header.base_sequence, header.last_sequence, base_offset, header.max_timestamp
        )
        under_way.producer = remember(under_way.producer, epoch=header.producer_epoch, mark=mark)
        which = (header.producer_epoch, header.base_sequence)
        under_way.commits[which] = commit
        commit.add_done_callback(lambda _: self._leave(key, which))

    def latest(self, tp: TopicPartition) -> Commit | None:
        """The last submission for this partition that is still under way."""
        return self._latest.get(tp)

    def _settled(self, tp: TopicPartition, commit: Commit) -> None:
        if self._latest.get(tp) is commit:
            del self._latest[tp]
        if not commit.cancelled():
            commit.exception()  # seen: nobody waits for acks=0

    def _leave(self, key: tuple[TopicPartition, int], which: tuple[int, int]) -> None:
        under_way = self._producers.get(key)
        if under_way is not None:
            under_way.commits.pop(which, None)
            if not under_way.commits:
                del self._producers[key]
