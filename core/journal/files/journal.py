"""The file journal: one durable, ordered log for all partitions of an edge.

    append   gives the offset at once and puts the record into the open commit      loop thread, microseconds
    seal     encodes one batch per dirty partition; the next append opens commit+1  loop thread
    write    pads, writes, syncs; survives what the disk refuses                    disk thread
    complete moves the log end offsets: now readers see it, now it may be acknowledged  loop thread
Watermarks: `next_offset` moves with append, `end` with complete alone, `start` with retention alone (after its gap
records are durable, see retention.py). One commit is under way at a time; `Committer` is the asyncio rim that drives it.
Reading is safe from any thread.

Knows nothing of MQTT, of the uplink, nor of why a stream is called what it is.
"""

from __future__ import annotations

import asyncio
import random
import struct
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator

from ...batch import encode_batch, validate_batch
from ...clock import Clock
from ...disk import Disk, Lock
from ...errors import Closed, Corrupt, Missing, OffsetOutOfRange, Refused, Unavailable
from ...record import GAPS_STREAM, Headers, Record, TopicPartition
from ..reading import Arrival, Bounds, JournalReader, Position
from . import names
from .appender import Appender, Counters, PendingFrame, PlacedBatch
from .frames import Note, batch_entry, note_entry, notes
from .index import SegmentMap
from .recovery import Recovery, RecoveryReport
from .scan import Stretch, read_through, walk
from .settings import FileJournalSettings
from .shelf import Loss, OpenSegment, SegmentLost, Shelf

# What a record costs beyond its bytes: an upper bound of lengths and deltas in the batch, and the tuple in memory.
_RECORD_OVERHEAD = 48
_BATCH_TIMES = struct.Struct(">qq")
_BATCH_TIMES_POSITION = 27
_READ_ATTEMPTS = 3

RecordTuple = tuple[int, bytes | None, bytes | None, Headers]


class Commit:
    """What one group commit makes durable. Made by `seal`, then `write` (again, until it returns), then `complete`."""

    __slots__ = ("_appender", "bytes", "durable_to", "ends", "frames", "number", "records")

    def __init__(self, number: int, appender: Appender) -> None:
        self.number = number
        self.records = 0
        self.bytes = 0
        self.frames: deque[PendingFrame] = deque()
        self.ends: list[tuple[PartitionWriter, int]] = []
        self.durable_to: Position | None = None
        self._appender = appender

    def write(self) -> None:
        """In the disk thread. Raises DiskFull or Unavailable: nothing is lost, call it again."""
        while self.frames:
            self._appender.write_frame(self.frames[0])
            self.frames.popleft()
        active = self._appender.shelf.active
        assert active is not None
        self.durable_to = Position(active.sequence, self._appender.position)
        self._appender.counters.commits += 1
        self._appender.counters.records += self.records


class PartitionWriter:
    """One partition: where it starts, ends, and the records waiting for the next seal."""

    __slots__ = (
        "_exempt",
        "_journal",
        "_record_bytes_max",
        "_records",
        "end",
        "next_offset",
        "partition",
        "start",
    )

    def __init__(
        self, journal: FileJournal, partition: TopicPartition, *, start: int, end: int
    ) -> None:
        self.partition = partition
        self.start = start
        self.end = end
        self.next_offset = end
        self._journal = journal
        self._records: list[RecordTuple] = []
        self._record_bytes_max = int(journal.settings.record_bytes_max)
        self._exempt = partition.topic == GAPS_STREAM

    def append(
        self, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers = ()
    ) -> int:
        """The record's offset; durable when `journal.open_commit`, read before or just after, is.

        Raises Refused (too large), Unavailable (the journal is full and may not drop), Closed.
        """
        size = _RECORD_OVERHEAD
        if value is not None:
            size += len(value)
        if key is not None:
            size += len(key)
        if headers:
            for name, content in headers:
                size += len(name) + len(content or b"") + 10
        journal = self._journal
        if size > self._record_bytes_max or journal.closed_to_records:
            self._check(size)
        records = self._records
        if not records:
            journal.dirty.append(self)
        records.append((timestamp, key, value, headers))
        journal.pending_bytes += size
        journal.pending_records += 1
        offset = self.next_offset
        self.next_offset = offset + 1
        return offset

    def _check(self, size: int) -> None:
        if size > self._record_bytes_max + _RECORD_OVERHEAD:
            raise Refused(
                f"{self.partition}: record of {size} bytes is above {self._record_bytes_max}"
            )
        if self._journal.closed:
            raise Closed(f"journal {self._journal.directory} is closed")
        if self._journal.full is not None and not self._exempt:
            raise Unavailable(f"{self.partition}: {self._journal.full}")

    def take(self) -> list[RecordTuple]:
        records, self._records = self._records, []
        return records


