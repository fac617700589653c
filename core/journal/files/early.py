"""Durability classes: the writer of a partition whose records may be acknowledged before they are on disk.

    sync      `PartitionWriter`: acknowledged when durable. The default, and what every other promise stands on.
    interval  `EarlyWriter`: acknowledged at once, durable at the latest `interval` later, sooner if a commit goes anyway
    memory    `VolatileWriter` (volatile.py): acknowledged at once, written only when it must be

Rules:
1. Early means: the offset lies in a reserved range (reservations.py) and no record before it in this partition is still held
   for its commit. Else the record is held like one of a sync stream, and asks for a commit at once; so the first records
   after a start, and bursts beyond what was reserved, cost a sync and lose nothing.
2. `passed` says which, for the last append. Who answers clients reads it before anything else is appended.
3. Readers see an interval record when it is durable, as all others: nothing that the uplink sends can vanish at the edge.
4. How far is reserved ahead follows the pace: twice what two commits bring, so that "at most" in a gap stays tight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...record import Headers
from .reservations import Reserved
from .writing import Intake, PartitionWriter

if TYPE_CHECKING:
    from ...record import TopicPartition

# So many offsets ahead at least: a lone sensor then needs a note once in thirty-two commits.
AHEAD_MIN = 64


class EarlyRule(NamedTuple):
    """What a stream's owner declared. `tail_bytes` is None for interval; for memory, what may be held unwritten."""

    interval_s: float
    tail_bytes: int | None = None


class EarlyWriter(PartitionWriter):
    """Of an interval stream. `reserved` moves with the completion of a commit alone, as `end` does."""

    __slots__ = ("_asked", "_ended", "_held", "_held_flying", "interval_s", "passed", "reserved")

    early = True

    def __init__(
        self,
        intake: Intake,
        partition: TopicPartition,
        *,
        start: int,
        end: int,
        interval_s: float,
    ) -> None:
        super().__init__(intake, partition, start=start, end=end)
        self.interval_s = interval_s
        self.reserved = end
        self.passed = False
        self._asked = end  # what the newest sealed note reserves
        self._ended = False
        self._held = False  # records of the open commit wait for it
        self._held_flying = False  # … and of the commit under way

    def append(
        self, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers = ()
    ) -> int:
        first = not self._records
        offset = super().append(timestamp, key, value, headers)
        if first:
            self._intake.wait_at_most(self.interval_s)
        if offset < self.reserved and not (self._held or self._held_flying):
            self.passed = True
        else:
            self.passed = False
            self._held = self._intake.urgent = True
        return offset

    def hurry(self) -> None:
        self._intake.urgent = True

    def reservation(self, records: int) -> Reserved | None:
        """At seal: what this commit's note should reserve, now that it takes `records`; None where enough is."""
        self._held_flying, self._held = self._held, False
        ahead = 2 * max(records, AHEAD_MIN // 4)
        if self._asked - self.next_offset >= ahead:
            return None
        self._asked = self.next_offset + 2 * ahead
        return Reserved(self.next_offset, self._asked)

    def completed(self, reserved: Reserved | None) -> None:
        """The commit is durable, and so is what it reserved."""
        self._held_flying = False
        if reserved is not None and not self._ended:
            self.reserved = reserved.end

    def stop(self) -> None:
        """An orderly stop begins: every further append is held, and the next commit takes all."""
        self._ended = True
        self.reserved = 0
