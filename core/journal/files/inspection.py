"""What is on disk, for a person: `headwater log dump DIR` (with --stream: its records) and `headwater log verify DIR`.

Reads only, takes no lock, and so works beside a running edge: a segment that is retired meanwhile is left out, one that is
compacted is read anew, as the file that was open may be overwritten by then, and the tail of the newest segment is where the
writer may be at work, so nothing there counts as damage.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from ...batch import decode_batch, parse_header, validate_batch
from ...belief import Mark, Stamp
from ...disk import Disk
from ...errors import Corrupt, HeadwaterError, Missing
from ...record import TopicPartition
from . import names
from .covered import covered_by
from .frames import BatchEntry, FrameHeader, batches, decode_segment_header, notes
from .holes import absent_at_start, holds, holes_in, named_before
from .index import Footer
from .reservations import Reservations, Reserved, reserved_in
from .scan import Stretch, read_through, walk
from .segment import OpenSegment, load_footer, open_segment
from .settings import BLOCK_BYTES
from .state import State, load_state

_ATTEMPTS = 3
# Of a key or value: a line or two of a terminal tells what it is.
SHOWN_BYTES_MAX = 1000


@dataclass(slots=True)
class Verification:
    """`damage` is empty where every byte that counts is as written, and every offset from start to end is there."""

    segments: int = 0
    frames: int = 0
    batches: int = 0
    records: int = 0
    bytes: int = 0
    damage: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    bounds: dict[TopicPartition, tuple[int, int]] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        return not self.damage

    def lines(self) -> Iterator[str]:
        for line in self.warnings:
            yield f"note: {line}"
        for line in self.damage:
            yield f"damage: {line}"
        for partition, (first, end) in sorted(self.bounds.items()):
            yield f"{partition}: offsets {first} to {end - 1}"
        verdict = "whole" if self.whole else f"{len(self.damage)} places damaged"
        yield (
            f"{self.segments} segments, {self.frames} frames, {self.batches} batches, "
            f"{self.records} records, {self.bytes} bytes: {verdict}"
        )


@dataclass(slots=True)
class _Held:
    """One segment as it stands: its bytes up to where they count, and whether it is the newest."""

    segment: OpenSegment
    buffer: bytes
    newest: bool
    sealed: bool


def dump(directory: str, *, disk: Disk) -> Iterator[str]:
    """Segments, frames and batches with their positions. Raises Missing where there is no journal."""
    state, sequences = _survey(directory, disk)
    yield f"journal {directory}: log {_log_id(state, directory, disk, sequences)}"
    if state is not None:
        yield f"state: generation {state.generation}, {len(state.partitions)} partitions"
        for bounds in state.partitions:
            yield f"  {bounds.stream}/{bounds.partition}: starts at {bounds.start}"
    for held in _segments(directory, disk, state, sequences):
        yield from _dump_segment(held)
    for name in _quarantined(directory, disk):
        yield f"quarantine/{name}"


def records(directory: str, stream: str, *, disk: Disk) -> Iterator[str]:
    """Every record of a stream that is still there: its address, time, key and value. Raises Missing where none is."""
    state, sequences = _survey(directory, disk)
    bounds = state.partitions if state is not None else []
    starts = {TopicPartition(b.stream, b.partition): b.start for b in bounds}
    others: set[str] = set()
    told = False
    # compacted meanwhile, a segment that was shown stands again in a later one
    shown = starts
    for held in _segments(directory, disk, state, sequences):
        for item in walk(held.buffer, salt=held.segment.salt, sequence=held.segment.sequence):
            if isinstance(item, Stretch):
                continue
            for entry in batches(held.buffer, item.position, item):
                others.add(entry.partition.topic)
                if entry.partition.topic != stream:
                    continue
                for line in _records(held.buffer, entry, shown.get(entry.partition, 0)):
                    told = True
                    yield line
                with contextlib.suppress(Corrupt):
                    header = parse_header(held.buffer, entry.start)
                    shown[entry.partition] = max(header.next_offset, shown.get(entry.partition, 0))
    if not told:
        named = ", ".join(sorted(others - {stream})) or "no stream at all"
        raise Missing(f"{directory} holds no record of {stream!r}, but of {named}")


def _records(buffer: bytes, entry: BatchEntry, start: int) -> Iterator[str]:
    try:
        _, found = decode_batch(buffer[entry.start : entry.start + entry.length])
    except Corrupt as error:
        yield f"{entry.partition}: {error}"
        return
    for record in found:
        if record.offset >= start:
            key, value = _shown(record.key), _shown(record.value)
            yield f"{entry.partition}/{record.offset}  {_time(record.timestamp)}  {key}  {value}"


def _shown(data: bytes | None) -> str:
    """On one line of a terminal, whatever a device put there."""
    if data is None:
        return "-"
    text = data[:SHOWN_BYTES_MAX].decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return f"{text}… ({len(data)} bytes)" if len(data) > SHOWN_BYTES_MAX else text


def verify(directory: str, *, disk: Disk) -> Verification:
    """Every checksum and the continuity of every partition. Raises Missing where there is no journal."""
    for _ in range(_ATTEMPTS):
        state, sequences = _survey(directory, disk)
        found = _verified(directory, disk, state, sequences)
        now = load_state(disk, directory).state
        if found.whole or now is None or state is None or now.generation == state.generation:
            break  # else a running edge has given up meanwhile what was looked for
    return found


def _verified(
    directory: str, disk: Disk, state: State | None, sequences: list[int]
) -> Verification:
    verifier = _Verifier(state)
    found = verifier.found
    if state is None:
        found.warnings.append("both state files are missing or damaged: starts are unknown")
    for held in _segments(directory, disk, state, sequences, damage=found.damage):
        verifier.segment(held)
    _missing(directory, disk, state, sequences, found)
    for name in _quarantined(directory, disk):
        found.warnings.append(f"quarantine/{name} was set aside earlier")
    return found


def _survey(directory: str, disk: Disk) -> tuple[State | None, list[int]]:
    listed = disk.list(directory)
    sequences = sorted(s for name in listed if (s := names.segment_sequence(name)) is not None)
    state = load_state(disk, directory).state
    if state is None and not sequences:
        raise Missing(f"{directory} holds no journal")
    gone = state.absent or [] if state is not None else []
    log_id = bytes.fromhex(_log_id(state, directory, disk, sequences))
    gone = [*gone, *covered_by(disk, directory, log_id, state, sequences).ranges]
    # what stands and is given up goes with the next that does: nothing in it counts
    return state, [sequence for sequence in sequences if not holds(gone, sequence)]


def _log_id(state: State | None, directory: str, disk: Disk, sequences: list[int]) -> str:
    if state is not None:
        return state.log_id
    for sequence in sequences:
        try:
            file = disk.open(names.join(directory, names.segment(sequence)), read_only=True)
        except HeadwaterError:
            continue
        try:
            return decode_segment_header(read_through(file, BLOCK_BYTES)).log_id.hex()
        except Corrupt:
            continue
        finally:
            file.close()
    return "0" * 16


def _segments(
    directory: str,
    disk: Disk,
    state: State | None,
    sequences: list[int],
    *,
    damage: list[str] | None = None,
) -> Iterator[_Held]:
    log_id = bytes.fromhex(_log_id(state, directory, disk, sequences))
    left = deque(sequences)
    newest = last = sequences[-1] if sequences else 0
    while left:
        sequence = left.popleft()
        try:
            held = _hold(directory, disk, sequence, list(left), log_id, newest=sequence == newest)
        except HeadwaterError as error:
            if damage is not None and _still_there(directory, disk, sequence):
                damage.append(str(error))
            continue
        if held is not None:
            yield held
            continue
        # retired since it was listed, or what survives of it stands in a later one: that may be younger than the list
        standing = _survey(directory, disk)[1]
        newest = max(standing, default=0)
        if last not in standing:
            last = min((s for s in standing if s > last), default=last)
        left = deque(s for s in standing if sequence < s <= last)


def _hold(
    directory: str, disk: Disk, sequence: int, later: list[int], log_id: bytes, *, newest: bool
) -> _Held | None:
    """None where it is gone. Raises HeadwaterError."""
    held = None
    for _ in range(_ATTEMPTS):
        try:
            segment = open_segment(disk, directory, sequence, log_id=log_id, read_only=True)
        except Missing:
            return None
        try:
            segment.footer = load_footer(segment)
            limit = _limit(segment, directory, disk, later, log_id)
            buffer = read_through(segment.file, limit)
        finally:
            segment.file.close()
        held = _Held(segment, buffer, newest, segment.footer is not None)
        try:
            again = open_segment(disk, directory, sequence, log_id=log_id, read_only=True)
        except Missing:
            return None
        again.file.close()
        if again.salt == segment.salt:
            break  # else it was compacted, and what was read may be of the next life of its file
    return held


def _missing(
    directory: str, disk: Disk, state: State | None, sequences: list[int], found: Verification
) -> None:
    """Segments that neither stand nor are known to be retired; those that an earlier start told of are a warning."""
    if state is not None:
        told = [known.damage for known in state.accounted]
        found.warnings += [f"{damage}; told at an earlier start" for damage in told]
    listed = disk.list(directory)  # again: younger than the state, which may name a new segment
    now = (s for name in listed if (s := names.segment_sequence(name)) is not None)
    standing = sorted({*sequences, *now})
    last = max(state.next_sequence - 1 if state is not None else 0, max(standing, default=0))
    absent = absent_at_start(
        state.absent if state is not None else None, standing, last, state_found=state is not None
    )
    log_id = bytes.fromhex(_log_id(state, directory, disk, sequences))
    previous_of = partial(named_before, disk, directory, log_id)
    for hole in holes_in(standing, absent, last=last, previous_of=previous_of):
        found.damage.append(f"{hole}: not there, and not known to be retired")


def _still_there(directory: str, disk: Disk, sequence: int) -> bool:
    return names.segment(sequence) in disk.list(directory)


def _limit(
    segment: OpenSegment, directory: str, disk: Disk, later: list[int], log_id: bytes
) -> int:
    if segment.footer is not None:
        return segment.footer.totals.data_end
    if segment.compacted:
        return segment.file.size() if segment.own_end is None else segment.own_end
    for sequence in later[:1]:
        try:
            following = open_segment(disk, directory, sequence, log_id=log_id, read_only=True)
        except HeadwaterError:
            break
        following.file.close()
        header = following.header
        if header is not None and header.previous_sequence == segment.sequence:
            return header.previous_end
    return segment.file.size()


def _dump_segment(held: _Held) -> Iterator[str]:
    segment = held.segment
    kind = "sealed" if held.sealed else ("open" if held.newest else "abandoned")
    header = segment.header
    if segment.compacted:
        first = header.first_covered if header is not None else None
        kind = f"compacted, stands for {first or 'unknown'} to {segment.sequence}"
    created = _time(header.created_ms) if header is not None else "unknown (header damaged)"
    yield f"{names.segment(segment.sequence)}: {kind}, salt {segment.salt:08x}, created {created}"
    for item in walk(held.buffer, salt=segment.salt, sequence=segment.sequence):
        if isinstance(item, Stretch):
            if not item.tail or held.sealed:
                yield f"  {item.first:>8}  DAMAGED up to {item.end}"
            continue
        yield f"  {item.position:>8}  commit {item.commit}, {item.entries} entries, {_time(item.wall_ms)}"
        yield from _dump_frame(held.buffer, item)
    if segment.footer is not None:
        totals = segment.footer.totals
        yield f"  footer: commits {totals.first_commit} to {totals.last_commit}, {totals.batches} batches"


def _dump_frame(buffer: bytes, header: FrameHeader) -> Iterator[str]:
    for entry in batches(buffer, header.position, header):
        place = f"    {entry.start:>8}  {entry.partition}"
        try:
            batch = validate_batch(buffer[entry.start : entry.start + entry.length])
        except Corrupt as error:
            yield f"{place}: {error}"
            continue
        stamp = Stamp(batch.producer_id, batch.producer_epoch, batch.base_sequence)
        yield (
            f"{place}: offsets {batch.base_offset} to {batch.last_offset}, {entry.length} bytes"
            f"{_clock(stamp.mark(), batch.base_timestamp)}"
        )
    for note in notes(buffer, header.position, header):
        yield f"              note of kind {note.kind}, {len(note.payload)} bytes"


def _clock(mark: Mark | None, timestamp_ms: int) -> str:
    """Where in which boot the first record was stamped, if that was told."""
    if mark is None:
        return ""
    seconds = (timestamp_ms - mark.offset_ms) / 1000
    return f", boot {mark.boot} at {seconds:.3f} s, clock {mark.trust.name.lower()}"


class _Verifier:
    """Goes along the segments with, per partition, the offset that must come next."""

    def __init__(self, state: State | None) -> None:
        self.found = Verification()
        bounds = state.partitions if state is not None else []
        self._starts = {TopicPartition(b.stream, b.partition): b.start for b in bounds}
        self._expected = dict(self._starts)
        self._reserved: Reservations = {}
        if state is not None:
            for stream, partition, *reserved in state.reserved:
                self._reserved[TopicPartition(stream, partition)] = Reserved(*reserved)
        # A partition younger than the state began at the floor.
        self._floor = state.floor if state is not None else None

    def segment(self, held: _Held) -> None:
        found, segment = self.found, held.segment
        name = names.segment(segment.sequence)
        found.segments += 1
        if segment.header is None:
            found.damage.append(f"{name}: header block is damaged (its records are readable)")
        for item in walk(held.buffer, salt=segment.salt, sequence=segment.sequence):
            if isinstance(item, Stretch):
                if not item.tail or held.sealed or not held.newest:
                    found.damage.append(f"{name}: bytes {item.first} to {item.end} hold no frame")
                continue
            found.frames += 1
            found.bytes += item.end - item.position
            for entry in batches(held.buffer, item.position, item):
                self._batch(name, held.buffer, entry)
            self._reserved |= reserved_in(held.buffer, item)
        if segment.footer is not None:
            self._ends(name, segment.footer)

    def _batch(self, name: str, buffer: bytes, entry: BatchEntry) -> None:
        found, partition = self.found, entry.partition
        try:
            batch = validate_batch(buffer[entry.start : entry.start + entry.length])
        except Corrupt as error:
            found.damage.append(f"{name}: batch of {partition} at {entry.start}: {error}")
            return
        found.batches += 1
        found.records += batch.record_count
        want = self._expected.get(partition, self._floor)
        if want is not None and batch.base_offset > want:
            missing = f"{partition}: offsets {want} to {batch.base_offset - 1} are missing"
            reserved = self._reserved.get(partition)
            if reserved is not None and batch.base_offset <= reserved.end:
                # acknowledged early: sent up and never written here, or passed over after a power cut and declared
                found.warnings.append(f"{missing}, which were reserved and not written here")
            else:
                found.damage.append(f"{missing} before {name} at {entry.start}")
        self._expected[partition] = max(want or 0, batch.next_offset)
        first = found.bounds.get(partition, (batch.base_offset, 0))[0]
        first = max(first, self._starts.get(partition, 0))
        found.bounds[partition] = (first, self._expected[partition])

    def _ends(self, name: str, footer: Footer) -> None:
        """The footer knows where each partition ended: what it has and the frames have not is missing."""
        for partition, summary in footer.present():
            have = self._expected.get(partition, summary.base)
            if summary.end > max(have, self._starts.get(partition, 0)):
                missing = f"{partition}: offsets {have} to {summary.end - 1} are missing"
                self.found.damage.append(f"{missing} in {name}")
                self._expected[partition] = summary.end


def _quarantined(directory: str, disk: Disk) -> list[str]:
    try:
        return disk.list(names.join(directory, names.QUARANTINE))
    except HeadwaterError:
        return []


def _time(milliseconds: int) -> str:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return f"{milliseconds} ms"
