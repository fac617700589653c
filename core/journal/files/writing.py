"""Appending and sealing: from records in memory to frames without a place.

`Intake`   the open commit: what was appended since the last seal, and whether more may be
`PartitionWriter`  one partition's records of it; both inherit what happens for each record (opencommit.py)
`seal_into` encodes one batch per dirty partition and groups them into frames of bounded size

Knows nothing of files; the appender gives frames their place.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from ...batch import encode_batch
from ...belief import NO_STAMP, Stamp
from ...errors import Closed, Refused, Unavailable
from ...record import GAPS_STREAM, THINNED_SUFFIX, TopicPartition
from ..reading import Position
from .appender import Appender, PendingFrame, PlacedBatch
from .frames import FRAME_HEADER_BYTES, batch_entry, note_entry, padded
from .opencommit import HEADER_OVERHEAD, RECORD_OVERHEAD, Appending, OpenCommit, RecordTuple
from .reservations import NOTE_RESERVED, Reservations, Reserved, encode_reservations

if TYPE_CHECKING:
    from .early import EarlyWriter

_BATCH_TIMES = struct.Struct(">qq")
_BATCH_TIMES_POSITION = 27


class Intake(OpenCommit):
    """The open commit."""

    __slots__ = ("closed", "early", "notes", "patience_s", "renouncing", "stamp", "urgent")

    dirty: list[PartitionWriter]  # type: ignore[assignment]  # only these append here

    def __init__(self, record_bytes_max: int) -> None:
        super().__init__(record_bytes_max)
        self.notes: list[tuple[int, bytes]] = []
        self.stamp = NO_STAMP  # of the clock, on each batch; it changes only while nothing is here
        self.closed = False
        self._opened()
        self.renouncing: list[PartitionWriter] = []

    def _opened(self) -> None:
        """What only early writers (early.py) touch: how many of `dirty` can wait, for how long at most, and
        whether something of theirs cannot."""
        self.early = 0
        self.patience_s = float("inf")
        self.urgent = False

    def wait_at_most(self, seconds: float) -> None:
        self.early += 1
        self.patience_s = min(self.patience_s, seconds)

    @property
    def patient(self) -> bool:
        """Everything that is here was acknowledged already and may wait for `patience_s`."""
        return bool(
            self.early
            and not (self.urgent or self.notes or self.renouncing)
            and len(self.dirty) == self.early
        )

    def sealed(self) -> None:
        self._opened()
        self.renouncing = []


class Commit:
    """What one group commit makes durable. Made by `seal`, then `write` (again, until it returns), then `complete`."""

    __slots__ = (
        *("_appender", "bytes", "durable_to", "early", "ends", "frames", "number", "records"),
        "reservations",
    )

    def __init__(self, number: int, appender: Appender) -> None:
        self.number = number
        self.records = 0
        self.bytes = 0
        self.frames: deque[PendingFrame] = deque()
        self.ends: list[tuple[PartitionWriter, int]] = []
        self.durable_to: Position | None = None
        self.early: list[tuple[EarlyWriter, Reserved | None]] = []
        self.reservations: Reservations = {}
        self._appender = appender

    def write(self) -> None:
        """In the disk thread. Raises DiskFull or Unavailable: nothing is lost, call it again."""
        while self.frames:
            self._appender.write_frame(self.frames[0])
            self.frames.popleft()
        active = self._appender.shelf.active
        assert active is not None
        self.durable_to = Position(active.sequence, self._appender.position)
        self._appender.reserved.update(self.reservations)
        self._appender.counters.commits += 1
        self._appender.counters.records += self.records


class PartitionWriter(Appending):
    """One partition: where it starts, ends, and the records waiting for the next seal."""

    __slots__ = ("_exempt", "end", "partition", "start")

    _intake: Intake

    early = False
    volatile = False
    """Whether what passed is in memory alone (volatile.py)."""
    passed = False
    """Whether the record appended last may be acknowledged before its commit: never here (early.py)."""

    def __init__(self, intake: Intake, partition: TopicPartition, *, start: int, end: int) -> None:
        super().__init__(intake, end)
        self.partition = partition
        self.start = start
        self.end = end
        self._exempt = partition.topic == GAPS_STREAM or partition.topic.endswith(THINNED_SUFFIX)

    def _check(self, size: int) -> None:
        intake = self._intake
        if size > intake.record_bytes_max + RECORD_OVERHEAD:
            raise Refused(
                f"{self.partition}: record of {size} bytes is above {intake.record_bytes_max}"
            )
        if intake.closed:
            raise Closed(f"{self.partition}: {intake.refusing}")
        # gap records and summaries are the account of what is dropped to make room: they are always taken
        if intake.refusing is not None and not self._exempt:
            raise Unavailable(f"{self.partition}: {intake.refusing}")

    def hurry(self) -> None:
        """Somebody waits for the commit of what was appended: here, everybody does."""

    def stop(self) -> None:
        """An orderly stop begins (early.py)."""

    def renounce(self) -> Reserved:
        """Nothing beyond the next offset was given."""
        return Reserved(self.next_offset, self.next_offset)

    def take(self) -> list[RecordTuple]:
        records, self._records = self._records, []
        return records


def seal_into(
    commit: Commit,
    intake: Intake,
    *,
    bytes_max: int,
    small: bool,
    wall_ms: int,
) -> None:
    """Everything of the intake, as the commit's frames of about `bytes_max` each (`small`: one is enough)."""
    framing = _Framing(commit, bytes_max, wall_ms, intake.stamp)
    dirty, intake.dirty = intake.dirty, []
    for writer in dirty:
        records = writer.take()
        if writer.early:
            _reserve(commit, cast("EarlyWriter", writer), len(records))
            if not records:  # a memory stream that only reserves (volatile.py)
                continue
        base = writer.next_offset - len(records)
        commit.ends.append((writer, writer.next_offset))
        for run in (records,) if small else _runs(records, bytes_max):
            framing.batch(writer.partition, run, base)
            base += len(run)
    waiting, intake.notes = intake.notes, []
    for kind, payload in waiting:
        framing.note(kind, payload)
    for each in intake.renouncing:
        commit.reservations[each.partition] = each.renounce()
    if commit.reservations:  # behind the records: whole, it tells that they are
        framing.note(NOTE_RESERVED, encode_reservations(commit.reservations))
    intake.sealed()
    framing.finish()


