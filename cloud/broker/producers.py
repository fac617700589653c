"""Idempotent producers: which batches of a producer a partition already holds (KIP-98).

For each producer id a partition remembers the epoch and its last five batches. A batch is judged by its first sequence:

  no producer id, or an id never seen here     accepted; any first sequence will do (the uplink resumes from its cursor)
  an older epoch                               INVALID_PRODUCER_EPOCH: a zombie
  a newer epoch                                accepted from sequence 0, else OUT_OF_ORDER_SEQUENCE_NUMBER
  equals one of the last five batches          a duplicate: answered with the offset of the *original*
  follows the last sequence                    accepted; sequences wrap from 2^31-1 to 0
  anything else                                OUT_OF_ORDER_SEQUENCE_NUMBER

Five, because clients keep at most five requests in flight (max.in.flight.requests.per.connection with idempotence), so
nothing older can still be retried. The table knows nothing of files, objects or time; it is derived from the batches
alone, in the order of the log, so replaying the log rebuilds it exactly.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec

from ...core.batch import BatchHeader

MARKS_MAX = 5
SEQUENCE_MAX = 2**31 - 1


class Verdict(enum.Enum):
    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    STALE_EPOCH = "stale epoch"
    OUT_OF_ORDER = "out of order"


class BatchMark(msgspec.Struct, frozen=True, array_like=True):
    """One remembered batch: its sequences, the offset it was given, the largest timestamp in it."""

    first_sequence: int
    last_sequence: int
    base_offset: int
    timestamp: int


class Producer(msgspec.Struct, frozen=True, array_like=True):
    """One producer id at one partition; `marks` oldest first, never empty."""

    epoch: int
    marks: tuple[BatchMark, ...]

    @property
    def last_sequence(self) -> int:
        return self.marks[-1].last_sequence

    @property
    def last_timestamp(self) -> int:
        return self.marks[-1].timestamp


class Judgement(NamedTuple):
    """`original` is the batch already held, where the verdict is DUPLICATE."""

    verdict: Verdict
    original: BatchMark | None = None


ACCEPTED = Judgement(Verdict.ACCEPTED)


def mark_of(header: BatchHeader) -> BatchMark:
    """`header` as it stands in the log: base offset filled in."""
    return BatchMark(
        header.base_sequence, header.last_sequence, header.base_offset, header.max_timestamp
    )


def follows(previous: int, following: int) -> bool:
    return following == (previous + 1) & SEQUENCE_MAX


def judge(producer: Producer | None, *, epoch: int, first_sequence: int, last: int) -> Judgement:
    """What becomes of a batch with these sequences (`last` is its last sequence)."""
    if producer is None:
        return ACCEPTED
    if epoch < producer.epoch:
        return Judgement(Verdict.STALE_EPOCH)
    if epoch > producer.epoch:
        return ACCEPTED if first_sequence == 0 else Judgement(Verdict.OUT_OF_ORDER)
    for mark in producer.marks:
        if mark.first_sequence == first_sequence and mark.last_sequence == last:
            return Judgement(Verdict.DUPLICATE, mark)
    if follows(producer.last_sequence, first_sequence):
        return ACCEPTED
    return Judgement(Verdict.OUT_OF_ORDER)


def remember(producer: Producer | None, *, epoch: int, mark: BatchMark) -> Producer:
    """The producer after this batch was accepted: an older epoch's marks are dropped, five are kept."""
    if producer is None or epoch != producer.epoch:
        return Producer(epoch, (mark,))
    return Producer(epoch, (*producer.marks, mark)[-MARKS_MAX:])
