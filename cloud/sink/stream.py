"""One stream as the sink follows it: what was fetched and not committed, and where fetching goes on.

Two positions per partition, and who moves them: `next` (fetching) moves with every answer and falls back to the
table's when a commit fails; the table's position moves with a commit alone. So nothing that is dropped here is lost.
"""

from __future__ import annotations

import msgspec

from ...core.batch import split_batches
from ...core.record import TopicPartition
from .source import Fetched, OutOfRange
from .table import Table


class Following(msgspec.Struct):
    """One partition."""

    next: int
    end: int = -1
    halted: str = ""  # why it is not read


class Stream:
    def __init__(self, table: Table) -> None:
        self.table = table
        self.partitions: dict[TopicPartition, Following] = {}
        self.pending: list[Fetched | OutOfRange] = []
        self.pending_bytes = 0
        self.committing_bytes = 0
        self.pending_since = 0.0
        self.blocked = ""  # why nothing is committed at present
        self.retry_at = 0.0

    @property
    def bytes_held(self) -> int:
        return self.pending_bytes + self.committing_bytes

    def positions(self) -> dict[TopicPartition, int]:
        """Where to fetch."""
        if self.blocked:
            return {}
        return {tp: own.next for tp, own in self.partitions.items() if not own.halted}

    def take(self, answer: Fetched | OutOfRange, now: float) -> None:
        """An answer to a question that was asked before the last reset is none."""
        own = self.partitions.get(answer.partition)
        if own is None or own.next != answer.offset or self.blocked:
            return
        if isinstance(answer, OutOfRange):
            self._take_range(own, answer, now)
            return
        following = own.next
        for header, _ in split_batches(answer.batches):
            following = max(following, header.next_offset)
        if following == own.next:
            return
        own.next, own.end = following, answer.end
        self._pend(answer, len(answer.batches), now)

    def _take_range(self, own: Following, answer: OutOfRange, now: float) -> None:
        start, end = answer.bounds
        if own.next > end:
            own.halted = (
                f"{answer.partition}: committed up to offset {own.next}, but the log ends at {end}: "
                "the topic was made anew or truncated; nothing is read until it has caught up or the "
                "table is moved away"
            )
        elif own.next < start:
            own.next = start
            self._pend(answer, 0, now)

    def _pend(self, answer: Fetched | OutOfRange, size: int, now: float) -> None:
        if not self.pending:
            self.pending_since = now
        self.pending.append(answer)
        self.pending_bytes += size

    def cut(self) -> list[Fetched | OutOfRange]:
        """What a commit takes; fetching goes on into an empty buffer."""
        taken, self.pending = self.pending, []
        self.committing_bytes, self.pending_bytes = self.pending_bytes, 0
        return taken

    def fall_back(self) -> None:
        """Forget what was fetched, and go on from the table's positions."""
        self.pending, self.pending_bytes = [], 0
        for partition, own in self.partitions.items():
            position = self.table.position(partition)
            if position is not None:
                own.next = position
        # a partition without a position in the table begins anew: see Sink._discover
        self.partitions = {
            tp: own for tp, own in self.partitions.items() if self.table.position(tp) is not None
        }

    def begin_anew(self) -> None:
        """Another topic of the name is there: its offsets mean nothing for what we hold."""
        self.pending, self.pending_bytes = [], 0
        self.partitions = {}

    def block(self, reason: str, retry_at: float) -> None:
        self.blocked, self.retry_at = reason, retry_at
        self.pending, self.pending_bytes = [], 0
