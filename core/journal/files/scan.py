"""Walk a segment's frames, telling whole ones, damage, and the torn or never-written rest.

Rule: only the last frame may be torn, because each is synced before the next is written. So a bad stretch with
a frame after it is *damage* (those bytes were acknowledged), a bad stretch at the end of the open segment is the tail.
A frame whose header is whole but whose body is not counts as "after": its header can only have been written later.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ...batch import parse_header
from ...disk import File
from ...errors import Corrupt, Unavailable
from .frames import LAST_OF_COMMIT, FrameHeader, batches, body_is_whole, decode_frame_header, notes
from .index import SegmentMap
from .settings import BLOCK_BYTES


class Stretch(NamedTuple):
    """Bytes `first` up to `end` hold no whole frame; `tail` where nothing whole follows."""

    first: int
    end: int
    tail: bool


class Scan(NamedTuple):
    """`end` is the position after the last whole frame; `partial`, where a last commit begins that is not whole, else 0.
    `ends_commit`: the last frame of some commit is here."""

    map: SegmentMap
    end: int
    damage: list[Stretch]
    torn: bool
    partial: int = 0
    ends_commit: bool = False


def walk(buffer: bytes, *, salt: int, sequence: int) -> Iterator[FrameHeader | Stretch]:
    position, limit = BLOCK_BYTES, len(buffer)
    bad_from: int | None = None
    while position < limit:
        header = decode_frame_header(
            buffer, position, salt=salt, sequence=sequence, position=position
        )
        if header is None:
            if bad_from is None:
                bad_from = position
            position += BLOCK_BYTES
            continue
        if bad_from is not None:
            yield Stretch(bad_from, position, False)
            bad_from = None
        if body_is_whole(buffer, position, header):
            yield header
        else:
            bad_from = position
        position = header.end if header.end <= limit else position + BLOCK_BYTES
    if bad_from is not None:
        yield Stretch(bad_from, limit, True)


def scan(buffer: bytes, *, salt: int, sequence: int) -> Scan:
    """Everything whole in the segment's bytes up to where they may count (the caller cuts `buffer` there)."""
    found = SegmentMap()
    damage: list[Stretch] = []
    end, torn = BLOCK_BYTES, False
    began, commit, whole, ends_commit = 0, 0, True, False
    for item in walk(buffer, salt=salt, sequence=sequence):
        if isinstance(item, Stretch):
            if item.tail:
                claimed = int.from_bytes(buffer[item.first + 8 : item.first + 12], "little")
                torn = claimed == salt
            else:
                damage.append(item)
            continue
        if item.commit != commit:
            began, commit = item.position, item.commit
        if (
            item.position == BLOCK_BYTES
            and not item.flags & LAST_OF_COMMIT
            and not holds_batches(buffer, item)
        ):
            commit = 0  # the table that a segment begins with: whole by itself
        else:
            whole = bool(item.flags & LAST_OF_COMMIT)
            ends_commit = ends_commit or whole
        _map_frame(found, buffer, item)
        end = item.end
    return Scan(found, end, damage, torn, 0 if whole else began, ends_commit)


def holds_batches(buffer: bytes, header: FrameHeader) -> bool:
    return any(True for _ in batches(buffer, header.position, header))


def _map_frame(found: SegmentMap, buffer: bytes, header: FrameHeader) -> None:
    for entry in batches(buffer, header.position, header):
        try:
            batch = parse_header(buffer, entry.start)
        except (
            Corrupt
        ):  # whole as written, so written wrong: our own fault, and no reason to lose the rest
            continue
        found.add(
            entry.partition,
            (batch.base_offset, batch.next_offset),
            (entry.start, entry.length),
            (batch.base_timestamp, batch.max_timestamp),
        )
    count = sum(1 for _ in notes(buffer, header.position, header))
    found.frame(header.commit, count, header.wall_ms)


def recover_first(block: bytes, *, sequence: int) -> FrameHeader | None:
    """A damaged segment header costs little while the first frame's header stands: it repeats the salt."""
    return decode_frame_header(block, 0, salt=None, sequence=sequence, position=BLOCK_BYTES)


class Blocks(NamedTuple):
    """Of a file; those that could not be read are zeros, and `unread`. `reason`: the last error."""

    data: bytes
    unread: list[Stretch]
    reason: str = ""


def read_blocks(file: File, limit: int) -> Blocks:
    """The file's first `limit` bytes."""
    try:
        return Blocks(file.read(0, limit), [])
    except Unavailable:
        blocks: list[bytes] = []
    unread: list[Stretch] = []
    reason = ""
    end = min(limit, file.size())
    for position in range(0, end, BLOCK_BYTES):
        size = min(BLOCK_BYTES, end - position)
        try:
            blocks.append(file.read(position, size))
        except Unavailable as error:
            reason = str(error)
            blocks.append(bytes(size))
            first = unread.pop().first if unread and unread[-1].end == position else position
            unread.append(Stretch(first, position + size, True))
    return Blocks(b"".join(blocks), unread, reason)


def unread_behind(result: Scan, found: Blocks) -> list[Stretch]:
    """Behind the last whole frame. Bytes of a torn frame can be read; where they cannot, a whole one may stand, and have
    been acknowledged."""
    return [
        Stretch(max(each.first, result.end), each.end, True)
        for each in found.unread
        if each.end > result.end
    ]


def read_through(file: File, limit: int) -> bytes:
    """The file's first `limit` bytes; blocks that cannot be read come as zeros, and so as damage."""
    return read_blocks(file, limit).data