class FileJournal(JournalReader):
    """Open with `FileJournal.open`; `recovery` tells what was found."""

    def __init__(
        self,
        directory: str,
        *,
        disk: Disk,
        clock: Clock,
        settings: FileJournalSettings,
        rng: random.Random,
        lock: Lock,
    ) -> None:
        self.directory = directory
        self.settings = settings
        self._disk = disk
        self._clock = clock
        self._lock = lock
        recovered = Recovery(directory, disk=disk, clock=clock, settings=settings, rng=rng).run()
        self.recovery: RecoveryReport = recovered.report
        self.log_id: str = recovered.appender.state.log_id
        self.appender = recovered.appender
        self.shelf: Shelf = recovered.shelf
        self._floor = recovered.floor
        self.open_commit = recovered.next_commit
        self.durable_commit = recovered.next_commit - 1
        self.pending_bytes = 0
        self.pending_records = 0
        self.dirty: list[PartitionWriter] = []
        self.closed = False
        self.full: str | None = None
        self.closed_to_records = False
        self.bytes_limit = int(settings.bytes_max)
        self._notes: list[tuple[int, bytes]] = []
        self._notes_needed_from: int | None = None
        self._sealed: Commit | None = None
        active = self.shelf.active
        sealed = self.shelf.sequences
        self._durable_to = Position(
            active.sequence if active else (sealed[-1] if sealed else 0),
            self.appender.position if active else 2**32 - 1,
        )
        self._writers: dict[TopicPartition, PartitionWriter] = {}
        for partition, end in self.appender.ends.items():
            start = recovered.starts.get(partition, min(self._floor, end))
            self._writers[partition] = PartitionWriter(self, partition, start=start, end=end)
        self.update_full()

    @classmethod
    def open(
        cls,
        directory: str,
        *,
        disk: Disk,
        clock: Clock,
        settings: FileJournalSettings,
        rng: random.Random,
        notes_since: int | None = None,
    ) -> FileJournal:
        """Recover and go on. Raises Refused (locked by another process, no permission), Unavailable (disk unusable).

        `notes_since`: the commit from which `recovery.notes` are wanted, by the caller's own checkpoint.
        """
        disk.make_directory(directory)
        lock = disk.lock(names.join(directory, names.LOCK))
        try:
            journal = cls(directory, disk=disk, clock=clock, settings=settings, rng=rng, lock=lock)
            if notes_since is not None:
                journal.recovery.notes = list(journal.notes(notes_since))
        except BaseException:
            lock.release()
            raise
        return journal

    def close(self) -> None:
        """Give up files and lock. What was not written is lost: the committer drains first."""
        if not self.closed:
            self.closed = self.closed_to_records = True
            self.shelf.close()
            self._lock.release()

    # writing

    @property
    def counters(self) -> Counters:
        return self.appender.counters

    @property
    def overfull(self) -> bool:
        """More waits for the disk than is allowed in memory: stop reading from those who send."""
        return self.pending_bytes > self.settings.pending_bytes_max

    def writer(self, partition: TopicPartition) -> PartitionWriter:
        """The partition's one writer; made at first use. Raises Refused at the limit of partitions."""
        found = self._writers.get(partition)
        if found is None:
            if not self.appender.partitions_fit(len(self._writers) + 1):
                raise Refused(
                    f"{partition}: {len(self._writers)} partitions are as many as segments of "
                    f"{self.settings.segment_bytes} can index",
                    hint="a larger edge.journal.segment_bytes",
                )
            found = PartitionWriter(self, partition, start=self._floor, end=self._floor)
            self._writers[partition] = found
        return found

    def append(self, partition: TopicPartition, record: Record) -> int:
        return self.writer(partition).append(*record)

    def note(self, kind: int, payload: bytes) -> int:
        """Opaque state into the open commit, whose number is returned. `kind` is the caller's, 0 to 65535."""
        if self.closed:
            raise Closed(f"journal {self.directory} is closed")
        if len(payload) > self.settings.record_bytes_max:
            raise Refused(f"note of {len(payload)} bytes is above {self.settings.record_bytes_max}")
        self._notes.append((kind, payload))
        self.pending_bytes += len(payload) + _RECORD_OVERHEAD
        return self.open_commit

    def seal(self) -> Commit | None:
        """Everything appended so far, as one commit; None where there is nothing."""
        if self._sealed is not None:
            raise AssertionError("a commit is under way")
        if not self.dirty and not self._notes:
            return None
        commit = Commit(self.open_commit, self.appender)
        commit.bytes, commit.records = self.pending_bytes, self.pending_records
        framing = _Framing(commit, int(self.settings.commit_bytes_max), self._clock.wall_ms())
        small = self.pending_bytes <= self.settings.commit_bytes_max
        dirty, self.dirty = self.dirty, []
        for writer in dirty:
            records = writer.take()
            base = writer.next_offset - len(records)
            commit.ends.append((writer, writer.next_offset))
            for run in (records,) if small else _runs(records, int(self.settings.commit_bytes_max)):
                batch = encode_batch(run, base_offset=base)
                framing.batch(writer.partition, batch, base, base + len(run))
                base += len(run)
        waiting, self._notes = self._notes, []
        for kind, payload in waiting:
            framing.note(kind, payload)
        framing.finish()
        self.open_commit += 1
        self._sealed = commit
        return commit

    def complete(self, commit: Commit) -> None:
        """The commit is durable: readers see it from now on."""
        assert commit is self._sealed
        assert commit.durable_to is not None
        for writer, end in commit.ends:
            writer.end = end
        self._durable_to = commit.durable_to
        self.durable_commit = commit.number
        self.pending_bytes -= commit.bytes
        self.pending_records -= commit.records
        self._sealed = None
        self.update_full()

    def update_full(self) -> None:
        full = self.used_bytes + self.settings.reserve_bytes > self.bytes_limit
        self.full = (
            f"journal {self.directory} holds {self.used_bytes} bytes of {self.bytes_limit}"
            if full
            else None
        )
        self.closed_to_records = self.closed or full

    @property
    def used_bytes(self) -> int:
        segments = len(self.shelf.sequences) + 1 + self.settings.spares
        return segments * int(self.settings.segment_bytes)

    def need_notes_from(self, commit: int) -> None:
        """Notes of this commit and later are still wanted: retention keeps their segments."""
        self._notes_needed_from = commit

    @property
    def notes_needed_from(self) -> int | None:
        return self._notes_needed_from

    # reading

    def partitions(self) -> list[TopicPartition]:
        return [
            p for p, writer in list(self._writers.items()) if writer.end > self._floor or writer.end
        ]

    def writers(self) -> list[PartitionWriter]:
        return list(self._writers.values())

    def bounds(self, partition: TopicPartition) -> Bounds:
        writer = self._writers.get(partition)
        if writer is None:
            raise Missing(f"{partition}: no such partition")
        return Bounds(writer.start, writer.end)

    async def read(self, partition: TopicPartition, offset: int, *, bytes_max: int) -> list[bytes]:
        return await asyncio.to_thread(self.read_sync, partition, offset, bytes_max=bytes_max)

    async def read_arrivals(
        self, position: Position, *, bytes_max: int
    ) -> tuple[list[Arrival], Position]:
        return await asyncio.to_thread(self.read_arrivals_sync, position, bytes_max=bytes_max)

    def read_sync(self, partition: TopicPartition, offset: int, *, bytes_max: int) -> list[bytes]:
        """`read` in the caller's thread."""
        while True:
            start, end = self.bounds(partition)
            if offset < start:
                raise OffsetOutOfRange(
                    f"{partition}: offset {offset} is before {start}, the log start"
                )
            if offset >= end:
                return []
            try:
                with self.shelf.lock:
                    return self._collect(partition, offset, end, bytes_max)
            except SegmentLost:
                continue

    def _collect(
        self, partition: TopicPartition, offset: int, end: int, bytes_max: int
    ) -> list[bytes]:
        found: list[bytes] = []
        total = 0
        index = self.shelf.locate(partition, offset)
        while offset < end:
            segment = self._at(index)
            if segment is None:
                break
            batches = self.shelf.batches(segment.sequence)
            for batch in batches.indexes_from(partition, offset):
                if batches.base[batch] >= end:
                    return found
                size = batches.length[batch]
                if found and total + size > bytes_max:
                    return found
                data = self._fetch(segment, batches, batch)
                offset = batches.next[batch]
                if data is not None:
                    found.append(data)
                    total += size
            if total >= bytes_max:
                break
            index = max(index + 1, self.shelf.locate(partition, offset))
        return found

    def _at(self, index: int) -> OpenSegment | None:
        """The sealed segment at `index`; after the last one the open one."""
        if index < len(self.shelf.sequences):
            return self.shelf.segment(self.shelf.sequences[index])
        return self.shelf.active if index == len(self.shelf.sequences) else None

    def _fetch(self, segment: OpenSegment, batches: SegmentMap, index: int) -> bytes | None:
        """None where the medium does not give back what was written; then it is a loss, noted once."""
        reason = ""
        for _ in range(_READ_ATTEMPTS):
            try:
                data = segment.file.read(batches.position[index], batches.length[index])
                if validate_batch(data).base_offset == batches.base[index]:
                    return data
                reason = "another batch stands there"
            except (Unavailable, Corrupt) as error:
                reason = str(error)
        batches.bad.add(index)
        self.shelf.damaged.add(segment.sequence)
        name = names.segment(segment.sequence)
        detail = f"{name}: batch at {batches.position[index]}: {reason}"
        partition = batches.partitions[batches.row[index]]
        self.shelf.losses.append(
            Loss(partition, batches.base[index], batches.next[index] - 1, detail)
        )
        return None

    def read_arrivals_sync(
        self, position: Position, *, bytes_max: int
    ) -> tuple[list[Arrival], Position]:
        """`read_arrivals` in the caller's thread."""
        while True:
            try:
                with self.shelf.lock:
                    return self._arrivals(position, bytes_max)
            except SegmentLost:
                continue

    def _arrivals(self, position: Position, bytes_max: int) -> tuple[list[Arrival], Position]:
        durable = self._durable_to
        found: list[Arrival] = []
        total = 0
        index = bisect_left(self.shelf.sequences, position.segment)
        while (segment := self._at(index)) is not None and segment.sequence <= durable.segment:
            byte = position.byte if segment.sequence == position.segment else 0
            batches = self.shelf.batches(segment.sequence)
            for batch in range(bisect_left(batches.position, byte), len(batches)):
                place, size = batches.position[batch], batches.length[batch]
                if segment.sequence == durable.segment and place >= durable.byte:
                    break
                if found and total + size > bytes_max:
                    return found, position
                position = Position(segment.sequence, place + size)
                partition = batches.partitions[batches.row[batch]]
                writer = self._writers.get(partition)
                if batch in batches.bad or (writer and batches.next[batch] <= writer.start):
                    continue
                data = self._fetch(segment, batches, batch)
                if data is not None:
                    found.append(Arrival(partition, data))
                    total += size
            index += 1
        return found, position

    def position_of(self, partition: TopicPartition, offset: int) -> Position:
        """Where in arrival order to go on so as to meet `offset` of this partition. Raises Missing."""
        while True:
            writer = self._writers.get(partition)
            if writer is None:
                raise Missing(f"{partition}: no such partition")
            offset = max(offset, writer.start)
            if offset >= writer.end:
                return self._durable_to
            try:
                with self.shelf.lock:
                    index = self.shelf.locate(partition, offset)
                    while (segment := self._at(index)) is not None:
                        batches = self.shelf.batches(segment.sequence)
                        for batch in batches.indexes_from(partition, offset):
                            return Position(segment.sequence, batches.position[batch])
                        index += 1
                    return self._durable_to
            except SegmentLost:
                continue

    @property
    def end_position(self) -> Position:
        """The place in arrival order after everything that is durable."""
        return self._durable_to

    def notes(self, since: int) -> Iterator[Note]:
        """Durable notes of commit `since` and later, in order."""
        with self.shelf.lock:
            wanted = [*self.shelf.sequences]
            if self.shelf.active is not None:
                wanted.append(self.shelf.active.sequence)
        for sequence in wanted:
            try:
                yield from self._notes_of(sequence, since)
            except SegmentLost:
                continue

    def _notes_of(self, sequence: int, since: int) -> list[Note]:
        with self.shelf.lock:
            segment = self.shelf.segment(sequence)
            footer = segment.footer
            if footer is not None:
                totals = footer.totals
                if totals.notes == 0 or totals.last_commit < since:
                    return []
            self.shelf.batches(sequence)  # so that `end` is known
            buffer = read_through(segment.file, segment.end or 0)
            found: list[Note] = []
            for header in walk(buffer, salt=segment.salt, sequence=sequence):
                if (
                    not isinstance(header, Stretch)
                    and since <= header.commit <= self.durable_commit
                ):
                    found += notes(buffer, header.position, header)
            return found

    def take_losses(self) -> list[Loss]:
        """Damage met while reading since the last call, cut to what is not retired: to be declared as gap records."""
        with self.shelf.lock:
            losses, self.shelf.losses = self.shelf.losses, []
        return [clipped for loss in losses if (clipped := self._clip(loss)) is not None]

    def _clip(self, loss: Loss) -> Loss | None:
        writer = self._writers.get(loss.partition)
        first = max(loss.first, writer.start) if writer is not None else loss.first
        return loss._replace(first=first) if first <= loss.last else None


