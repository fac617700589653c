"""What lies where in one segment: the map of its batches, and the footer that survives in the file.

`SegmentMap`  every batch of a segment, in flat arrays of about 20 bytes each; built while writing, or by a scan.
`Footer`      per partition, for *all* partitions of the journal, the offset after this segment; for those present here
              also base offset, first position, bytes and timestamps; and per stream the bytes ever written.
Because each footer carries the whole table, the segment that holds an offset is found by binary search over the
segments, a journal of any size opens by reading one footer, and the bytes a stream holds are one subtraction.
The columns are little-endian arrays read in place (both supported platforms are little-endian).

Knows nothing of files nor of which records are durable.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from ...errors import Corrupt
from ...record import TopicPartition
from .settings import BLOCK_BYTES

_FOOTER_MAGIC = b"HWIX"
# magic, crc, length, streams, partitions, present, first and last commit, data end, batches, notes, last wall ms
_FOOTER = struct.Struct("<4sIIIIIQQIIIIq")
_SUMMED_FROM = 8
_STREAM = struct.Struct("<HIQ")  # name length, partitions, bytes ever written; the name follows
_TRAILER_MAGIC = b"HWTR"
_TRAILER = struct.Struct("<4sIIIQ")  # magic, crc, footer position, footer length, sequence
TRAILER_BYTES = _TRAILER.size
ROW_BYTES = 12  # of every partition of the journal
PRESENT_BYTES = 36  # more for one that has batches in the segment


class Summary(NamedTuple):
    """One partition within one segment."""

    base: int
    end: int
    first_position: int
    size: int
    timestamp_min: int
    timestamp_max: int


class Totals(NamedTuple):
    """What a footer says of the segment as a whole. `data_end`: position after the last frame."""

    first_commit: int
    last_commit: int
    data_end: int
    batches: int
    notes: int
    wall_ms: int


class SegmentMap:
    """Grows at the end only: a reader in another thread sees whole entries or none."""

    def __init__(self) -> None:
        self.partitions: list[TopicPartition] = []
        self.rows: dict[TopicPartition, int] = {}
        self.members: list[array[int]] = []
        self.row = array("I")
        self.base = array("Q")
        self.next = array("Q")
        self.position = array("I")
        self.length = array("I")
        self._size = array("Q")
        self._timestamp_min = array("q")
        self._timestamp_max = array("q")
        self.first_commit = 0
        self.last_commit = 0
        self.notes = 0
        self.wall_ms = 0
        self.bad: set[int] = set()  # indexes of batches found damaged since

    def __len__(self) -> int:
        return len(self.length)

    def add(
        self,
        partition: TopicPartition,
        span: tuple[int, int],
        place: tuple[int, int],
        times: tuple[int, int],
    ) -> None:
        """One batch: (base, next offset), (position, length) of its bytes, (first, last) timestamp."""
        row = self.rows.get(partition)
        if row is None:
            row = len(self.partitions)
            self.partitions.append(partition)
            self.members.append(array("I"))
            self._size.append(0)
            self._timestamp_min.append(times[0])
            self._timestamp_max.append(times[1])
        index = len(self.row)
        self.row.append(row)
        self.base.append(span[0])
        self.next.append(span[1])
        self.position.append(place[0])
        self.length.append(place[1])
        self._size[row] += place[1]
        self._timestamp_min[row] = min(self._timestamp_min[row], times[0])
        self._timestamp_max[row] = max(self._timestamp_max[row], times[1])
        self.members[row].append(index)
        self.rows[partition] = row  # last: a reader that finds the row finds the batch

    def frame(self, commit: int, notes: int, wall_ms: int) -> None:
        self.first_commit = self.first_commit or commit
        self.last_commit = commit
        self.notes += notes
        self.wall_ms = max(self.wall_ms, wall_ms)

    def summary(self, partition: TopicPartition) -> Summary | None:
        row = self.rows.get(partition)
        if row is None:
            return None
        first, last = self.members[row][0], self.members[row][-1]
        return Summary(
            self.base[first],
            self.next[last],
            self.position[first],
            self._size[row],
            self._timestamp_min[row],
            self._timestamp_max[row],
        )

    def indexes_from(self, partition: TopicPartition, offset: int) -> Iterator[int]:
        """Batches of the partition from the one that holds `offset` (or the first after it) onward."""
        row = self.rows.get(partition)
        if row is None:
            return
        members = self.members[row]
        place = bisect_right(members, offset, key=self.next.__getitem__)
        while place < len(members):
            index = members[place]
            if index not in self.bad:
                yield index
            place += 1


class Footer:
    """A footer's bytes, read in place."""

    def __init__(self, data: bytes) -> None:
        (_, _, _, streams, partitions, present, *totals) = _FOOTER.unpack_from(data)
        first, last, end, batches, notes, _, wall = totals
        self.totals = Totals(first, last, end, batches, notes, wall)
        self.size = len(data)
        view = memoryview(data)
        place = _FOOTER.size

        def column(code: Literal["I", "q", "Q"], width: int, count: int) -> memoryview[int]:
            nonlocal place
            place += width * count
            return view[place - width * count : place].cast(code)

        self._end = column("Q", 8, partitions)
        self._base = column("Q", 8, present)
        self._timestamp_min = column("q", 8, present)
        self._timestamp_max = column("q", 8, present)
        self._partition = column("I", 4, partitions)
        self._row = column("I", 4, present)
        self._position = column("I", 4, present)
        self._size = column("I", 4, present)
        self._streams: dict[str, tuple[int, int]] = {}
        self.stream_bytes: dict[str, int] = {}
        row = 0
        for _ in range(streams):
            length, count, written = _STREAM.unpack_from(data, place)
            place += _STREAM.size
            name = data[place : place + length].decode()
            place += length
            self._streams[name] = (row, row + count)
            self.stream_bytes[name] = written
            row += count

    def _find(self, partition: TopicPartition) -> int | None:
        low, high = self._streams.get(partition.topic, (0, 0))
        row = bisect_left(self._partition, partition.partition, low, high)
        return row if row < high and self._partition[row] == partition.partition else None

    def end(self, partition: TopicPartition) -> int:
        """The partition's next offset after this segment; 0 for one that did not exist yet."""
        row = self._find(partition)
        return 0 if row is None else self._end[row]

    def summary(self, partition: TopicPartition) -> Summary | None:
        row = self._find(partition)
        if row is None:
            return None
        index = bisect_left(self._row, row)
        if index == len(self._row) or self._row[index] != row:
            return None
        return self._summary(index, row)

    def _summary(self, index: int, row: int) -> Summary:
        return Summary(
            self._base[index],
            self._end[row],
            self._position[index],
            self._size[index],
            self._timestamp_min[index],
            self._timestamp_max[index],
        )

    def ends(self) -> Iterator[tuple[TopicPartition, int]]:
        """The whole table."""
        for name, (low, high) in self._streams.items():
            for row in range(low, high):
                yield TopicPartition(name, self._partition[row]), self._end[row]

    def stream_ends(self, stream: str) -> Iterator[tuple[TopicPartition, int]]:
        low, high = self._streams.get(stream, (0, 0))
        for row in range(low, high):
            yield TopicPartition(stream, self._partition[row]), self._end[row]

    def present(self) -> Iterator[tuple[TopicPartition, Summary]]:
        """The partitions that have batches in this segment."""
        bounds = [(high, name) for name, (_, high) in self._streams.items()]
        at = 0
        for index, row in enumerate(self._row):
            while row >= bounds[at][0]:
                at += 1
            yield TopicPartition(bounds[at][1], self._partition[row]), self._summary(index, row)


