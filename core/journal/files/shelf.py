"""The segments that can be read: found, opened when needed, closed when others are wanted.

Held for the whole backlog: one integer per segment. Held for the few in use: an open file, the footer and, while
batches are read, the map. A segment that cannot be trusted at all is set aside when it is met (in quarantine; one that
cannot be read, in its place), and what it held is reported as losses, told by the tables of its neighbours; one that is
damaged in places stays, is read around, and goes to quarantine instead of the pool when retention retires it. Nothing is
given up while nothing can be written, or read again: a device that is gone, or a mount point with nothing on it, is not
damage, and what cannot be read is asked for again.

`lock` guards everything here: readers hold it while they read, so that no file is recycled under them; the disk thread
takes it to roll and to retire. The shelf knows nothing of retention's rules nor of where partitions start.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ...batch import validate_batch
from ...disk import Disk
from ...errors import Corrupt, Missing, Refused, Unavailable
from ...record import TopicPartition
from . import names
from .aside import quarantine
from .digests import Digest, Digests
from .index import Footer, SegmentMap, Summary, encode_footer
from .presence import must_be_well
from .scan import Scan, Stretch, read_blocks, scan, unread_behind
from .segment import OpenSegment, Unread, load_footer, open_segment
from .settings import FileJournalSettings

_READ_ATTEMPTS = 3


class Loss(NamedTuple):
    """Offsets `first` to `last`, both included, of one partition cannot be served any more."""

    partition: TopicPartition
    first: int
    last: int
    detail: str


class SegmentLost(Exception):
    """A segment went to quarantine while it was being used: begin again without it."""


class Shelf:
    def __init__(
        self, directory: str, *, disk: Disk, settings: FileJournalSettings, log_id: bytes
    ) -> None:
        self.lock = threading.RLock()
        self.sequences: list[int] = []  # sealed, ascending
        self.active: OpenSegment | None = None
        self.damaged: set[int] = set()
        # Of those without a footer: the stretches, which may hide where a partition ends.
        self.hidden: dict[int, list[Stretch]] = {}
        self.compacted: dict[int, int] = {}  # those whose file is smaller than a segment: its bytes
        self.spared_bytes = 0  # … and how much smaller all of them are
        self.unsealed: set[int] = set()  # their footers may be in the cache alone
        self.losses: list[Loss] = []  # found and not yet taken
        self.quarantined: list[str] = []
        self.unread: set[int] = set()  # put out of use in their places, as they could not be read
        # Where partitions start: offsets below are retired, so no table need know more of them.
        self.ends_before: dict[TopicPartition, int] = {}
        self.bytes_before: dict[str, int] = {}
        self.floor = 0  # where a partition that no table knows began
        # The appender's tables, alive: what holds after the newest segment.
        self.ends: Mapping[TopicPartition, int] = {}
        self._directory = directory
        self._disk = disk
        self._settings = settings
        self.log_id = log_id
        self._open: OrderedDict[int, OpenSegment] = OrderedDict()
        self._rebuilt: dict[int, Footer] = {}
        self._guessed: set[int] = set()  # those of them that were rebuilt of what frames show
        self._ends_known: dict[int, int] = {}
        self.boot_ms: Callable[[], int] = lambda: 0
        self.sealed_at: dict[int, int] = {}  # since the start, by the clock that nobody sets
        self.digests = Digests()

    # opening and closing

    @property
    def last_wall_ms(self) -> int:
        """The latest time at which a commit was sealed, by the clock of then; 0 in an empty log."""
        with self.lock:
            active = self.active
            found = active.map.wall_ms if active is not None and active.map is not None else 0
            footer = self.segment(self.sequences[-1]).footer if self.sequences else None
            return max(found, footer.totals.wall_ms if footer is not None else 0)

    def segment(self, sequence: int) -> OpenSegment:
        """Open, with its footer. Raises SegmentLost after setting an unreadable one aside; Unavailable."""
        if self.active is not None and self.active.sequence == sequence:
            return self.active
        found = self._open.get(sequence)
        if found is not None:
            self._open.move_to_end(sequence)
            return found
        try:
            found = self.open_apart(sequence)
        except (Corrupt, Missing, Refused) as error:
            must_be_well(self._disk, self._directory, error)
            # no permission, or not to be read, is no damage: it stays where it is, and the next start meets it again
            if isinstance(error, Unread):
                self.unread.add(sequence)
            keep = type(error) is Refused or sequence in self.unread
            self.set_aside(sequence, str(error), keep=keep)
            raise SegmentLost from error
        if found.compacted and self.compacted.get(sequence) != (size := found.file.size()):
            # the state is of a binary that knew none, or a renaming took effect that was refused
            self._forget(sequence)
            self.were_compacted({sequence: size})
        found.footer = self._rebuilt.get(sequence) or load_footer(found)
        self._keep(found)
        return found

    def meet_again(self, sequence: int) -> OpenSegment:
        """By its name, whatever is held open. Raises SegmentLost, Unavailable."""
        self.let_go(sequence)
        return self.segment(sequence)

    def let_go(self, sequence: int) -> None:
        self._open.pop(sequence, None)

    def _keep(self, segment: OpenSegment) -> None:
        self._open[segment.sequence] = segment
        mapped = [s for s in self._open.values() if s.map is not None]
        for old in mapped[: max(0, len(mapped) - self._settings.map_cache)]:
            old.map = None
        while len(self._open) > self._settings.index_cache:
            # Not closed here: a reader further up this very call may still hold it. It closes when nobody does.
            self._open.popitem(last=False)

    def roll(self, segment: OpenSegment | None, *, footer: Footer | None = None) -> None:
        """The active segment is sealed (its footer given where the file may lack it); another takes its place."""
        with self.lock:
            old = self.active
            if old is not None:
                self.sequences.append(old.sequence)
                self.sealed_at[old.sequence] = self.boot_ms()
                if footer is not None:
                    old.footer = self._rebuilt[old.sequence] = footer
                if old.end is not None:
                    self._ends_known[old.sequence] = old.end
                self._keep(old)
            self.active = segment

    def take_off(self, sequence: int) -> None:
        """Readers see it no more; its file may be recycled."""
        with self.lock:
            if sequence in self.sequences:
                self.sequences.remove(sequence)
            self.sealed_at.pop(sequence, None)
            self._forget(sequence)

    def _forget(self, sequence: int) -> None:
        self._rebuilt.pop(sequence, None)
        self._guessed.discard(sequence)
        self.unsealed.discard(sequence)
        self._ends_known.pop(sequence, None)
        self.digests.forget(sequence)
        if self.compacted.pop(sequence, None) is not None:
            self.were_compacted({})
        found = self._open.pop(sequence, None)
        if found is not None:
            found.file.close()

    def were_compacted(self, sizes: Mapping[int, int]) -> None:
        self.compacted |= sizes
        whole = int(self._settings.segment_bytes)
        self.spared_bytes = sum(whole - each for each in self.compacted.values())

    def replaced(self, covered: Sequence[int], sequence: int, size: int) -> None:
        """The file of `sequence` is another now and holds what is left of `covered`, too. Under `lock` since before."""
        for each in covered:
            self.take_off(each)
        self._forget(sequence)
        self.hidden.pop(sequence, None)
        self.were_compacted({sequence: size})

    def file_bytes(self, sequence: int) -> int:
        return self.compacted.get(sequence, int(self._settings.segment_bytes))

    def close(self) -> None:
        with self.lock:
            for segment in self._open.values():
                segment.file.close()
            self._open.clear()
            if self.active is not None:
                self.active.file.close()
                self.active = None

    # what a segment holds

    def footer(self, sequence: int) -> Footer:
        """Raises SegmentLost, Unavailable."""
        segment = self.segment(sequence)
        if segment.footer is not None:
            return segment.footer
        # Walk back to one that has its footer, then rebuild forward: each table stands on the one before.
        place = index = bisect_left(self.sequences, sequence)
        while place > 0 and self.segment(self.sequences[place - 1]).footer is None:
            place -= 1
        for current in self.sequences[place : index + 1]:
            self._rebuild(current)
        return self._rebuilt[sequence]

    def digest(self, sequence: int) -> Digest:
        """Raises SegmentLost, Unavailable."""
        found = self.digests.get(sequence)
        if found is not None:
            return found
        footer = self.footer(sequence)
        segment = self.segment(sequence)
        is_sealed = segment.own_end is not None or sequence not in self._rebuilt
        return self.digests.make(segment, footer, is_sealed=is_sealed)

    def open_apart(self, sequence: int) -> OpenSegment:
        """With a handle of the caller's own. Raises Corrupt, Missing, Refused, Unavailable."""
        return open_segment(
            self._disk, self._directory, sequence, log_id=self.log_id, read_only=True
        )

    def ends_by_next(self, sequence: int) -> bool:
        """Its file has no footer: where it ends stands in the header of the segment behind it, which must not go first."""
        try:
            if sequence in self.unsealed:
                self.segment(sequence)
                return True
            known = self.digests.get(sequence)
            if known is not None and known.is_sealed:
                return False
            segment = self.segment(sequence)
            return segment.own_end is None and load_footer(segment) is None
        except SegmentLost:
            return False

    def _rebuild(self, sequence: int) -> None:
        found = self.batches(sequence)
        # the one just mapped, before its neighbours push it out of the cache
        segment = self.segment(sequence)
        if segment.end is None:  # those that were asked about its damage did: it is told by now
            found, segment = self.batches(sequence), self.segment(sequence)
        assert segment.end is not None, "mapping found where it ends"
        ends, stream_bytes = self.tables_before(sequence)
        add_to_tables(found, ends, stream_bytes)
        data = encode_footer(
            found,
            ends=ends,
            stream_bytes=stream_bytes,
            data_end=segment.end,
            salt=segment.salt,
        )
        segment.footer = self._rebuilt[sequence] = Footer(data)
        self._guessed.add(sequence)

    def tables_before(self, sequence: int) -> tuple[dict[TopicPartition, int], dict[str, int]]:
        """Where partitions ended, and bytes per stream, before this segment."""
        index = bisect_left(self.sequences, sequence)
        ends, stream_bytes = dict(self.ends_before), dict(self.bytes_before)
        if index > 0:
            before = self.footer(self.sequences[index - 1])
            for partition, end in before.ends():
                ends[partition] = max(end, ends.get(partition, 0))
            stream_bytes |= before.stream_bytes
        return ends, stream_bytes

    def batches(self, sequence: int) -> SegmentMap:
        """The map of every batch; reads the segment where it is not in memory. Raises SegmentLost, Unavailable."""
        segment = self.segment(sequence)
        if segment.map is not None:
            return segment.map
        limit = self._limit(segment)
        result, damage = self._scanned(segment, limit)
        if damage and self._reopened(segment):
            result, damage = self._scanned(segment, limit)
        if damage:
            trouble = f"{segment.path}: damaged at {damage[0].first}"
            must_be_well(self._disk, self._directory, trouble)
        segment.map = result.map
        segment.end = result.end if limit is None else limit
        self._keep(segment)
        if damage and sequence not in self.damaged:
            self.damaged.add(sequence)
            if segment.footer is None:
                self.hidden[sequence] = damage
            self._report_missing(segment, result.map, damage)
        return result.map

    def _scanned(self, segment: OpenSegment, limit: int | None) -> tuple[Scan, list[Stretch]]:
        found = read_blocks(segment.file, segment.file.size() if limit is None else limit)
        result = scan(found.data, salt=segment.salt, sequence=segment.sequence)
        if limit is None:
            return result, [*result.damage, *unread_behind(result, found)]
        if result.end < limit:
            # where the end is known, a bad tail before it is damage like any other
            return result, [*result.damage, Stretch(result.end, limit, True)]
        return result, result.damage

    def _reopened(self, segment: OpenSegment) -> bool:
        """By its name: what was held open may be of a file system that is gone, and another stands in its place."""
        if segment is self.active:
            return False
        try:
            fresh = self.open_apart(segment.sequence)
        except (Corrupt, Refused, Unavailable):
            return False
        if fresh.salt != segment.salt:
            fresh.file.close()
            return False
        segment.file.close()
        segment.file = fresh.file
        return True

    def fetch(self, segment: OpenSegment, batches: SegmentMap, index: int) -> bytes | None:
        """None where the medium does not give back what was written; then it is a loss, noted once. Raises Unavailable."""
        reason = ""
        for attempt in range(_READ_ATTEMPTS):
            if attempt:
                self._reopened(segment)
            try:
                data = segment.file.read(batches.position[index], batches.length[index])
                if validate_batch(data).base_offset == batches.base[index]:
                    return data
                reason = "another batch stands there"
            except (Unavailable, Corrupt) as error:
                reason = str(error)
        must_be_well(self._disk, self._directory, reason)
        batches.bad.add(index)
        self.damaged.add(segment.sequence)
        detail = f"{names.segment(segment.sequence)}: batch at {batches.position[index]}: {reason}"
        partition = batches.partitions[batches.row[index]]
        self.losses.append(Loss(partition, batches.base[index], batches.next[index] - 1, detail))
        return None

    def _limit(self, segment: OpenSegment) -> int | None:
        """Bytes there and beyond do not count, however whole they look. None: no one knows but the frames."""
        if segment.footer is not None:
            return segment.footer.totals.data_end
        known = self._ends_known.get(segment.sequence)
        if known is not None:
            return known
        if segment.compacted:
            return segment.own_end
        index = bisect_left(self.sequences, segment.sequence) + 1
        following = self.active
        if index < len(self.sequences):
            following = self.segment(self.sequences[index])
        header = following.header if following is not None else None
        if header is not None and header.previous_sequence == segment.sequence:
            return header.previous_end
        return None

    # damage

    def _report_missing(
        self, segment: OpenSegment, found: SegmentMap, damage: list[Stretch]
    ) -> None:
        where = ", ".join(f"{s.first}-{s.end}" for s in damage) or f"before {segment.end}"
        detail = f"{names.segment(segment.sequence)}: bytes {where} are damaged"
        if segment.footer is None:
            expected = self.tables_before(segment.sequence)[0]
            self.losses += missing_in(found, expected, detail, floor=self.floor)
            index = bisect_left(self.sequences, segment.sequence) + 1
            self.losses += self._between(expected, index, detail)
            return
        for partition, summary in segment.footer.present():
            self.losses += _missing_of(found, partition, summary, detail)

    def set_aside(self, sequence: int, reason: str, *, keep: bool = False) -> None:
        """Into quarantine unless it is to be kept in place, and its records into `losses`."""
        with self.lock:
            index = bisect_left(self.sequences, sequence)
            self.take_off(sequence)
            self.damaged.discard(sequence)
            if not keep and not self.to_quarantine(sequence):
                self.quarantined.append(names.segment(sequence))
            self.losses += self.lost_at(index, f"{names.segment(sequence)}: {reason}")

    def to_quarantine(self, sequence: int) -> bool:
        name = names.segment(sequence)
        moved = quarantine(self._disk, self._directory, name, self._settings)
        if moved is not None:
            self.quarantined.append(moved)
        return moved is not None

    def lost_at(self, index: int, detail: str) -> list[Loss]:
        """What was in segments missing before the one at `index`, told by the tables around them."""
        before = None
        while index > 0 and before is None:
            try:
                before = self.footer(self.sequences[index - 1])
            except SegmentLost:
                index = min(index, len(self.sequences)) - 1
        ends = dict(before.ends()) if before is not None else {}
        return self._between(ends, index, detail)

    def _between(self, before: Mapping[TopicPartition, int], index: int, detail: str) -> list[Loss]:
        """What lies between the ends `before` and where the segments from `index` on, the open one last, go on."""
        following, table = self._following(index)
        losses = []
        for partition, end in table.items():
            shown = (each.summary(partition) for each in following)
            base = next((summary.base for summary in shown if summary is not None), end)
            # one that the state knows began where it says, however high the floor has risen since
            start = self.ends_before.get(partition, self.floor)
            first = max(before.get(partition, start), self.ends_before.get(partition, 0))
            if base > first:
                losses.append(Loss(partition, first, base - 1, detail))
        return losses

    def _following(
        self, index: int
    ) -> tuple[list[Footer | SegmentMap], Mapping[TopicPartition, int]]:
        """What the next segments show, up to the first table that was written: one that was rebuilt knows of no more than
        has been seen before it. And that table; behind the last segment, that of all."""
        found: list[Footer | SegmentMap] = []
        seen: dict[TopicPartition, int] = {}  # while recovering, `ends` is of the open one alone
        while index < len(self.sequences):
            sequence = self.sequences[index]
            try:
                footer = self.footer(sequence)
            except SegmentLost:
                continue
            found.append(footer)
            if sequence not in self._guessed:
                return found, dict(footer.ends())
            seen |= {partition: summary.end for partition, summary in footer.present()}
            index += 1
        if self.active is not None and self.active.map is not None:
            found.append(self.active.map)
        return found, seen | dict(self.ends)

    def last_commit(self) -> int:
        """Of the sealed segments; those that a failing disk left without a frame tell none."""
        for sequence in reversed(list(self.sequences)):
            try:
                if found := self.footer(sequence).totals.last_commit:
                    return found
            except SegmentLost:
                continue
        return 0

    # finding

    def locate(self, partition: TopicPartition, offset: int) -> int:
        """Index of the first sealed segment that ends beyond `offset`; len(sequences): the active one."""
        low, high = 0, len(self.sequences)
        while low < high:
            middle = (low + high) // 2
            if self.footer(self.sequences[middle]).end(partition) > offset:
                high = middle
            else:
                low = middle + 1
        return low


