"""The write side, used by one thread at a time (the disk thread): where frames become durable.

The write path of a frame:
  1. if the open segment has no room for it and the footer, the segment is sealed (footer, one sync) and the next
     one is opened: a spare gets its header (sync), its name (rename) and its name is made durable (directory sync)
     and, where offsets are reserved (reservations.py), their table as its first frame
  2. the frame is encoded for this place, written in one call and synced       ← now it is durable
Failure:
  write refused for want of space    the same frame is written again at the same place, later
  write or sync failed otherwise     the segment is abandoned where its last durable frame ended, for ever; the next
                                     segment's header says so (`previous_end`), and the same frame, with the same
                                     offsets and commit number, goes there. A failed sync is never repeated.
A block that holds a durable frame is never written again while its segment has a name.
"""

from __future__ import annotations

import contextlib
import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from ...clock import Clock
from ...disk import Disk, DiskFull, File, write_zeros
from ...errors import AlreadyExists, HeadwaterError, Missing, Refused, Unavailable
from ...record import TopicPartition
from . import names
from .counters import Counters
from .frames import (
    FRAME_HEADER_BYTES,
    SegmentHeader,
    encode_frame,
    encode_segment_header,
    note_entry,
)
from .holes import Range, united
from .index import Footer, SegmentMap, decode_footer, encode_footer, footer_bytes_max, place_footer
from .reservations import NOTE_RESERVED, Reservations, encode_reservations
from .segment import OpenSegment
from .settings import BLOCK_BYTES, HEADROOM_SEGMENTS, FileJournalSettings
from .shelf import Shelf
from .state import State, spend, store_state


class PlacedBatch(NamedTuple):
    """One batch within a frame's body: whose, (base, next offset), (index in body, length), timestamps."""

    partition: TopicPartition
    span: tuple[int, int]
    place: tuple[int, int]
    times: tuple[int, int]


class PendingFrame(NamedTuple):
    """`following`: bytes that the later frames of its commit take."""

    body: bytes
    entries: int
    batches: list[PlacedBatch]
    notes: int
    commit: int
    wall_ms: int
    last: bool
    following: int = 0


