"""Submissions waiting for an object: what the caller gave, the future it holds, and a bound on the bytes.

Owned by one event loop. A submission goes into one object whole. Offsets are checked at the door against what was
submitted before, durable or not, so that a batch in the log always follows the one before it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...errors import Corrupt, HeadwaterError, Refused, Unavailable
from ...record import TopicPartition
from .entries import Batch, CommitResult, Drop, Entry, Event, Trim
from .layout import batch_span

_ENTRY_BYTES = 64  # what an entry costs in the index, roughly: bounds a queue of empty events too


@dataclass(slots=True)
class Submission:
    entries: Sequence[Entry]
    bytes: int
    at: float
    future: asyncio.Future[CommitResult]


class SubmissionQueue:
    def __init__(self, *, bytes_max: int, durable_end: Callable[[TopicPartition], int]) -> None:
        self._bytes_max = bytes_max
        self._durable_end = durable_end
        self._waiting: deque[Submission] = deque()
        self._ends: dict[
            TopicPartition, int
        ] = {}  # of partitions submitted to; else the durable end
        self._taken: list[Submission] = []
        self._bytes = 0
        self.waiting_bytes = 0
        self.arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def pending_bytes(self) -> int:
        """Waiting and in the object that is being written."""
        return self._bytes

    @property
    def oldest_at(self) -> float:
        return self._waiting[0].at

    def next_offset(self, partition: TopicPartition) -> int:
        end = self._ends.get(partition)
        return self._durable_end(partition) if end is None else end

    def add(self, entries: Sequence[Entry], *, now: float) -> asyncio.Future[CommitResult]:
        """All or nothing. Raises Refused for offsets that do not follow, Unavailable above the bound."""
        if not entries:
            raise Refused("nothing to submit")
        size, ends = self._checked(entries)
        if self._bytes and self._bytes + size > self._bytes_max:
            self._room.clear()
            raise Unavailable(
                f"{self._bytes} bytes wait to become durable, {self._bytes_max} allowed"
            )
        self._ends.update(ends)
        self._bytes += size
        self.waiting_bytes += size
        future: asyncio.Future[CommitResult] = asyncio.get_running_loop().create_future()
        self._waiting.append(Submission(entries, size, now, future))
        self.arrived.set()
        return future

    def take(self, bytes_max: int) -> list[Submission]:
        """The next object's submissions, at least one."""
        assert not self._taken
        assert self._waiting
        size = 0
        while self._waiting and (not size or size + self._waiting[0].bytes <= bytes_max):
            submission = self._waiting.popleft()
            size += submission.bytes
            self._taken.append(submission)
        self.waiting_bytes -= size
        if not self._waiting:
            self.arrived.clear()
        return self._taken

    def succeed(self, seq: int) -> None:
        """What was taken is durable and applied."""
        done, self._taken = self._taken, []
        result = CommitResult(seq)
        for submission in done:
            self._bytes -= submission.bytes
            if (
                not submission.future.done()
            ):  # a client that went away cancelled its future, not the commit
                submission.future.set_result(result)
        if self._bytes < self._bytes_max:
            self._room.set()

    def fail(self, taken: HeadwaterError, waiting: HeadwaterError) -> None:
        """The writer is closed: `taken` for the object in flight, `waiting` for what no object ever held."""
        for submissions, error in ((self._taken, taken), (self._waiting, waiting)):
            for submission in submissions:
                if not submission.future.done():
                    submission.future.set_exception(error)
                    submission.future.exception()  # a caller that left must not make asyncio complain
        self._taken = []
        self._waiting.clear()
        self._bytes = self.waiting_bytes = 0
        self._room.set()
        self.arrived.set()

    async def room(self) -> None:
        """Returns when less than the bound is pending, or the writer has closed."""
        await self._room.wait()

    def _checked(self, entries: Sequence[Entry]) -> tuple[int, dict[TopicPartition, int]]:
        size = 0
        ends: dict[TopicPartition, int] = {}
        for entry in entries:
            size += _ENTRY_BYTES
            match entry:
                case Batch(partition, data):
                    expected = ends.get(partition)
                    if expected is None:
                        expected = self.next_offset(partition)
                    try:
                        span = batch_span(data)
                    except Corrupt as error:
                        raise Refused(f"{partition}: {error}") from error
                    if span.base != expected or span.size != len(data):
                        raise Refused(
                            f"{partition}: a batch of {len(data)} bytes at offset {span.base} "
                            f"does not fit at {expected}"
                        )
                    ends[partition] = span.last + 1
                    size += span.size
                case Event(data):
                    size += len(data)
                case Trim(partition, start):
                    end = ends.get(partition)
                    if not 0 <= start <= (self.next_offset(partition) if end is None else end):
                        raise Refused(f"{partition}: no offset {start} to start at")
                case Drop(partition):
                    ends[partition] = 0
        return size, ends
