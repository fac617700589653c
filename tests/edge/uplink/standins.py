"""What the simulated world of an edge partition is made of: a broker that keeps Kafka's rules for idempotent producers
to the letter, a journal, a supply that cuts at random, a connection.

The broker (org.apache.kafka.storage.internals.log.ProducerAppendInfo and ProducerStateManager, 3.9):
  a batch equal in first and last sequence to one of the last five of its producer and epoch   -> the original offset
  an older epoch than the one known                                                            -> INVALID_PRODUCER_EPOCH
  a newer epoch                                                                                -> only from sequence 0
  an unknown producer                                                                          -> any first sequence
  anything else must follow the last sequence                                                  -> or OUT_OF_ORDER
Only what is below the high watermark is acknowledged and visible to readers; a change of leader cuts the rest off, and
the new leader knows producers by its own log.
"""

from __future__ import annotations

import random
from collections import deque
from typing import NamedTuple

from headwater.core.kafka.errors import ErrorCode
from headwater.edge.uplink.cursor import Era
from headwater.edge.uplink.evidence import Described, Found
from headwater.edge.uplink.partition import PartitionFlow
from headwater.edge.uplink.supply import Cut

MASK = 2**31 - 1


class Entry(NamedTuple):
    """A batch in the cloud's log."""

    producer_id: int
    epoch: int
    first_sequence: int
    offsets: tuple[int, ...]
    base_offset: int
    label: int = 0

    @property
    def last_sequence(self) -> int:
        return (self.first_sequence + len(self.offsets) - 1) & MASK


class Broker:
    """One partition."""

    def __init__(self) -> None:
        self.log: list[Entry] = []
        self.base = 0  # records that others wrote before us
        self.start = 0
        self.hw = 0  # entries that are replicated
        self.forgotten: dict[
            int, int
        ] = {}  # producer id to entries of it that were forgotten with its state
        self.poison: set[int] = set()
        self.count_max = 1000
        self.next_producer = 1000

    @property
    def end_offset(self) -> int:
        return self.log[-1].base_offset + len(self.log[-1].offsets) if self.log else self.base

    @property
    def high_watermark(self) -> int:
        entry = self.log[self.hw - 1] if self.hw else None
        return entry.base_offset + len(entry.offsets) if entry else self.base

    def state(self, producer_id: int) -> list[Entry]:
        """What the producer state remembers: the last five batches of the newest epoch."""
        known = self.log[self.forgotten.get(producer_id, 0) :]
        own = [entry for entry in known if entry.producer_id == producer_id]
        return [entry for entry in own if entry.epoch == own[-1].epoch][-5:] if own else []

    def append(
        self, producer_id: int, epoch: int, sequence: int, offsets: tuple[int, ...], label: int
    ) -> tuple[ErrorCode, int]:
        if self.poison.intersection(offsets) or len(offsets) > self.count_max:
            return ErrorCode.MESSAGE_TOO_LARGE, -1
        remembered = self.state(producer_id)
        entry = Entry(producer_id, epoch, sequence, offsets, self.end_offset, label)
        if remembered:
            last = remembered[-1]
            if epoch < last.epoch:
                return ErrorCode.INVALID_PRODUCER_EPOCH, -1
            if epoch > last.epoch:
                if sequence != 0:
                    return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1
            else:
                for known in remembered:
                    if (known.first_sequence, known.last_sequence) == (
                        sequence,
                        entry.last_sequence,
                    ):
                        return ErrorCode.NONE, known.base_offset
                if sequence != (last.last_sequence + 1) & MASK:
                    return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1
        self.log.append(entry)
        return ErrorCode.NONE, entry.base_offset

    def describe(self, producer_id: int) -> Described | None:
        remembered = self.state(producer_id)
        return Described(remembered[-1].epoch, remembered[-1].last_sequence) if remembered else None

    def read_back(self, floor: int, producer_id: int, origin: int) -> Found:
        truncated = floor < self.start
        floor = max(floor, self.start)
        seen: dict[int, int] = {}
        after, last = floor, None
        for entry in self.log[: self.hw]:
            if entry.base_offset + len(entry.offsets) > floor:
                next_offset = entry.offsets[-1] + 1
                seen[entry.label] = max(next_offset, seen.get(entry.label, 0))
                if next_offset > origin:
                    after = entry.base_offset + len(entry.offsets)
                if entry.producer_id == producer_id:
                    last = Described(entry.epoch, entry.last_sequence)
        return Found(seen, after, truncated, last)

    def fail_over(self) -> None:
        """A replica that has all that was acknowledged takes over."""
        del self.log[self.hw :]
        self.forgotten = {key: min(at, self.hw) for key, at in self.forgotten.items()}

    def expire(self) -> None:
        for entry in self.log:
            self.forgotten[entry.producer_id] = len(self.log)


class Journal:
    """Offsets that exist at the edge: a start, an end, holes."""

    def __init__(self, start: int) -> None:
        self.start = self.end = start
        self.first = start
        self.holes: set[int] = set()

    def lost(self, offset: int) -> bool:
        return offset < self.start or offset in self.holes

    def held(self, offset: int, count: int) -> list[int]:
        found: list[int] = []
        for candidate in range(max(offset, self.start), self.end):
            if candidate not in self.holes:
                found.append(candidate)
                if len(found) == count:
                    break
        return found


class Supply:
    """Cuts of random size."""

    def __init__(self, journal: Journal, rng: random.Random) -> None:
        self._journal = journal
        self._rng = rng
        self._buffer: deque[int] = deque()
        self._wanted = 0
        self._limit: int | None = None

    @property
    def first(self) -> int | None:
        return self._buffer[0] if self._buffer else None

    @property
    def wanted(self) -> int:
        return self._wanted

    def feed(self) -> None:
        offsets = self._journal.held(self._wanted, self._rng.randint(1, 12))
        beyond = self._wanted
        beyond = offsets[-1] + 1 if offsets else max(beyond, self._journal.end)
        if self._limit is not None:
            offsets = [offset for offset in offsets if offset < self._limit]
            beyond = min(beyond, self._limit)
        self._buffer.extend(offsets)
        self._wanted = beyond

    def end_at(self, limit: int | None) -> None:
        self._limit = limit
        if limit is not None and self._wanted > limit:
            self.restart(min(limit, self.first if self.first is not None else limit))

    def ripe(self, now: float) -> bool:
        return True

    def restart(self, offset: int) -> None:
        self._buffer.clear()
        self._wanted = offset

    def cut(self, era: Era, *, label: int, records_max: int, plain: bool) -> Cut:
        first = self._buffer[0]
        count = 1
        limit = min(records_max, self._rng.randint(1, 4))
        while count < min(limit, len(self._buffer)) and self._buffer[count] == first + count:
            count += 1
        for _ in range(count):
            self._buffer.popleft()
        return Cut(first, count, era, b"%d" % label)


class Sent(NamedTuple):
    flow: PartitionFlow
    cut: Cut
    producer_id: int
    epoch: int
    sequence: int
    offsets: tuple[int, ...]
    label: int


class Answer(NamedTuple):
    flow: PartitionFlow
    cut: Cut
    code: ErrorCode
    base_offset: int
    entries: int  # how much of the log must be replicated before it may leave


class Connection:
    def __init__(self) -> None:
        self.broken_at = 0.0
        self.requests: deque[Sent] = deque()
        self.answers: deque[Answer] = deque()