def add_to_tables(
    found: SegmentMap, ends: dict[TopicPartition, int], stream_bytes: dict[str, int]
) -> None:
    for partition in found.partitions:
        summary = found.summary(partition)
        if summary is not None:
            ends[partition] = max(summary.end, ends.get(partition, 0))
            stream_bytes[partition.topic] = stream_bytes.get(partition.topic, 0) + summary.size


def missing_in(
    found: SegmentMap, expected: dict[TopicPartition, int], detail: str, *, floor: int
) -> list[Loss]:
    """Offsets that batches of the map skip, beginning at `expected`, which is moved along."""
    losses = []
    for index in range(len(found)):
        partition = found.partitions[found.row[index]]
        want = expected.get(partition, floor)
        if found.base[index] > want:
            losses.append(Loss(partition, want, found.base[index] - 1, detail))
        expected[partition] = max(want, found.next[index])
    return losses


def _missing_of(
    found: SegmentMap, partition: TopicPartition, summary: Summary, detail: str
) -> list[Loss]:
    losses, want = [], summary.base
    for index in found.indexes_from(partition, summary.base):
        if found.base[index] > want:
            losses.append(Loss(partition, want, found.base[index] - 1, detail))
        want = found.next[index]
    if want < summary.end:
        losses.append(Loss(partition, want, summary.end - 1, detail))
    return losses
