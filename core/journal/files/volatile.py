"""The memory class: a partition's newest records in a bounded tail that is written only when it must be.

    append        into the tail; acknowledged at once and seen by readers at once, within what is reserved (early.py, rule 1)
    `sent`        the cloud has them: they leave the tail and were never written. An edge whose link holds writes one note
                  of 4 KiB for each `AHEAD` records, and nothing else
    `spill`       all of the tail goes into the next commit, as if the stream were `interval`: because the link is away, the
                  tail is half full, somebody waits, or the edge stops in an orderly way
Offsets: below `tail_first` a record is on disk or was sent; from there to `end` it is in memory, and lost if the power
goes. Recovery declares that from the reservation, "at most"; whoever declares leaves out what is known to have been sent.
Read from any thread; all else happens on the loop. `_lock` keeps the tail and its first offset together.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from typing import TYPE_CHECKING

from ...batch import encode_batch
from ...record import Headers
from .early import EarlyRule, EarlyWriter
from .opencommit import RecordTuple
from .reservations import Reserved
from .writing import Intake, PartitionWriter, record_bytes

if TYPE_CHECKING:
    from ...record import TopicPartition

# Offsets reserved at a time: 4 KiB of note for each is a byte a record, and a gap says "at most" twice as many.
AHEAD = 4096


class VolatileWriter(EarlyWriter):
    """Of a memory stream."""

    volatile = True

    __slots__ = (
        *("_flying_end", "_lock", "_queued", "_sealed", "_seen", "_spilling", "_stamps", "_tail"),
        *("_unsealed_bytes", "tail_bytes", "tail_bytes_max", "tail_first"),
    )

    def __init__(
        self,
        intake: Intake,
        partition: TopicPartition,
        *,
        start: int,
        end: int,
        interval_s: float,
        tail_bytes_max: int,
    ) -> None:
        super().__init__(intake, partition, start=start, end=end, interval_s=interval_s)
        self.tail_first = end
        self.tail_bytes = 0
        self.tail_bytes_max = tail_bytes_max
        self._tail: list[RecordTuple] = []
        self._stamps = [(end, intake.stamp)]  # from which offset on which clock stamped
        self._lock = threading.Lock()
        self._queued = False  # among the writers of the open commit
        self._spilling = False  # … with all that the tail holds
        self._sealed = end  # below it, records are in a commit or gone
        self._flying_end = end
        self._seen = end
        self._unsealed_bytes = 0

    def append(
        self, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers = ()
    ) -> int:
        record = (timestamp, key, value, headers)
        size = record_bytes(record)
        intake = self._intake
        if size > intake.record_bytes_max or intake.refusing is not None:
            self._check(size)
        with self._lock:
            if intake.stamp is not self._stamps[-1][1]:
                self._stamps.append((self.next_offset, intake.stamp))
            self._tail.append(record)
            self.tail_bytes += size
            offset = self.next_offset
            self.next_offset = offset + 1
            self.passed = offset < self.reserved and not (self._held or self._held_flying)
            if self.passed:
                self.end = self._seen = offset + 1
        self._unsealed_bytes += size
        if self._spilling:
            intake.bytes += size
            intake.records += 1
        if not self.passed:
            self._held = intake.urgent = True
            self.spill()
        elif self.tail_bytes * 2 > self.tail_bytes_max:
            self.spill()
        elif self._asked - offset <= AHEAD:
            self._queue()
        return offset

    def _queue(self) -> None:
        if not self._queued:
            self._queued = True
            self._intake.dirty.append(self)
            self._intake.wait_at_most(self.interval_s)

    @property
    def unsealed(self) -> bool:
        """Something is in memory that no commit has taken."""
        return self.next_offset > max(self._sealed, self.tail_first)

    def spill(self) -> None:
        """Write what is in memory with the next commit, at the latest after the stream's interval."""
        if self._spilling or self.next_offset == self._sealed:
            return
        self._spilling = True
        self._intake.bytes += self._unsealed_bytes
        self._intake.records += self.next_offset - max(self._sealed, self.tail_first)
        self._queue()

    def hurry(self) -> None:
        self.spill()
        super().hurry()

    def stop(self) -> None:
        super().stop()
        self.spill()

    def sent(self, offset: int) -> None:
        """The cloud has all below `offset` for good."""
        self._drop(min(offset, self.end))

    def _drop(self, before: int) -> None:
        with self._lock:
            count = before - self.tail_first
            if count <= 0:
                return
            freed = sum(map(record_bytes, self._tail[:count]))
            del self._tail[:count]
            self.tail_first = before
            while len(self._stamps) > 1 and self._stamps[1][0] <= before:
                del self._stamps[0]
            self.tail_bytes -= freed
        if not self._spilling:
            self._unsealed_bytes = min(self._unsealed_bytes, self.tail_bytes)

    def take(self) -> list[RecordTuple]:
        self._queued = False
        self._flying_end = self._sealed
        if not self._spilling:
            return []
        self._spilling = False
        records = self._tail[max(self._sealed - self.tail_first, 0) :]
        self._sealed = self._flying_end = self.next_offset
        self._unsealed_bytes = 0
        return records

    def reservation(self, records: int) -> Reserved | None:
        self._held_flying, self._held = self._held, False
        if self._asked - self.next_offset > AHEAD:
            return None
        self._asked = self.next_offset + 2 * AHEAD
        return Reserved(self.next_offset if records else self.tail_first, self._asked)

    def completed(self, reserved: Reserved | None) -> None:
        # `complete` has set `end` to what the commit holds; what came since is seen already, but for what is held
        super().completed(reserved)
        self._seen = max(self._seen, self._flying_end) if self._held else self.next_offset
        self.end = self._seen
        self._drop(self._flying_end)

    def tail(self, offset: int, *, bytes_max: int) -> list[bytes]:
        """The records in memory from `offset` on that may be read, as one batch of about `bytes_max`."""
        with self._lock:
            first = max(offset, self.tail_first)
            index = bisect_right(self._stamps, first, key=lambda each: each[0])
            end = min(self.end, self._stamps[index][0]) if index < len(self._stamps) else self.end
            stamp = self._stamps[max(0, index - 1)][1]
            visible = self._tail[first - self.tail_first : end - self.tail_first]
        total = count = 0
        for record in visible:
            total += record_bytes(record)
            if count and total > bytes_max:
                break
            count += 1
        if not count:
            return []
        return [encode_batch(visible[:count], base_offset=first, **stamp._asdict())]


def make_writer(
    intake: Intake, partition: TopicPartition, rule: EarlyRule | None, *, start: int, end: int
) -> PartitionWriter:
    """The writer of the partition's durability class; without a rule it is `sync`."""
    if rule is None:
        return PartitionWriter(intake, partition, start=start, end=end)
    if rule.tail_bytes is None:
        return EarlyWriter(intake, partition, start=start, end=end, interval_s=rule.interval_s)
    return VolatileWriter(
        intake,
        partition,
        start=start,
        end=end,
        interval_s=rule.interval_s,
        tail_bytes_max=rule.tail_bytes,
    )
