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
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping

from ...belief import Stamp
from ...clock import Clock
from ...disk import Disk, Lock
from ...errors import Closed, Missing, OffsetOutOfRange, Refused
from ...record import Record, TopicPartition
from ..reading import Arrival, Bounds, JournalReader, Position
from . import names
from .counters import Counters
from .early import EarlyRule
from .frames import Note
from .noted import notes_since
from .opencommit import RECORD_OVERHEAD
from .patience import PatientDisk
from .recovery import Recovery, RecoveryReport
from .segment import OpenSegment
from .settings import HEADROOM_SEGMENTS, FileJournalSettings
from .shelf import Loss, SegmentLost, Shelf
from .volatile import VolatileWriter, make_writer
from .writing import Commit, Intake, PartitionWriter, seal_into

_READ_ATTEMPTS = 3


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
        early: Mapping[str, EarlyRule] | None = None,
    ) -> None:
        self.directory = directory
        self.settings = settings
        self._disk = disk = PatientDisk(disk, clock)
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
        self.full: str | None = None
        self.why_kept = "and nothing may be dropped"  # said by retention
        self.bytes_limit = int(settings.bytes_max)
        # called when nothing is appended any more: who stamps may change the stamp
        self.on_sealed: Callable[[], None] | None = None
        self._intake = Intake(int(settings.record_bytes_max))
        self._early = early or {}
        self.volatile: dict[TopicPartition, VolatileWriter] = {}
        self._under_way: Commit | None = None
        self._notes_needed_from: int | None = None
        active = self.shelf.active
        sealed = self.shelf.sequences
        self._durable_to = Position(
            active.sequence if active else (sealed[-1] if sealed else 0),
            self.appender.position if active else 2**32 - 1,
        )
        self._before_seal: list[Callable[[int], None]] = []
        self._writers: dict[TopicPartition, PartitionWriter] = {}
        ends = dict(self.appender.ends)
        for partition, reserved in self.appender.reserved.items():
            ends[partition] = max(reserved.end, ends.get(partition, self._floor))
        self._streams = {partition.topic for partition in ends}
        for partition, end in ends.items():
            start = recovered.starts.get(partition, min(recovered.appender.state.floor, end))
            self._writers[partition] = self._make_writer(partition, start=start, end=end)
        self.update_full()

    def _make_writer(self, partition: TopicPartition, *, start: int, end: int) -> PartitionWriter:
        rule = self._early.get(partition.topic)
        writer = make_writer(self._intake, partition, rule, start=start, end=end)
        if isinstance(writer, VolatileWriter):
            self.volatile[partition] = writer
        return writer

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
        early: Mapping[str, EarlyRule] | None = None,
    ) -> FileJournal:
        """Recover and go on. Raises Refused (locked by another process, no permission), Unavailable (disk unusable).

        `notes_since`: the commit from which `recovery.notes` are wanted, by the caller's own checkpoint.
        `early`: the streams that are not `sync`, by name.
        """
        disk.make_directory(directory)
        lock = disk.lock(names.join(directory, names.LOCK))
        try:
            journal = cls(
                directory,
                disk=disk,
                clock=clock,
                settings=settings,
                rng=rng,
                lock=lock,
                early=early,
            )
            if notes_since is not None:
                journal.recovery.notes = list(journal.notes(notes_since))
        except BaseException:
            lock.release()
            raise
        return journal

    def close(self) -> None:
        """Give up files and lock. What was not written is lost: the committer drains first."""
        if not self._intake.closed:
            self._intake.closed = True
            self._intake.refusing = f"journal {self.directory} is closed"
            self.shelf.close()
            self._lock.release()

    # writing

    @property
    def counters(self) -> Counters:
        return self.appender.counters

    @property
    def pending_bytes(self) -> int:
        """Held in memory: appended, and not yet durable."""
        return self._intake.bytes + (self._under_way.bytes if self._under_way is not None else 0)

    @property
    def pending_records(self) -> int:
        held = self._under_way.records if self._under_way is not None else 0
        return self._intake.records + held

    @property
    def is_open_commit_empty(self) -> bool:
        """No record is in it, nor waits for one in memory: what is stamped from now on holds for all that comes."""
        return not self._intake.dirty and not any(w.unsealed for w in self.volatile.values())

    @property
    def stamp(self) -> Stamp:
        """Of the clock, in each batch's header."""
        return self._intake.stamp

    @stamp.setter
    def stamp(self, stamp: Stamp) -> None:
        self._intake.stamp = stamp

    def spill(self) -> None:
        """What memory streams hold goes with the next commit."""
        for writer in self.volatile.values():
            writer.spill()

    @property
    def overfull(self) -> bool:
        """More waits for the disk than is allowed in memory: stop reading from those who send."""
        return self.pending_bytes > self.settings.pending_bytes_max

    def writer(self, partition: TopicPartition) -> PartitionWriter:
        """The partition's one writer; made at first use. Raises Refused at the limit of partitions."""
        found = self._writers.get(partition)
        if found is None:
            streams = self._streams | {partition.topic}
            names_bytes = sum(map(len, streams))
            if not self.appender.partitions_fit(len(self._writers) + 1, len(streams), names_bytes):
                raise Refused(
                    f"{partition}: {len(self._writers)} partitions are as many as segments of "
                    f"{self.settings.segment_bytes} can index",
                    hint="a larger edge.journal.segment_bytes",
                )
            found = self._make_writer(partition, start=self._floor, end=self._floor)
            self._writers[partition] = found
            self._streams = streams
        return found

    def append(self, partition: TopicPartition, record: Record) -> int:
        return self.writer(partition).append(*record)

    def note(self, kind: int, payload: bytes) -> int:
        """Opaque state into the open commit, whose number is returned. `kind` is the caller's, 0 to 65535."""
        intake = self._intake
        if intake.closed:
            raise Closed(f"journal {self.directory} is closed")
        if len(payload) > intake.record_bytes_max:
            raise Refused(f"note of {len(payload)} bytes is above {intake.record_bytes_max}")
        intake.notes.append((kind, payload))
        intake.bytes += len(payload) + RECORD_OVERHEAD
        return self.open_commit

    def before_seal(self, hook: Callable[[int], None]) -> None:
        """`hook(commit)` before each commit is sealed, never for an empty one: what it notes is part of the commit."""
        self._before_seal.append(hook)

    def seal(self) -> Commit | None:
        """Everything appended so far, as one commit; None where there is nothing."""
        assert self._under_way is None, "a commit is under way"
        intake = self._intake
        if not intake.dirty and not intake.notes and not intake.renouncing:
            return None
        for hook in self._before_seal:
            hook(self.open_commit)
        commit = Commit(self.open_commit, self.appender)
        commit.bytes, intake.bytes = intake.bytes, 0
        commit.records, intake.records = intake.records, 0
        bytes_max = int(self.settings.commit_bytes_max)
        seal_into(
            commit,
            intake,
            bytes_max=bytes_max,
            small=commit.bytes <= bytes_max,
            wall_ms=self._clock.wall_ms(),
        )
        self.open_commit += 1
        self._under_way = commit
        if self.on_sealed is not None:
            self.on_sealed()
        return commit

    def complete(self, commit: Commit) -> None:
        """The commit is durable: readers see it from now on."""
        assert commit is self._under_way
        assert commit.durable_to is not None
        for writer, end in commit.ends:
            writer.end = end
        for early, reserved in commit.early:
            early.completed(reserved)
        self._durable_to = commit.durable_to
        self.durable_commit = commit.number
        self._under_way = None
        self.update_full()

    @property
    def newest_commit(self) -> int:
        """The newest commit that holds, or will hold, anything."""
        intake = self._intake
        return self.open_commit - (not (intake.dirty or intake.notes or intake.renouncing))

    @property
    def patience_s(self) -> float | None:
        """How long all that is appended may wait for its commit, counted from the first of it; None: not at all."""
        intake = self._intake
        if not intake.patient or intake.bytes >= self.settings.commit_bytes_max or self.overfull:
            return None
        return intake.patience_s

    def hurry(self) -> None:
        """Somebody waits for the open commit, whatever is in it."""
        self._intake.urgent = True

    def renounce(self) -> None:
        """An orderly stop: what was reserved and not given is free again once the next commit is durable."""
        for writer in self._writers.values():
            writer.stop()
        self._intake.renouncing = [
            writer
            for writer in self._writers.values()
            if writer.early or writer.partition in self.appender.reserved
        ]

    def update_full(self) -> None:
        """`full`: why records are refused. Set when a commit uses the last of the room, lifted by retention."""
        if self._intake.closed:
            return
        self.full = None
        if self.rolls_left < 0:
            held = f"{self.used_bytes} bytes of {self.bytes_limit}"
            self.full = f"journal {self.directory} is full: {held}, {self.why_kept}"
        self._intake.refusing = self.full

    @property
    def used_bytes(self) -> int:
        segments = len(self.shelf.sequences) + 1 + self.settings.spares
        return segments * int(self.settings.segment_bytes) - self.shelf.spared_bytes

    @property
    def rolls_left(self) -> int:
        """So many more segments may be opened before it is full; below zero it is."""
        left = self.bytes_limit - self.used_bytes - self.settings.reserve_bytes
        return left // int(self.settings.segment_bytes)

    @property
    def crowded(self) -> bool:
        """Fewer than `HEADROOM_SEGMENTS` rolls from `full`: time for retention to make room."""
        return self.rolls_left < HEADROOM_SEGMENTS

    def need_notes_from(self, commit: int) -> None:
        """Notes of this commit and later are still wanted: retention keeps their segments."""
        self._notes_needed_from = commit

    @property
    def notes_needed_from(self) -> int | None:
        return self._notes_needed_from

    # reading

    def partitions(self) -> list[TopicPartition]:
        ends, volatile = self.appender.ends, self.volatile
        return [
            partition
            for partition, writer in list(self._writers.items())
            if partition in ends or (partition in volatile and writer.end)
        ]

    def writers(self) -> list[PartitionWriter]:
        return list(self._writers.values())

    def unsettled(self) -> list[tuple[TopicPartition, int]]:
        """Partitions with records that are not durable yet, and their next offsets."""
        writers = list(self._intake.dirty)
        if self._under_way is not None:
            writers += [writer for writer, _ in self._under_way.ends]
        return [(writer.partition, writer.next_offset) for writer in writers]

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
            volatile = self.volatile.get(partition)
            tail_first = end if volatile is None else min(volatile.tail_first, end)
            found: list[bytes] = []
            try:
                if offset < tail_first:
                    with self.shelf.lock:
                        found = self._collect(partition, offset, tail_first, bytes_max)
            except SegmentLost:
                continue
            if found or volatile is None:
                return found
            return volatile.tail(offset, bytes_max=bytes_max)

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
                data = self.shelf.fetch(segment, batches, batch)
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
            byte = segment.byte_from(position)
            batches = self.shelf.batches(segment.sequence)
            for batch in range(bisect_left(batches.position, byte), len(batches)):
                place, size = batches.position[batch], batches.length[batch]
                if segment.sequence == durable.segment and place >= durable.byte:
                    break
                if found and total + size > bytes_max:
                    return found, position
                position = segment.place(place + size)
                partition = batches.partitions[batches.row[batch]]
                writer = self._writers.get(partition)
                if batch in batches.bad or (writer and batches.next[batch] <= writer.start):
                    continue
                data = self.shelf.fetch(segment, batches, batch)
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
                            return segment.place(batches.position[batch])
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
        return notes_since(self.shelf, since, self.durable_commit)

    def read_noted(self, partition: TopicPartition, offset: int) -> list[bytes]:
        """The batch that holds a record which a note speaks of, retired or not; none where it is not there."""
        while True:
            try:
                with self.shelf.lock:
                    return self._collect(partition, offset, offset + 1, 1)
            except SegmentLost:
                continue

    def take_losses(self) -> list[Loss]:
        """Damage met while reading since the last call, cut to what is not retired: to be declared as gap records."""
        with self.shelf.lock:
            losses, self.shelf.losses = self.shelf.losses, []
        return [clipped for loss in losses if (clipped := self._clip(loss)) is not None]

    def _clip(self, loss: Loss) -> Loss | None:
        writer = self._writers.get(loss.partition)
        first = max(loss.first, writer.start) if writer is not None else loss.first
        return loss._replace(first=first) if first <= loss.last else None
