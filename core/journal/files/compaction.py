"""Compaction: what must survive of old segments, written into one that takes the place of the last of them.

Why: room is given back in whole segments, and one unsent record of a stream that may not drop, or of a higher priority,
keeps its segment. Rare alarms beside telemetry would so fill a log with segments of telemetry, and then refuse
everything.

What: sealed segments i..j that follow each other become one of the sequence number j. It holds, in the same order and
byte by byte, every batch that ends beyond its partition's start, and nothing else: what a reader could read before it
can read after, so compaction itself loses nothing. What *may go* was decided and declared before, by moving starts.
Since the numbers below j are absent from then on, the binary search over footers finds each offset as before: the table
of ends is j's.

Phases, each durable before the next:
  1. retention (planning.py) plans: whole segments first; where none is left at a priority, runs (runs.py)
  2. gap records and summaries of all that is given up, as always
  3. the state: new starts, and the runs under `compacting`. All files stand, which is in order
  4. the compacted file, under a temporary name: written, synced, read back from the medium, renamed over j's; the
     directory synced. A reader that has the old j open reads on in it, or is told its new file when it opens one
     (shelf.py). One segment is read at a time, with a turn for commits after each: the card may be slow
  5. the state: i..j-1 are absent. Then their files go back to the pool like any other
A crash before 4's renaming is durable: nothing but starts has changed, the temporary file is removed at the next start.
After: i..j-1 may still stand beside j, which tells in its header that it stands for them: recovery (covered.py) takes
them for gone, as it does with any file that is listed absent and stands. Were the state of 5 written before 4 was
durable, a crash between would leave neither; a test does that, and the simulated disk condemns it
(test_compaction_cuts.py).

Any refusal by the disk, want of space included, leaves all as it was; the run is planned again, and then loses nothing
new. The room for the temporary file is in the journal's reserve (`reserve_bytes`), also where the disk is the limit; where
others have taken it all the same, nothing is written: a log that is full tries again every second.
A renaming that is refused may have taken effect: the file that stands under the name tells, by its salt.
The old file of j is not lost with its name: it has a second one, and becomes a spare when the renaming is durable.

Not compacted: the open segment and the newest sealed one (of their frames a crash may still cut some off, and
reservations are looked for there), segments with notes still wanted, with a commit that is not durable as a whole, and
damaged ones: what is left of those is for a person to look at, and goes to quarantine when it is retired.

In the segment (FORMAT.md has the bytes): batches are packed into frames of up to `PACK_BYTES`, so that a commit of one
alarm no longer takes 4 KiB; a frame's commit and clock are those of its newest batch. The header keeps i's *previous
sequence* and *previous end*, which seal the segment before, and tells this one's data end, because the header of j+1
speaks of the old j. The footer's table is j's. The reservations known at j's end stand in the first frame. Positions in
arrival order hold the salt, so that one of the old j begins the new one from its start: a batch may be met twice there,
none is missed.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING

from ...batch import BatchHeader, parse_header
from ...disk import File
from ...errors import Corrupt, HeadwaterError, Missing, Refused, Unavailable
from ...record import TopicPartition
from . import names
from .frames import (
    FRAME_HEADER_BYTES,
    BatchEntry,
    FrameHeader,
    SegmentHeader,
    batch_entry,
    batches,
    encode_frame,
    encode_segment_header,
    note_entry,
)
from .index import Footer, SegmentMap, encode_footer, place_footer
from .reservations import NOTE_RESERVED, Reservations, encode_reservations, reserved_in
from .runs import PACK_BYTES, Run
from .scan import read_through, walk
from .settings import BLOCK_BYTES
from .shelf import SegmentLost, Shelf

if TYPE_CHECKING:
    from .journal import FileJournal


class Damaged(Exception):
    """A segment of the run is not as it was written: it stays as it is, and so does the run."""


def compact(journal: FileJournal, run: Run) -> None:
    """All of a run's steps in the caller's thread. Raises Unavailable, see `steps`."""
    for _ in steps(journal, run):
        pass


def steps(journal: FileJournal, run: Run) -> Generator[None, None, None]:
    """Step 4, in the disk thread, in pieces of one segment each, between which commits have their turn. Ends early where
    the run is not what it was when it was planned. Raises Unavailable: nothing happened, or the new segment stands in its
    place and `Appender.covered` waits for a directory that can be synced."""
    shelf, appender = journal.shelf, journal.appender
    path = names.join(journal.directory, names.compacted(run.last))
    try:
        with shelf.lock:
            _must_stand(shelf, run)
            header, newest = shelf.segment(run.first).header, shelf.footer(run.last)
        if header is None:
            raise Damaged
        with appender.replacement(path, run.written) as file:
            rewriting = _Rewriting(file, header, run.last, appender.new_salt())
            if newest.totals.notes:
                rewriting.table(*_reserved(*_frames(journal, run.last)))
            starts = {writer.partition: writer.start for writer in journal.writers()}
            for sequence in run.members:
                _rewrite(journal, sequence, rewriting, starts)
                yield
            size = rewriting.finish(run, newest)
            yield
            rewriting.read_back()
            with shelf.lock:
                _must_stand(shelf, run)
                try:
                    appender.take_place(path, run.last)
                except HeadwaterError:
                    if not _stands(shelf, run.last, rewriting.salt):
                        raise
                shelf.replaced(run.members[:-1], run.last, size)
    except (SegmentLost, Damaged):
        return
    appender.covered += run.members[:-1]
    appender.counters.segments_compacted += len(run.members)
    appender.counters.compacted_bytes += size
    appender.counters.bytes_written += size
    appender.make_covered_durable()


def _stands(shelf: Shelf, sequence: int, salt: int) -> bool:
    """A renaming that was refused may have taken effect all the same: what stands under the name tells. Where nothing
    does, the segment is met again by its name, whichever it is, and what is covered is met twice until the next run."""
    shelf.let_go(sequence)
    try:
        found = shelf.open_apart(sequence)
    except HeadwaterError:
        return False
    found.file.close()
    return found.salt == salt


def _must_stand(shelf: Shelf, run: Run) -> None:
    """All of it is there and whole as far as is known, and nothing lies between. Raises Damaged."""
    index = shelf.sequences.index(run.first) if run.first in shelf.sequences else 0
    standing = shelf.sequences[index : index + len(run.members)]
    if standing != run.members or shelf.damaged.intersection(run.members):
        raise Damaged


def _rewrite(
    journal: FileJournal,
    sequence: int,
    rewriting: _Rewriting,
    starts: Mapping[TopicPartition, int],
) -> None:
    """What survives of one segment, on the medium. Raises Damaged, SegmentLost, Unavailable."""
    buffer, frames = _frames(journal, sequence)
    for frame in frames:
        rewriting.passed(frame)
        for entry in batches(buffer, frame.position, frame):
            rewriting.batch(buffer, entry, frame, starts.get(entry.partition, 0))
    rewriting.sync()


def _frames(journal: FileJournal, sequence: int) -> tuple[bytes, list[FrameHeader]]:
    """All of a segment's bytes and frames. Raises Damaged where any is not whole, after it was noted; SegmentLost."""
    shelf = journal.shelf
    with shelf.lock:
        end = shelf.footer(sequence).totals.data_end
    # a handle of its own: a slow card would keep all readers from the lock
    try:
        segment = shelf.open_apart(sequence)
    except (Corrupt, Missing, Refused) as error:
        with shelf.lock:
            shelf.meet_again(sequence)  # else the same run is planned again and again
        raise Damaged from error
    try:
        buffer = read_through(segment.file, end)
    finally:
        segment.file.close()
    found = list(walk(buffer, salt=segment.salt, sequence=sequence))
    frames = [each for each in found if isinstance(each, FrameHeader)]
    if len(frames) == len(found) and (frames[-1].end if frames else BLOCK_BYTES) == end:
        return buffer, frames
    with shelf.lock:
        shelf.segment(sequence).map = None
        shelf.batches(sequence)  # which tells what is lost, as to any reader
    raise Damaged


