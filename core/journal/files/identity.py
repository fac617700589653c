"""Whose log this is, by its segments, where no state is left to tell it."""

from __future__ import annotations

from collections.abc import Sequence

from ...disk import Disk
from ...errors import Corrupt, HeadwaterError, Unavailable
from . import names
from .frames import decode_segment_header
from .settings import BLOCK_BYTES


def identity_of(disk: Disk, directory: str, sequences: Sequence[int]) -> str | None:
    """Raises Unavailable where none tells it and one could not be read: a new identity would give the log up."""
    unread: HeadwaterError | None = None
    for sequence in reversed(sequences):
        path = names.join(directory, names.segment(sequence))
        try:
            file = disk.open(path, read_only=True)
        except Unavailable as error:
            unread = error
            continue
        except HeadwaterError:
            continue
        try:
            return decode_segment_header(file.read(0, BLOCK_BYTES)).log_id.hex()
        except Corrupt:
            continue
        except Unavailable as error:
            unread = error
        finally:
            file.close()
    if unread is not None:
        raise Unavailable(f"nothing tells whose log this is: {unread}") from unread
    return None
