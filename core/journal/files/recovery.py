"""From whatever a crash left to a journal that can be written: nothing acknowledged is lost, nothing refuses to start.

  1. the newest whole state file: identity, starts, and ends of partitions whose records were all retired
  2. from the newest segment downward: those that tell neither salt nor identity go to quarantine;
     those that cannot be read stay where they are, out of use (FORMAT.md, "What cannot be read")
  3. the newest one without footer is the open segment: synced, its cached pages dropped, scanned as the *medium* has
     it. Its torn last frame was never acknowledged and is cut off; it is overwritten by the next commit. So is all of a last
     commit that needed several frames and has not all of them, else there could be records without the notes that say who
     sent them, and a client that repeats would have them stored twice; its frames are whole, so this segment is closed.
     Where that commit began in segments before this one, those are taken away (spread.py), on a full disk later (owed.py).
     Without step 3's sync, a frame seen in the page cache after SIGKILL could be read by the uplink, sent, and then
     vanish in a power cut: its offsets would be given twice.
  4. tables: last footer, then the open segment's frames on top
  5. segments that are missing and not known to be retired (holes.py) are damage: what they held is told by the tables
     around them
  6. offsets that were reserved and may have been given are passed over (reservations.py)
Older segments are not read: their damage is found when they are, or by `headwater log verify`.

An offset is never given twice, so where damage may hide the end of a partition (in the open segment, or when the newest
segment is gone whole) its next offset jumps by as many records as the damaged bytes could have held, and the jump
is reported as lost. Recovering twice gives the same result.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from ...clock import Clock
from ...disk import Disk
from ...errors import Corrupt, HeadwaterError, Missing, Refused, Unavailable
from ...record import TopicPartition
from . import names
from .appender import Appender
from .aside import quarantine
from .covered import covered_by
from .frames import Note
from .holes import (
    Hole,
    Range,
    absent_at_start,
    between,
    first_shown,
    holds,
    holes_in,
    named_before,
    united,
)
from .identity import identity_of
from .jumps import Jumps
from .owed import owe, take_away
from .presence import must_be_well
from .reservations import Reservations, Reserved, noted
from .scan import Scan, Stretch, read_blocks, read_through, scan, unread_behind
from .segment import OpenSegment, Unread, load_footer, open_segment
from .settings import FileJournalSettings
from .shelf import Loss, SegmentLost, Shelf, add_to_tables
from .spares import take_spares
from .spread import spread_over
from .state import PartitionBounds, State, insist_on_state


@dataclass(slots=True)
class RecoveryReport:
    """What was found at start. `losses` are to be declared as gap records by the caller.

    They are told again at each start until retention has passed them: gap records may repeat, ranges are united.
    """

    losses: list[Loss] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)
    torn_bytes: int = 0
    segments: int = 0
    scanned_bytes: int = 0
    created: bool = False
    warnings: list[str] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    volatile: list[Loss] = field(default_factory=list)
    """Acknowledged early and lost by a stop that was not orderly, at most these. They may include what was sent up."""


@dataclass(slots=True)
class Recovered:
    appender: Appender
    shelf: Shelf
    report: RecoveryReport
    starts: dict[TopicPartition, int]
    next_commit: int
    floor: int


class Recovery:
    """Used once, by `FileJournal.open`, under the directory's lock."""

    def __init__(
        self,
        directory: str,
        *,
        disk: Disk,
        clock: Clock,
        settings: FileJournalSettings,
        rng: random.Random,
    ) -> None:
        self._directory = directory
        self._disk = disk
        self._clock = clock
        self._settings = settings
        self._rng = rng
        self._report = RecoveryReport()
        self._sequences: list[int] = []
        self._state_found = False
        self._unusable: list[int] = []
        self._unreadable: list[int] = []
        self._unread: list[
            int
        ] = []  # of both: those that stay in their places, as an error is not known to be damage
        self._uncommitted: list[int] = []  # segments of nothing but a part of the last commit
        self._state_floor = 0
        self._reserved: Reservations = {}
        self._absent: list[Range] = []
        self._covered: list[Range] = []  # by compacted segments
        self._holes: list[Hole] = []

    def run(self) -> Recovered:
        """Raises Unavailable or Refused where the directory cannot be read or written at all."""
        try:
            return self._run()
        except (
            SegmentLost
        ) as error:  # it was opened a moment ago: the next start finds it as it is by then
            raise Unavailable(f"a segment can be read no more: {error.__cause__}") from error

    def _run(self) -> Recovered:
        state = self._state()
        shelf = Shelf(
            self._directory,
            disk=self._disk,
            settings=self._settings,
            log_id=bytes.fromhex(state.log_id),
        )
        shelf.boot_ms = self._clock.boot_ms
        appender = Appender(
            self._directory,
            disk=self._disk,
            clock=self._clock,
            settings=self._settings,
            rng=self._rng,
            shelf=shelf,
        )
        appender.state = state
        # what the state has given up stands where a crash interrupted that: it is given back with what goes next
        known = state if self._state_found else None
        self._covered, sizes = covered_by(
            self._disk, self._directory, shelf.log_id, known, self._sequences
        )
        gone = [*(state.absent or []), *self._covered]
        appender.doomed = [s for s in self._sequences if holds(gone, s)]
        self._sequences = [s for s in self._sequences if s not in appender.doomed]
        shelf.were_compacted({s: size for s, size in sizes.items() if s in self._sequences})
        self._jumps = Jumps(shelf, self._settings, state)
        self._state_floor = shelf.floor = state.floor
        bounds = {TopicPartition(b.stream, b.partition): b for b in state.partitions}
        shelf.ends_before = {partition: b.start for partition, b in bounds.items()}
        shelf.bytes_before = dict(state.stream_bytes)
        next_sequence = max(state.next_sequence, self._sequences[-1] + 1 if self._sequences else 1)
        newest = self._newest(shelf)
        self._set_unreadable_aside(shelf)
        shelf.unread.update(self._unread)
        shelf.sequences = self._sequences
        shelf.active = newest  # its header says where the one before ends
        scanned = self._scan_open(newest) if newest is not None else None
        if self._nothing_between(newest, next_sequence - 1):
            self._uncommitted = spread_over(shelf, self._sequences, scanned[0] if scanned else None)
            for sequence in self._uncommitted:
                shelf.take_off(sequence)
        self._find_holes(state, shelf, newest, next_sequence - 1)
        ends = {partition: b.end for partition, b in bounds.items()}
        next_commit = max(state.next_commit, self._replay(shelf, appender, newest, scanned, ends))
        appender.next_sequence = next_sequence
        appender.absent = self._absent
        starts = dict(shelf.ends_before) if self._state_found else self._oldest_starts(shelf)
        for partition, end in appender.ends.items():  # younger than the state: began at its floor,
            if partition not in starts:  # or before damage raised that, in what can be read again
                shown = first_shown(shelf, partition) if state.floor else 0
                starts[partition] = min(state.floor, end, shown)
        self._keep_reserved(shelf, state, ends)
        appender.reserved = dict(self._reserved)
        self._report.warnings += take_spares(self._disk, self._directory, self._settings, appender)
        floor = max(state.floor, self._jumps.floor)
        self._remember(appender, starts, floor=floor, next_commit=next_commit)
        self._report.damage += [known.damage for known in self._jumps.accounted]
        self._report.losses += [
            Loss(TopicPartition(stream, partition), first, last, known.damage)
            for known in self._jumps.accounted
            for stream, partition, first, last in known.losses
        ]
        self._report.losses += shelf.losses
        self._report.quarantined += shelf.quarantined
        self._report.segments = len(shelf.sequences) + (shelf.active is not None)
        shelf.losses = []
        return Recovered(appender, shelf, self._report, starts, next_commit, floor)

    def _state(self) -> State:
        # After a mere SIGKILL, names stand in the kernel's memory alone: make them durable before believing them.
        self._disk.sync_directory(self._directory)
        found = self._disk.list(self._directory)
        for name in found:
            if name.endswith(".tmp"):
                try:
                    self._disk.remove(names.join(self._directory, name))
                except Refused as error:  # nothing of it is needed
                    self._report.warnings.append(str(error))
        self._sequences = sorted(s for n in found if (s := names.segment_sequence(n)) is not None)
        state, damaged, unread = insist_on_state(self._disk, self._directory)
        self._report.warnings += [f"{name}: state copy is damaged" for name in damaged]
        if state is not None:
            self._state_found = True
            return state
        log_id = identity_of(self._disk, self._directory, self._sequences)
        if log_id is None and unread:  # a log that is new for that would be a log lost
            raise Unavailable(f"the log's state cannot be read: {'; '.join(unread)}")
        if log_id is None:
            self._report.created = not self._sequences and not damaged
            log_id = f"{self._rng.getrandbits(64):016x}"
        return State(log_id=log_id, generation=0)

    def _newest(self, shelf: Shelf) -> OpenSegment | None:
        """The open segment if the newest usable one is; `_sequences` are then the sealed ones."""
        while self._sequences:
            sequence = self._sequences[-1]
            try:
                segment = open_segment(
                    self._disk, self._directory, sequence, log_id=shelf.log_id, read_only=False
                )
            except (Corrupt, Missing) as error:
                self._put_out_of_use(sequence, error, self._unusable)
                self._all_unread(error)
                continue
            if segment.compacted or load_footer(segment) is not None:
                segment.file.close()
                return None
            self._sequences.pop()
            return segment
        return None

    def _put_out_of_use(self, sequence: int, error: HeadwaterError, kind: list[int]) -> None:
        must_be_well(self._disk, self._directory, error)
        self._sequences.remove(sequence)
        kind.append(sequence)
        if isinstance(error, Unread):
            self._unread.append(sequence)
        self._report.warnings.append(str(error))

    def _all_unread(self, error: HeadwaterError) -> None:
        """One bad sector is damage of one file. Raises Unavailable where there are several and none can be read."""
        if not self._sequences and len(self._unread) == len(self._unusable) > 1:
            raise Unavailable(f"none of {len(self._unread)} segments can be read: {error}")

    def _set_unreadable_aside(self, shelf: Shelf) -> None:
        """Down to the newest footer, whose table tells all that was before: what cannot be opened is as good as missing."""
        for sequence in reversed(list(self._sequences)):
            try:
                segment = open_segment(
                    self._disk, self._directory, sequence, log_id=shelf.log_id, read_only=True
                )
            except (Corrupt, Missing) as error:
                self._put_out_of_use(sequence, error, self._unreadable)
                continue
            sealed = load_footer(segment) is not None
            segment.file.close()
            if sealed:
                return

    def _replay(
        self,
        shelf: Shelf,
        appender: Appender,
        newest: OpenSegment | None,
        scanned: tuple[Scan, bool] | None,
        ends: dict[TopicPartition, int],
    ) -> int:
        """Fills the tables; returns the next commit number. The open segment becomes the appender's."""
        if newest is None or scanned is None:
            stream_bytes, last_commit, previous = self._tables(shelf, ends)
            self._tell_missing(ends)
            self._jumps.left_open(ends)
            self._jumps.unreadable(self._unusable, ends)
            appender.seed_tables(ends, stream_bytes, previous)
            return last_commit + 1
        result, suspect = scanned
        newest.map = result.map
        shown: dict[TopicPartition, int] = {}
        add_to_tables(result.map, shown, {})
        shelf.ends = shown  # should the segment before prove damaged, this is where it must end
        stream_bytes, last_commit, previous = self._tables(shelf, ends)
        before = shelf.tables_before(newest.sequence)[0]
        add_to_tables(result.map, ends, stream_bytes)
        self._tell_missing(ends)
        if result.damage:
            shelf.damaged.add(newest.sequence)
            self._jumps.open_segment(newest.sequence, result, before, ends)
        self._jumps.left_open(ends)
        self._jumps.unreadable(self._unusable, ends)
        appender.seed_tables(ends, stream_bytes, previous)
        appender.adopt(newest, position=result.end)
        if suspect:
            appender.abandon()
        return max(last_commit, result.map.last_commit) + 1

    def _tables(
        self, shelf: Shelf, ends: dict[TopicPartition, int]
    ) -> tuple[dict[str, int], int, tuple[int, int]]:
        """The newest footer's table on top of the state's. Bytes per stream, last commit, (sequence, end)."""
        if shelf.sequences:
            last = shelf.sequences[-1]
            footer = shelf.footer(last)
            for partition, end in footer.ends():
                ends[partition] = max(end, ends.get(partition, 0))
            stream_bytes = shelf.bytes_before | footer.stream_bytes
            return stream_bytes, shelf.last_commit(), (last, footer.totals.data_end)
        return dict(shelf.bytes_before), 0, (0, 0)

    def _oldest_starts(self, shelf: Shelf) -> dict[TopicPartition, int]:
        """Both state copies are gone: partitions start where the oldest segment has them."""
        while shelf.sequences:
            try:
                footer = shelf.footer(shelf.sequences[0])
            except SegmentLost:
                continue
            starts = dict(footer.ends())
            starts |= {partition: summary.base for partition, summary in footer.present()}
            return starts
        if shelf.active is None or shelf.active.map is None:
            return {}
        found = shelf.active.map
        summaries = {partition: found.summary(partition) for partition in found.partitions}
        return {partition: s.base for partition, s in summaries.items() if s is not None}

    def _scan_open(self, segment: OpenSegment) -> tuple[Scan, bool]:
        # what could not be read at an earlier start may not be read at a later one, and is accounted for as it was
        suspect = self._jumps.knows(segment.sequence)
        try:
            segment.file.sync()
        except Unavailable as error:
            suspect = True
            self._report.warnings.append(
                f"{error}; the segment is closed, what is on the medium stands"
            )
        segment.file.drop_cache()
        blocks = read_blocks(segment.file, segment.file.size())
        buffer = blocks.data
        self._report.scanned_bytes = len(buffer)
        result = scan(buffer, salt=segment.salt, sequence=segment.sequence)
        if behind := unread_behind(result, blocks):
            # what was acknowledged may stand there: passed over like damage, not overwritten, and not void to a later start
            damage = [*result.damage, *behind]
            return result._replace(end=behind[-1].end, damage=damage, torn=False), True
        fixed = segment.header.segment_bytes if segment.header is not None else 0
        if len(buffer) < fixed:  # it had its size before it had its name
            missing = Stretch(result.end, fixed, False)
            return result._replace(damage=[*result.damage, missing], torn=False), True
        self._report.torn_bytes = len(buffer) - result.end if result.torn else 0
        if result.partial and not result.damage:
            # what of it is whole stays where it is and must not be read: the next segment's header says so
            self._report.torn_bytes = len(buffer) - result.partial
            cut = scan(buffer[: result.partial], salt=segment.salt, sequence=segment.sequence)
            return cut, True
        return result, suspect

    def _nothing_between(self, newest: OpenSegment | None, last: int) -> bool:
        """No segment ever stood behind the newest sealed one, but for the open one."""
        if not self._sequences or self._unusable or self._unreadable:
            return False
        if newest is None:
            return self._sequences[-1] == last
        header = newest.header
        return (
            newest.sequence == last
            and header is not None
            and header.previous_sequence == self._sequences[-1]
        )

    def _find_holes(
        self, state: State, shelf: Shelf, newest: OpenSegment | None, last: int
    ) -> None:
        standing = [*self._sequences, *([newest.sequence] if newest is not None else [])]
        absent = absent_at_start(state.absent, standing, last, state_found=self._state_found)
        ours = ((s, s) for s in (*self._unusable, *self._uncommitted))
        # to be met again at the next start, unless they were given up before
        again = [(s, s) for s in self._unread]
        absent = united([*absent, *self._covered, *ours])

        before = partial(named_before, self._disk, self._directory, shelf.log_id)
        self._holes = holes_in(standing, absent, last=last, previous_of=before)
        missing = between(
            1, last, [(s, s) for s in standing]
        )  # accounted for below, or never in use
        self._absent = between(1, last, [*between(1, last, [*absent, *missing]), *again])

    def _tell_missing(self, ends: dict[TopicPartition, int]) -> None:
        for hole in self._holes:
            self._report.warnings.append(f"{hole}: not there, and not known to be retired")
            if (damage := self._jumps.missing(hole, ends)) is not None:
                self._report.damage.append(damage)

    def _keep_reserved(
        self, shelf: Shelf, state: State, ends: Mapping[TopicPartition, int]
    ) -> None:
        """Early offsets that may have been given are not given again. Changes nothing on disk: the notes that tell
        it stand until the first commit, whose gap record comes first."""
        table = {TopicPartition(s, p): Reserved(first, end) for s, p, first, end in state.reserved}
        table |= self._noted(shelf, state.next_commit)
        for partition, (first, noted_end) in table.items():
            # a note may have been among the damaged frames, and reserved less than one offset for each of their bytes
            end = noted_end + self._jumps.hidden
            known = ends.get(partition, self._state_floor)
            table[partition] = Reserved(first, max(end, known))
            if end > (lost := max(first, known)):
                detail = "acknowledged early, not on disk when the edge stopped; these at most"
                self._report.volatile.append(Loss(partition, lost, end - 1, detail))
        self._reserved = table

    def _noted(self, shelf: Shelf, since: int) -> Reservations:
        """By the newest segment that holds a frame; where that one is damaged, by the one before it as well."""
        table: Reservations = {}
        active = shelf.active
        if active is not None and active.map is not None and active.map.last_commit:
            if active.map.notes:
                table = _notes_of(active, since)
            if not self._jumps.hidden:
                return table
        for sequence in reversed(list(shelf.sequences)):
            try:
                totals = shelf.footer(sequence).totals
                if totals.notes:
                    return _notes_of(shelf.segment(sequence), since) | table
                if totals.last_commit:
                    break
            except SegmentLost:
                continue
        return table

    def _remember(
        self,
        appender: Appender,
        starts: dict[TopicPartition, int],
        *,
        floor: int,
        next_commit: int,
    ) -> None:
        """Durable before use: a fresh log's identity, and jumps that no file will explain once it is set aside."""
        state = appender.state
        as_found = self._jumps.accounted == state.accounted and self._absent == state.absent
        damaged = [s for s in (*self._unusable, *self._unreadable) if s not in self._unread]
        if self._state_found and as_found and not damaged and not self._uncommitted:
            return
        new = State(
            log_id=state.log_id,
            generation=state.generation + 1,
            next_sequence=appender.next_sequence,
            next_commit=next_commit,
            floor=floor,
            partitions=[
                PartitionBounds(partition.topic, partition.partition, starts.get(partition, 0), end)
                for partition, end in appender.ends.items()
            ],
            stream_bytes=state.stream_bytes,
            accounted=self._jumps.accounted,
            reserved=[(*partition, *reserved) for partition, reserved in self._reserved.items()],
            absent=self._absent,
            compacted=sorted(appender.shelf.compacted.items()),
        )
        try:
            appender.store(new, gives_room=bool(self._uncommitted))
        except (Unavailable, Refused) as error:
            if self._report.created:
                raise
            if self._uncommitted:
                owe(appender, self._disk, new, self._uncommitted)
            self._report.warnings.append(
                f"{error}; the state will be written again at the next start"
            )
            return
        take_away(appender, self._disk, self._uncommitted)
        for sequence in damaged:
            name = names.segment(sequence)
            moved = quarantine(self._disk, self._directory, name, self._settings)
            self._report.quarantined.append(moved or name)


def _notes_of(segment: OpenSegment, since: int) -> Reservations:
    end = segment.end if segment.footer is None else segment.footer.totals.data_end
    buffer = read_through(segment.file, segment.file.size() if end is None else end)
    return noted(buffer, salt=segment.salt, sequence=segment.sequence, since=since)