def _reserve(commit: Commit, writer: EarlyWriter, records: int) -> None:
    reserved = writer.reservation(records)
    commit.early.append((writer, reserved))
    if reserved is not None:
        commit.reservations[writer.partition] = reserved


class _Framing:
    """Gathers entries into frames of bounded size."""

    def __init__(self, commit: Commit, bytes_max: int, wall_ms: int, stamp: Stamp) -> None:
        self._commit = commit
        self._bytes_max = bytes_max
        self._wall_ms = wall_ms
        self._producer = stamp._asdict()
        self._clear()

    def _clear(self) -> None:
        self._parts: list[bytes] = []
        self._batches: list[PlacedBatch] = []
        self._size = 0
        self._notes = 0

    def batch(self, partition: TopicPartition, records: list[RecordTuple], base: int) -> None:
        batch = encode_batch(records, base_offset=base, **self._producer)
        entry = batch_entry(partition, batch)
        self._room(len(entry))
        place = (self._size + len(entry) - len(batch), len(batch))
        times: tuple[int, int] = _BATCH_TIMES.unpack_from(batch, _BATCH_TIMES_POSITION)
        self._batches.append(PlacedBatch(partition, (base, base + len(records)), place, times))
        self._add(entry)

    def note(self, kind: int, payload: bytes) -> None:
        entry = note_entry(kind, payload)
        self._room(len(entry))
        self._notes += 1
        self._add(entry)

    def _add(self, entry: bytes) -> None:
        self._parts.append(entry)
        self._size += len(entry)

    def _room(self, size: int) -> None:
        if self._parts and self._size + size > self._bytes_max:
            self._emit(last=False)

    def finish(self) -> None:
        self._emit(last=True)
        frames, following = self._commit.frames, 0
        if len(frames) > 1:
            for index in range(len(frames) - 1, -1, -1):
                frames[index] = frames[index]._replace(following=following)
                following += padded(FRAME_HEADER_BYTES + len(frames[index].body))

    def _emit(self, *, last: bool) -> None:
        self._commit.frames.append(
            PendingFrame(
                b"".join(self._parts),
                len(self._parts),
                self._batches,
                self._notes,
                self._commit.number,
                self._wall_ms,
                last,
            )
        )
        self._clear()


def record_bytes(record: RecordTuple) -> int:
    """An upper bound of what a record takes, as `PartitionWriter.append` counts it."""
    size = RECORD_OVERHEAD + len(record[1] or b"") + len(record[2] or b"")
    for name, content in record[3]:
        size += len(name.encode()) + len(content or b"") + HEADER_OVERHEAD
    return size


def _runs(records: list[RecordTuple], bytes_max: int) -> Iterator[list[RecordTuple]]:
    """Runs of records whose batch stays below `bytes_max`, or single records."""
    run: list[RecordTuple] = []
    total = 0
    for record in records:
        size = record_bytes(record)
        if run and total + size > bytes_max // 2:
            yield run
            run, total = [], 0
        run.append(record)
        total += size
    yield run