class Appender:
    def __init__(
        self,
        directory: str,
        *,
        disk: Disk,
        clock: Clock,
        settings: FileJournalSettings,
        rng: random.Random,
        shelf: Shelf,
    ) -> None:
        self.directory = directory
        self.counters = Counters()
        self.shelf = shelf
        self.ends: dict[TopicPartition, int] = {}
        self.stream_bytes: dict[str, int] = {}
        self.reserved: Reservations = {}  # durable; each segment begins with it
        self.next_sequence = 1
        self.absent: list[Range] = []  # goes into the state (holes.py)
        self.position = BLOCK_BYTES
        # what the open segment holds below it is no reason to seal it
        self._first_frame = BLOCK_BYTES
        self.spares: deque[str] = deque()
        self.state = State(log_id="")
        self.recycling = settings.recycle == "always" or (
            settings.recycle == "auto" and not disk.copies_on_write(directory)
        )
        self._disk = disk
        self._clock = clock
        self._settings = settings
        self._rng = rng
        self._names_bytes = 0
        self._previous = (0, 0)  # sequence and end of the segment before the open one
        self.doomed: list[int] = []  # retired, but their files could not be renamed or removed yet
        self.covered: list[int] = []  # replaced by a compacted one; no state says so yet
        self._is_renamed = False  # a compacted one, and that is not durable yet
        self._replaced: list[str] = []  # files whose place was taken, under their second name
        self.owed: Callable[[], None] = lambda: None  # before the next segment (owed.py)
        self.emptied: list[str] = []  # spares whose names are not durable yet

    # writing

    def write_frame(self, frame: PendingFrame) -> None:
        """Durable on return. Raises DiskFull or Unavailable; then the same frame is given again."""
        try:
            self._write_once(frame)
        except DiskFull:
            self.counters.write_failures += 1
            raise
        except Unavailable:
            self.counters.write_failures += 1
            self._write_once(frame)  # the segment was abandoned: once more, in another

    def _write_once(self, frame: PendingFrame) -> None:
        active = self._with_room(BLOCK_BYTES + len(frame.body) + BLOCK_BYTES, frame)
        if self.reserved and self.position == BLOCK_BYTES:
            note = note_entry(NOTE_RESERVED, encode_reservations(self.reserved))
            self._put(PendingFrame(note, 1, [], 1, frame.commit, frame.wall_ms, False), active)
            self._first_frame = self.position
        self._put(frame, active)

    def _put(self, frame: PendingFrame, active: OpenSegment) -> None:
        position = self.position
        data = encode_frame(
            frame.body,
            entries=frame.entries,
            salt=active.salt,
            sequence=active.sequence,
            position=position,
            commit=frame.commit,
            wall_ms=frame.wall_ms,
            last=frame.last,
        )
        try:
            active.file.write(position, data)
        except DiskFull:
            raise  # nothing of this frame is promised, and its place is still its own
        except Unavailable:
            self.abandon()
            raise
        started = self._clock.monotonic()
        try:
            active.file.sync()
        except Unavailable as error:
            self.abandon()
            # a full disk, too: what was written is in doubt
            raise Unavailable(str(error)) from error
        self._count(frame, len(data), self._clock.monotonic() - started)
        self._placed(frame, active, position, len(data))

    def _count(self, frame: PendingFrame, size: int, seconds: float) -> None:
        counters = self.counters
        counters.frames += 1
        counters.syncs += 1
        counters.bytes_written += size
        counters.padding_bytes += size - len(frame.body)
        counters.payload_bytes += sum(batch.place[1] for batch in frame.batches)
        counters.sync_seconds += seconds
        counters.last_sync_s = seconds

    def _placed(self, frame: PendingFrame, active: OpenSegment, position: int, size: int) -> None:
        found = active.map
        assert found is not None
        body_start = position + FRAME_HEADER_BYTES
        for batch in frame.batches:
            place = (body_start + batch.place[0], batch.place[1])
            found.add(batch.partition, batch.span, place, batch.times)
            if batch.partition not in self.ends:
                self._names_bytes += len(batch.partition.topic)
            self.ends[batch.partition] = batch.span[1]
            topic = batch.partition.topic
            self.stream_bytes[topic] = self.stream_bytes.get(topic, 0) + batch.place[1]
        found.frame(frame.commit, frame.notes, frame.wall_ms)
        self.position = active.end = position + size

    def abandon(self) -> None:
        """Nothing more is written to the open segment; what it holds durably stays readable."""
        active = self.shelf.active
        if active is None:
            return
        active.end = self.position
        self._previous = (active.sequence, self.position)
        self.shelf.roll(None, footer=Footer(self._footer_bytes(active)))
        self.counters.segments_abandoned += 1

    def _with_room(self, size: int, frame: PendingFrame) -> OpenSegment:
        active = self.shelf.active
        if active is not None:
            fresh = sum(batch.partition not in self.ends for batch in frame.batches)
            streams = len(self.stream_bytes) + fresh
            footer = footer_bytes_max(
                len(self.ends) + fresh, streams, self._names_bytes + 249 * fresh
            )
            header = active.header
            fixed = header.segment_bytes if header is not None else 0
            room = (fixed or int(self._settings.segment_bytes)) - footer - size
            # a commit stays in one segment if it can, so that recovery can tell a part of it from all
            fits_new = BLOCK_BYTES + frame.following <= room
            wanted = self.position + (frame.following if fits_new else 0)
            assert active.map is not None
            goes_on = active.map.last_commit == frame.commit
            # ... and one that needs several has them to itself (spread.py)
            if self.position <= self._first_frame or (wanted <= room and (fits_new or goes_on)):
                return active
            self._seal(active)
        return self._open_next()

    def _footer_bytes(self, active: OpenSegment) -> bytes:
        assert active.map is not None
        return encode_footer(
            active.map,
            ends=self.ends,
            stream_bytes=self.stream_bytes,
            data_end=self.position,
            salt=active.salt,
        )

    def _seal(self, active: OpenSegment) -> None:
        data = self._footer_bytes(active)
        header = active.header
        fixed = self._settings.segment_bytes if header is None else header.segment_bytes
        position, placed = place_footer(
            data,
            segment_bytes=fixed or None,
            data_end=self.position,
            sequence=active.sequence,
            salt=active.salt,
        )
        try:  # a missing footer costs a scan, not a record
            if position >= self.position:  # never over a frame, whatever was miscounted
                active.file.write(position, placed)
                active.file.sync()
                self.counters.syncs += 1
                self.counters.bytes_written += len(placed)
        except Unavailable:
            self.shelf.unsealed.add(active.sequence)
        active.end = self.position
        self._previous = (active.sequence, self.position)
        self.shelf.roll(None, footer=decode_footer(data, salt=active.salt))
        self.counters.segments_sealed += 1

    def _open_next(self) -> OpenSegment:
        self.owed()
        sequence = self.next_sequence
        salt = self._rng.getrandbits(32)
        header = SegmentHeader(
            log_id=bytes.fromhex(self.state.log_id),
            sequence=sequence,
            salt=salt,
            segment_bytes=int(self._settings.segment_bytes) if self.recycling else 0,
            previous_sequence=self._previous[0],
            previous_end=self._previous[1],
            created_ms=self._clock.wall_ms(),
        )
        path = names.join(self.directory, names.segment(sequence))
        spare = self.spares.popleft() if self.spares else self._create_spare()
        spare_path = names.join(self.directory, spare)
        try:
            file = self._disk.open(spare_path)
            try:
                file.write(0, encode_segment_header(header))
                file.sync()
            finally:
                file.close()
            self._disk.rename(spare_path, path)
            self.next_sequence += 1  # whatever becomes of it: the name may have reached the disk
            self._disk.sync_directory(self.directory)
            file = self._disk.open(path)
        except HeadwaterError as error:
            self._discard(spare_path)
            self._discard(path)
            if self.next_sequence > sequence:
                self.absent = united([*self.absent, (sequence, sequence)])
            raise (error if isinstance(error, Unavailable) else Unavailable(str(error))) from error
        return self.adopt(OpenSegment(sequence, file, salt, header), position=BLOCK_BYTES)

    def adopt(self, segment: OpenSegment, *, position: int) -> OpenSegment:
        """This is the open segment from now on, its next frame goes to `position`. One of notes alone has an empty map."""
        segment.map = SegmentMap() if segment.map is None else segment.map
        segment.end = self.position = position
        self._first_frame = BLOCK_BYTES
        with self.shelf.lock:
            self.shelf.active = segment
        self.next_sequence = max(self.next_sequence, segment.sequence + 1)
        return segment

    def seed_tables(
        self,
        ends: dict[TopicPartition, int],
        stream_bytes: dict[str, int],
        previous: tuple[int, int],
    ) -> None:
        """Recovery's findings; `shelf.ends` sees this very dictionary."""
        self.ends, self.stream_bytes, self._previous = ends, stream_bytes, previous
        self._names_bytes = sum(len(partition.topic) for partition in ends)
        self.shelf.ends = ends

    def partitions_fit(self, partitions: int, streams: int, names_bytes: int) -> bool:
        """Whether a table of so many still leaves three quarters of a segment to records."""
        size = footer_bytes_max(partitions, streams, names_bytes)
        return size <= int(self._settings.segment_bytes) // 4

    # spares

    @property
    def wants_spare(self) -> bool:
        """Whether `prepare` would do anything; a look that costs no thread change."""
        missing = len(self.spares) < self._settings.spares_prepared
        return self._is_unrecorded or (self.recycling and missing)

    @property
    def _is_unrecorded(self) -> bool:
        """Whether the newest segment, were its file to vanish, would not be missed."""
        return bool(self.state.log_id) and self.state.next_sequence < self.next_sequence

    def prepare(self) -> bool:
        """Record the newest segment's number, or make one spare if any is missing; whether it did. Raises Unavailable."""
        if self._is_unrecorded:
            self.store(
                msgspec.structs.replace(
                    self.state,
                    generation=self.state.generation + 1,
                    next_sequence=self.next_sequence,
                    absent=self.absent,
                )
            )
            return True
        if not self.wants_spare:
            return False
        self.spares.append(self._create_spare())
        self._disk.sync_directory(self.directory)
        return True

    def _create_spare(self) -> str:
        while True:
            name = names.spare(self._rng.getrandbits(32))
            path = names.join(self.directory, name)
            try:
                file = self._disk.create(path)
            except AlreadyExists:
                continue
            except Refused as error:
                raise Unavailable(str(error)) from error
            try:
                self._fill(file, path)
            finally:
                file.close()
            return name

    def _fill(self, file: File, path: str) -> None:
        if not self.recycling:
            return
        try:
            write_zeros(file, int(self._settings.segment_bytes))
            file.sync()
        except Unavailable:
            self._discard(path)
            raise
        self.counters.bytes_written += int(self._settings.segment_bytes)

    def _discard(self, path: str) -> None:
        with contextlib.suppress(HeadwaterError):
            self._disk.remove(path)

    # retiring

    def store(self, state: State, *, gives_room: bool = False) -> None:
        """Raises DiskFull, Unavailable. `gives_room`: it is worth a spare, what goes afterwards gives one back."""
        try:
            store_state(self._disk, self.directory, state)
        except DiskFull:
            if not (gives_room and self.recycling and self.spares):
                raise
            spend(self._disk, self.directory, self.spares.pop())
            store_state(self._disk, self.directory, state)
        self.state = state

    def new_salt(self) -> int:
        return self._rng.getrandbits(32)

    @contextlib.contextmanager
    def replacement(self, path: str, size: int) -> Iterator[File]:
        """A file to write what will take a segment's place, gone again if it does not. Raises Unavailable."""
        try:
            self._disk.remove(path)
            if self._disk.free_bytes(self.directory) < size:
                raise DiskFull(f"cannot write {size} bytes: {path}: fewer are free")
            file = self._disk.create(path)
            try:
                yield file
            finally:
                file.close()
        except BaseException as error:
            self._discard(path)
            if isinstance(error, HeadwaterError) and not isinstance(error, Unavailable):
                raise Unavailable(str(error)) from error
            raise

    def take_place(self, path: str, sequence: int) -> None:
        """Of a segment. Durable with the directory (`make_covered_durable`). Raises Unavailable, Missing, Refused."""
        place = names.join(self.directory, names.segment(sequence))
        second = names.join(self.directory, names.replaced(sequence))
        kept = self._keep_file(place, second)
        self._is_renamed = True  # also where it is refused: it may have taken effect
        try:
            self._disk.rename(path, place)
        except BaseException:
            self._discard(second)
            raise
        if kept:
            self._replaced.append(second)

    def _keep_file(self, place: str, second: str) -> bool:
        """Were it lost with its name, another would be filled with zeros at the next roll."""
        if not self._has_place:
            return False
        try:
            self._disk.remove(second)
            self._disk.link(place, second)
        except HeadwaterError:  # a file system without second names
            return False
        return True

    def make_covered_durable(self) -> list[int]:
        """The segments that compacted ones stand for, once it is certain that these have their names. Raises Unavailable."""
        if self._is_renamed:
            self._disk.sync_directory(self.directory)
            self._is_renamed = False
        replaced, self._replaced = self._replaced, []
        for second in replaced:
            try:
                if self._is_whole(second):
                    self.emptied.append(self._make_spare(second))
                    continue
            except HeadwaterError:
                pass
            self._discard(second)
        return list(self.covered)

    def retire(self, sequences: list[int]) -> None:
        """The state that says so is durable: give the files back. What fails is tried again next time."""
        for sequence in sequences:
            self.shelf.take_off(sequence)
            self.doomed.append(sequence)
        self.covered = [s for s in self.covered if s not in self.doomed]
        remaining: list[int] = []
        for sequence in self.doomed:
            try:
                self._give_back(sequence)
            except Missing:
                continue
            except HeadwaterError:
                remaining.append(sequence)
        self.doomed = remaining
        if sequences or self.emptied:
            # Only with its old name durably gone may a file be overwritten under a new one.
            self._disk.sync_directory(self.directory)
        self.spares.extend(self.emptied)
        self.emptied = []

    def _give_back(self, sequence: int) -> None:
        if sequence in self.shelf.damaged:
            self.shelf.damaged.discard(sequence)
            self.shelf.to_quarantine(sequence)
            return
        path = names.join(self.directory, names.segment(sequence))
        is_good = sequence not in self.shelf.unread
        if is_good and self._has_place and self._is_whole(path):
            self.emptied.append(self._make_spare(path))
        else:
            self._disk.remove(path)

    @property
    def _has_place(self) -> bool:
        """For one spare more: what an ordinary round gives back is for the next rolls, what a lowered limit does is not."""
        spares = len(self.spares) + len(self._replaced) + len(self.emptied)
        return self.recycling and spares < self._settings.spares + HEADROOM_SEGMENTS

    def _is_whole(self, path: str) -> bool:
        file = self._disk.open(path, read_only=True)
        try:
            return file.size() == self._settings.segment_bytes
        finally:
            file.close()

    def _make_spare(self, path: str) -> str:
        """Used only when its name is durable, with the directory."""
        spare = names.spare(self._rng.getrandbits(32))
        self._disk.rename(path, names.join(self.directory, spare))
        self.counters.segments_recycled += 1
        return spare
