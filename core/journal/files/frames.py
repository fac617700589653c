"""Segment headers and frames: the bytes of a commit. FORMAT.md is the prose; this file is its grammar.

A frame is one padded write: header, entries, zeros to the next 4 KiB. Both its checksums are seeded with the segment's
salt, and CRC32 is a bijection of its seed: the stale frame of an earlier life of a recycled file, whole as it may
be, *cannot* validate under another salt. Header and body are summed apart, so that a damaged body still tells
where the next frame begins.

Knows nothing of files, of which commits are durable, nor of what a batch contains.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from ...errors import Corrupt
from ...record import TopicPartition
from .settings import BLOCK_BYTES

SEGMENT_MAGIC = b"HWSEGMT1"
COMPACTED_MAGIC = b"HWSEGMT2"
FRAME_MAGIC = b"HWF1"

# magic, crc, salt, log id, sequence, segment bytes, previous sequence, previous end, created (wall ms)
_SEGMENT_HEADER = struct.Struct("<8sII8sQQQQq")
# of a compacted segment two more: first sequence covered, data end
_COMPACTED_HEADER = struct.Struct("<8sII8sQQQQqQQ")
_SEGMENT_SUMMED_FROM = 12
# magic, header crc, salt, body crc, body length, position, entries, flags, sequence, commit, wall ms
_FRAME_HEADER = struct.Struct("<4sIIIIIIIQQq")
# Not the salt itself: as the first four bytes summed it would cancel the seed, which is the same number.
_FRAME_SUMMED_FROM = 12
FRAME_HEADER_BYTES = _FRAME_HEADER.size
# kind, reserved, name length or note kind, partition, payload length
_ENTRY = struct.Struct("<BBHII")
ENTRY_BYTES = _ENTRY.size
_BATCH = 1
_NOTE = 2
# Set on the last frame of a commit that needed several; a commit without it was never acknowledged as a whole.
LAST_OF_COMMIT = 1
# Set on each frame of a compacted segment, so that it is known for one when its header is damaged.
COMPACTED = 2


class SegmentHeader(NamedTuple):
    """What the first block says. `previous_end` seals the segment before: bytes there and beyond are void, unless that one
    was compacted since. A compacted one (`first_covered` and `data_end` given) stands for all from `first_covered` on."""

    log_id: bytes
    sequence: int
    salt: int
    segment_bytes: int
    previous_sequence: int
    previous_end: int
    created_ms: int
    first_covered: int | None = None
    data_end: int = 0


class FrameHeader(NamedTuple):
    salt: int
    body_crc: int
    body_length: int
    position: int
    entries: int
    flags: int
    sequence: int
    commit: int
    wall_ms: int

    @property
    def end(self) -> int:
        """Position of the block after this frame."""
        return self.position + padded(FRAME_HEADER_BYTES + self.body_length)


class BatchEntry(NamedTuple):
    """Where in the body (relative) one batch lies, and whose it is."""

    partition: TopicPartition
    start: int
    length: int


class Note(NamedTuple):
    """Opaque sidecar state that shares a commit with records."""

    kind: int
    payload: bytes
    commit: int


def padded(length: int) -> int:
    return -(-length // BLOCK_BYTES) * BLOCK_BYTES


def encode_segment_header(header: SegmentHeader) -> bytes:
    form, magic, fields = _SEGMENT_HEADER, SEGMENT_MAGIC, _header_order(header)
    if header.first_covered is not None:
        form, magic = _COMPACTED_HEADER, COMPACTED_MAGIC
        fields += (header.first_covered, header.data_end)
    crc = zlib.crc32(form.pack(magic, 0, *fields)[_SEGMENT_SUMMED_FROM:])
    return form.pack(magic, crc, *fields).ljust(BLOCK_BYTES, b"\0")


def _header_order(header: SegmentHeader) -> tuple[int | bytes, ...]:
    return (
        header.salt,
        header.log_id,
        header.sequence,
        header.segment_bytes,
        header.previous_sequence,
        header.previous_end,
        header.created_ms,
    )


def decode_segment_header(block: bytes) -> SegmentHeader:
    """Raises Corrupt."""
    form = _COMPACTED_HEADER if block[:8] == COMPACTED_MAGIC else _SEGMENT_HEADER
    if len(block) < form.size:
        raise Corrupt(f"segment header cut short at {len(block)} bytes")
    magic, crc, salt, log_id, sequence, *rest = form.unpack_from(block)
    if magic not in {SEGMENT_MAGIC, COMPACTED_MAGIC}:
        raise Corrupt(f"segment header begins with {magic!r}")
    if zlib.crc32(block[_SEGMENT_SUMMED_FROM : form.size]) != crc:
        raise Corrupt("segment header checksum is wrong")
    return SegmentHeader(log_id, sequence, salt, *rest)


def batch_entry(partition: TopicPartition, batch: bytes) -> bytes:
    name = partition.topic.encode()
    return _ENTRY.pack(_BATCH, 0, len(name), partition.partition, len(batch)) + name + batch


def note_entry(kind: int, payload: bytes) -> bytes:
    return _ENTRY.pack(_NOTE, 0, kind, 0, len(payload)) + payload


def encode_frame(
    body: bytes,
    *,
    entries: int,
    salt: int,
    sequence: int,
    position: int,
    commit: int,
    wall_ms: int,
    last: bool,
    compacted: bool = False,
) -> bytes:
    """The padded bytes for `position` of segment `sequence`."""
    flags = (LAST_OF_COMMIT if last else 0) | (COMPACTED if compacted else 0)
    fields = (salt, zlib.crc32(body, salt), len(body), position, entries, flags, sequence, commit)
    packed = _FRAME_HEADER.pack(FRAME_MAGIC, 0, *fields, wall_ms)
    crc = zlib.crc32(packed[_FRAME_SUMMED_FROM:], salt)
    packed = _FRAME_HEADER.pack(FRAME_MAGIC, crc, *fields, wall_ms)
    padding = padded(len(packed) + len(body)) - len(packed) - len(body)
    return b"".join((packed, body, bytes(padding)))


def decode_frame_header(
    buffer: bytes, index: int, *, salt: int | None, sequence: int, position: int
) -> FrameHeader | None:
    """The header at `index` of `buffer` if it is one written for this very place, else None.

    With salt None the header's own is believed: only for the first frame of a segment whose header block is damaged,
    where no payload can have forged one.
    """
    if buffer[index : index + 4] != FRAME_MAGIC or len(buffer) - index < FRAME_HEADER_BYTES:
        return None
    _, crc, *rest = _FRAME_HEADER.unpack_from(buffer, index)
    header = FrameHeader(*rest)
    if salt is not None and header.salt != salt:
        return None
    if header.sequence != sequence or header.position != position:
        return None
    summed = buffer[index + _FRAME_SUMMED_FROM : index + FRAME_HEADER_BYTES]
    return header if zlib.crc32(summed, header.salt) == crc else None


def body_is_whole(buffer: bytes, index: int, header: FrameHeader) -> bool:
    start = index + FRAME_HEADER_BYTES
    body = memoryview(buffer)[start : start + header.body_length]
    return len(body) == header.body_length and zlib.crc32(body, header.salt) == header.body_crc


def batches(buffer: bytes, index: int, header: FrameHeader) -> Iterator[BatchEntry]:
    """Batches of a whole frame; `start` is an index into `buffer`."""
    for kind, name_length, partition, start, length in _entries(buffer, index, header):
        if kind == _BATCH:
            name = buffer[start : start + name_length].decode()
            payload = start + name_length
            yield BatchEntry(TopicPartition(name, partition), payload, length)


def notes(buffer: bytes, index: int, header: FrameHeader) -> Iterator[Note]:
    for kind, note_kind, _, start, length in _entries(buffer, index, header):
        if kind == _NOTE:
            yield Note(note_kind, buffer[start : start + length], header.commit)


def _entries(
    buffer: bytes, index: int, header: FrameHeader
) -> Iterator[tuple[int, int, int, int, int]]:
    place = index + FRAME_HEADER_BYTES
    end = place + header.body_length
    for _ in range(header.entries):
        if place + ENTRY_BYTES > end:
            raise Corrupt(f"frame at {header.position}: entries run past its body")
        kind, _, small, partition, length = _ENTRY.unpack_from(buffer, place)
        place += ENTRY_BYTES
        yield kind, small, partition, place, length
        place += length + (small if kind == _BATCH else 0)
    if place != end:
        raise Corrupt(
            f"frame at {header.position}: body has {end - place} bytes beyond its entries"
        )