def _reserved(buffer: bytes, frames: list[FrameHeader]) -> tuple[Reservations, FrameHeader]:
    table: Reservations = {}
    for frame in frames:
        table |= reserved_in(buffer, frame)
    return table, frames[-1]


class _Rewriting:
    """The new file, frame by frame; its header comes last, when its end is known."""

    def __init__(self, file: File, head: SegmentHeader, sequence: int, salt: int) -> None:
        self._file = file
        self._head = head
        self._sequence = sequence
        self.salt = salt
        self._position = BLOCK_BYTES
        self._found = SegmentMap()
        self._pieces: list[tuple[int, int, int]] = []  # position, length and checksum of each write
        self._commits = (0, 0)  # first and last that was passed, whether anything of it survives
        self._wall_ms = 0
        self._ends: dict[TopicPartition, int] = {}
        self._clear()

    def _clear(self) -> None:
        self._body: list[bytes] = []
        self._size = 0
        self._placed: list[tuple[BatchEntry, BatchHeader, int]] = []
        self._newest: FrameHeader | None = None

    def table(self, reserved: Reservations, frame: FrameHeader) -> None:
        """What is reserved at the end of all, in a frame before all, as each segment begins with it."""
        if reserved:
            self._body = [note_entry(NOTE_RESERVED, encode_reservations(reserved))]
            self._newest = frame
            self._found.notes += 1
            self._emit(last=False)

    def passed(self, frame: FrameHeader) -> None:
        first = self._commits[0] or frame.commit
        self._commits = (first, max(self._commits[1], frame.commit))
        self._wall_ms = max(self._wall_ms, frame.wall_ms)

    def batch(self, buffer: bytes, entry: BatchEntry, frame: FrameHeader, start: int) -> None:
        """Kept where a reader from `start` on may want any of it. Raises Damaged."""
        try:
            header = parse_header(buffer, entry.start)
        except Corrupt as error:
            raise Damaged from error
        if header.next_offset <= max(start, self._ends.get(entry.partition, 0)):
            return  # given up, or kept already: it stood twice where a damaged header hid what was covered (covered.py)
        self._ends[entry.partition] = header.next_offset
        data = batch_entry(entry.partition, buffer[entry.start : entry.start + entry.length])
        if self._body and self._size + len(data) > PACK_BYTES:
            self._emit(last=True)
        self._body.append(data)
        self._size += len(data)
        self._placed.append((entry, header, self._size - entry.length))
        self._newest = frame

    def _emit(self, *, last: bool) -> None:
        assert self._newest is not None
        data = encode_frame(
            b"".join(self._body),
            entries=len(self._body),
            salt=self.salt,
            sequence=self._sequence,
            position=self._position,
            commit=self._newest.commit,
            wall_ms=self._newest.wall_ms,
            last=last,
            compacted=True,
        )
        self._write(self._position, data)
        for entry, header, place in self._placed:
            self._found.add(
                entry.partition,
                (header.base_offset, header.next_offset),
                (self._position + FRAME_HEADER_BYTES + place, entry.length),
                (header.base_timestamp, header.max_timestamp),
            )
        self._position += len(data)
        self._clear()

    def _write(self, position: int, data: bytes) -> None:
        self._file.write(position, data)
        self._pieces.append((position, len(data), zlib.crc32(data)))

    def finish(self, run: Run, newest: Footer) -> int:
        """Footer, header, sync. Returns the file's size. Raises Unavailable."""
        if self._body:
            self._emit(last=True)
        found, end = self._found, self._position
        found.first_commit, found.last_commit = self._commits
        found.wall_ms = max(self._wall_ms, newest.totals.wall_ms)
        footer = encode_footer(
            found,
            ends=dict(newest.ends()),
            stream_bytes=newest.stream_bytes,
            data_end=end,
            salt=self.salt,
        )
        _, placed = place_footer(
            footer, segment_bytes=None, data_end=end, sequence=self._sequence, salt=self.salt
        )
        self._write(end, placed)
        first, head = run.first, self._head
        header = head._replace(
            sequence=self._sequence,
            salt=self.salt,
            segment_bytes=0,
            first_covered=first if head.first_covered is None else head.first_covered,
            data_end=end,
        )
        self._write(0, encode_segment_header(header))
        self._file.sync()
        return end + len(placed)

    def sync(self) -> None:
        """What was written so far, so that the last sync, which commits wait for, has little left. Raises Unavailable."""
        if self._pieces:
            self._file.sync()

    def read_back(self) -> None:
        """What the medium has of it. Raises Unavailable where that is not what was written."""
        self._file.drop_cache()
        for position, length, checksum in self._pieces:
            if zlib.crc32(self._file.read(position, length)) != checksum:
                raise Unavailable(
                    f"{self._file.path}: {length} bytes at {position} read back otherwise"
                )
