"""One segment in use: its file, what its first block says, and its footer where the file ends with one.

Knows nothing of the other segments, nor of which records are wanted.
"""

from __future__ import annotations

from ...disk import Disk, File, NotAFile
from ...errors import Corrupt, Unavailable
from ..reading import Position
from . import names
from .frames import COMPACTED, SegmentHeader, decode_segment_header
from .index import Footer, SegmentMap, decode_footer, decode_trailer
from .scan import read_blocks, recover_first
from .settings import BLOCK_BYTES

# A place within a compacted segment is told with its salt above the byte, so that it is never taken for one in another life.
_SALT_SHIFT = 32


class Unread(Corrupt):
    """It is there and cannot be read, however often that was tried: as good as damaged, and not known to be."""


class OpenSegment:
    """One segment in use. `end` is where its frames end, once that is known."""

    def __init__(
        self,
        sequence: int,
        file: File,
        salt: int,
        header: SegmentHeader | None,
        *,
        compacted: bool = False,
    ) -> None:
        self.sequence = sequence
        self.file = file
        self.salt = salt
        self.header = header
        self.compacted = compacted
        self.footer: Footer | None = None
        self.map: SegmentMap | None = None
        self.end: int | None = None

    @property
    def path(self) -> str:
        return self.file.path

    @property
    def own_end(self) -> int | None:
        """Where a compacted segment's frames end by its own header; what the next header says is of the old file."""
        return self.header.data_end if self.compacted and self.header is not None else None

    def place(self, byte: int) -> Position:
        """A byte of this file as a place in arrival order."""
        above = self.salt << _SALT_SHIFT if self.compacted else 0
        return Position(self.sequence, above | byte)

    def byte_from(self, position: Position) -> int:
        """From which byte on to read after `position`: from the first where that is of another segment, or of this one
        before it was compacted. So a batch may be met twice, and none is missed."""
        if position.segment != self.sequence:
            return 0
        salt, byte = divmod(position.byte, 1 << _SALT_SHIFT)
        return byte if salt == (self.salt if self.compacted else 0) else 0


def open_segment(
    disk: Disk, directory: str, sequence: int, *, log_id: bytes, read_only: bool
) -> OpenSegment:
    """Raises Corrupt where neither the header nor the first frame tells the salt, Unread where an error keeps them from
    being read; Missing; Refused."""
    path = names.join(directory, names.segment(sequence))
    try:
        file = disk.open(path, read_only=read_only)
    except NotAFile as error:
        raise Corrupt(str(error)) from error
    except Unavailable as error:
        raise Unread(str(error)) from error
    try:
        found = read_blocks(file, 2 * BLOCK_BYTES)
        start = found.data
        header: SegmentHeader | None
        try:
            header = decode_segment_header(start)
        except Corrupt as error:
            first = recover_first(start[BLOCK_BYTES:], sequence=sequence)
            if first is None and found.unread:
                raise Unread(found.reason) from error
            if first is None:
                raise Corrupt(f"{path}: {error}") from error
            compacted = bool(first.flags & COMPACTED)
            return OpenSegment(sequence, file, first.salt, None, compacted=compacted)
        if header.sequence != sequence or header.log_id != log_id:
            raise Corrupt(
                f"{path}: belongs to segment {header.sequence} of log {header.log_id.hex()}"
            )
        return OpenSegment(
            sequence, file, header.salt, header, compacted=header.first_covered is not None
        )
    except NotAFile as error:
        file.close()
        raise Corrupt(str(error)) from error
    except Corrupt:
        file.close()
        raise
    except Unavailable as error:
        file.close()
        raise Unread(str(error)) from error


def load_footer(segment: OpenSegment) -> Footer | None:
    """None where the segment was not sealed, or its footer is damaged."""
    size = segment.file.size()
    start = max(0, size - BLOCK_BYTES)
    try:
        tail = segment.file.read(start, size - start)
        place = decode_trailer(tail, sequence=segment.sequence, salt=segment.salt)
        if place is None:
            return None
        position, length = place
        whole = (
            tail[position - start :][:length]
            if position >= start
            else segment.file.read(position, length)
        )
        return decode_footer(whole, salt=segment.salt)
    except (Corrupt, Unavailable):
        return None