def footer_bytes_max(partitions: int, streams: int, names: int) -> int:
    """No footer of so many partitions, streams and bytes of stream names is larger, trailer and padding included."""
    streams = names + streams * _STREAM.size
    rows = partitions * (ROW_BYTES + PRESENT_BYTES)
    return -(-(_FOOTER.size + rows + streams + TRAILER_BYTES) // BLOCK_BYTES) * BLOCK_BYTES


def encode_footer(
    segment: SegmentMap,
    *,
    ends: Mapping[TopicPartition, int],
    stream_bytes: Mapping[str, int],
    data_end: int,
    salt: int,
) -> bytes:
    table = sorted(ends)
    rows = {partition: row for row, partition in enumerate(table)}
    present = sorted(segment.partitions)
    found = [summary for p in present if (summary := segment.summary(p)) is not None]
    counts: dict[str, int] = {}
    for partition in table:
        counts[partition.topic] = counts.get(partition.topic, 0) + 1
    columns = [
        array("Q", [ends[partition] for partition in table]),
        array("Q", [summary.base for summary in found]),
        array("q", [summary.timestamp_min for summary in found]),
        array("q", [summary.timestamp_max for summary in found]),
        array("I", [partition.partition for partition in table]),
        array("I", [rows[partition] for partition in present]),
        array("I", [summary.first_position for summary in found]),
        array("I", [summary.size for summary in found]),
    ]
    parts = [column.tobytes() for column in columns]
    for name, count in counts.items():
        encoded = name.encode()
        parts += (_STREAM.pack(len(encoded), count, stream_bytes.get(name, 0)), encoded)
    rest = b"".join(parts)
    length = _FOOTER.size + len(rest)
    counted = (length, len(counts), len(table), len(present), segment.first_commit)
    more = (segment.last_commit, data_end, len(segment), segment.notes, 0, segment.wall_ms)
    unsummed = _FOOTER.pack(_FOOTER_MAGIC, 0, *counted, *more) + rest
    crc = zlib.crc32(memoryview(unsummed)[_SUMMED_FROM:], salt)
    return _FOOTER.pack(_FOOTER_MAGIC, crc, *counted, *more) + rest


def place_footer(
    footer: bytes, *, segment_bytes: int | None, data_end: int, sequence: int, salt: int
) -> tuple[int, bytes]:
    """(position, bytes) of one write that ends with the trailer at the file's last byte.

    `segment_bytes` None: plain append, the file ends where the footer does.
    """
    size = -(-(len(footer) + TRAILER_BYTES) // BLOCK_BYTES) * BLOCK_BYTES
    position = data_end if segment_bytes is None else segment_bytes - size
    fields = (position, len(footer), sequence)
    crc = zlib.crc32(_TRAILER.pack(_TRAILER_MAGIC, 0, *fields)[_SUMMED_FROM:], salt)
    trailer = _TRAILER.pack(_TRAILER_MAGIC, crc, *fields)
    return position, footer.ljust(size - TRAILER_BYTES, b"\0") + trailer


def decode_trailer(tail: bytes, *, sequence: int, salt: int) -> tuple[int, int] | None:
    """(position, length) of the footer, by the file's last bytes; None where the segment was not sealed."""
    if len(tail) < TRAILER_BYTES:
        return None
    trailer = tail[-TRAILER_BYTES:]
    magic, crc, position, length, written = _TRAILER.unpack(trailer)
    if (
        magic != _TRAILER_MAGIC
        or written != sequence
        or zlib.crc32(trailer[_SUMMED_FROM:], salt) != crc
    ):
        return None
    return position, length


def decode_footer(data: bytes, *, salt: int) -> Footer:
    """Raises Corrupt."""
    if len(data) < _FOOTER.size or data[:4] != _FOOTER_MAGIC:
        raise Corrupt("segment footer is not one")
    crc, length = struct.unpack_from("<II", data, 4)
    if length != len(data) or zlib.crc32(memoryview(data)[_SUMMED_FROM:], salt) != crc:
        raise Corrupt("segment footer checksum is wrong")
    return Footer(data)