class _Framing:
    """Gathers entries into frames of bounded size."""

    def __init__(self, commit: Commit, bytes_max: int, wall_ms: int) -> None:
        self._commit = commit
        self._bytes_max = bytes_max
        self._wall_ms = wall_ms
        self._clear()

    def _clear(self) -> None:
        self._parts: list[bytes] = []
        self._batches: list[PlacedBatch] = []
        self._size = 0
        self._notes = 0

    def batch(self, partition: TopicPartition, batch: bytes, base: int, following: int) -> None:
        entry = batch_entry(partition, batch)
        self._room(len(entry))
        start = self._size + len(entry) - len(batch)
        times: tuple[int, int] = _BATCH_TIMES.unpack_from(batch, _BATCH_TIMES_POSITION)
        self._batches.append(PlacedBatch(partition, (base, following), (start, len(batch)), times))
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


def _runs(records: list[RecordTuple], bytes_max: int) -> Iterator[list[RecordTuple]]:
    """Runs of records whose batch stays below `bytes_max`, or single records."""
    run: list[RecordTuple] = []
    total = 0
    for record in records:
        size = _RECORD_OVERHEAD + len(record[1] or b"") + len(record[2] or b"")
        size += sum(len(name) + len(content or b"") + 10 for name, content in record[3])
        if run and total + size > bytes_max // 2:
            yield run
            run, total = [], 0
        run.append(record)
        total += size
    yield run
