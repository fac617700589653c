"""The little that outlives every segment: the log's identity, where partitions start, and where they end.

Written before segments are retired (so that a partition whose last record was retired goes on at its next offset, and
that their numbers are known to be gone for a reason: holes.py), and after a new segment came into use (so that it would be
missed); never on the path of an acknowledgement. Kept twice, each copy replaced whole; the newer
whole one counts. Both gone while segments stand: identity comes from the segments, starts from the oldest of them.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import msgspec

from ...disk import Disk, read_whole, replace_whole
from ...errors import HeadwaterError, Missing, Unavailable
from . import names

_MAGIC = b"HWSTATE1"


class PartitionBounds(msgspec.Struct, frozen=True, array_like=True):
    stream: str
    partition: int
    start: int
    end: int


class Accounted(msgspec.Struct, frozen=True, array_like=True):
    """Damage whose jump is already in `end`: which (segment and byte ranges), and what may be lost by it.

    Kept so that the next recovery neither jumps again nor forgets to say what is lost.
    """

    damage: str
    losses: list[tuple[str, int, int, int]]  # stream, partition, first, last


class State(msgspec.Struct, frozen=True, kw_only=True):
    log_id: str
    generation: int = 0
    next_sequence: int = 1
    next_commit: int = 1
    # Where a partition without history begins: above 0 only after damage may have hidden a partition's first records.
    floor: int = 0
    partitions: list[PartitionBounds] = []
    stream_bytes: dict[str, int] = {}
    accounted: list[Accounted] = []
    # stream, partition, first, end (reservations.py): counts where no newer note of the log does
    reserved: list[tuple[str, int, int, int]] = []
    # sequence numbers for which no file need stand (holes.py); None: written before such a list was kept
    absent: list[tuple[int, int]] | None = None
    # (compaction.py) first and last of runs that may have been replaced since, which the last one's header tells; and the
    # segments that were, with their files' bytes. An older binary knows neither and passes over them.
    compacting: list[tuple[int, int]] = []
    compacted: list[tuple[int, int]] = []


def encode_state(state: State) -> bytes:
    payload = msgspec.msgpack.encode(state)
    return _MAGIC + zlib.crc32(payload).to_bytes(4, "little") + payload


def decode_state(data: bytes) -> State | None:
    payload = data[12:]
    if data[:8] != _MAGIC or zlib.crc32(payload).to_bytes(4, "little") != data[8:12]:
        return None
    try:
        return msgspec.msgpack.decode(payload, type=State)
    except msgspec.MsgspecError:
        return None


# Shorter than a service manager waits for a start.
INSIST_S = 10


class Loaded(NamedTuple):
    """`state`: the newest whole copy. `damaged`: names of copies that are there and not whole; `unread`: why some of them
    could not be read, which is not known to be damage."""

    state: State | None
    damaged: list[str]
    unread: list[str]


def load_state(disk: Disk, directory: str) -> Loaded:
    best: State | None = None
    damaged: list[str] = []
    unread: list[str] = []
    for name in names.STATES:
        try:
            state = decode_state(read_whole(disk, names.join(directory, name)))
        except Missing:
            continue
        except Unavailable as error:
            unread.append(str(error))
            state = None
        except HeadwaterError:
            state = None
        if state is None:
            damaged.append(name)
        elif best is None or state.generation > best.generation:
            best = state
    return Loaded(best, damaged, unread)


def insist_on_state(disk: Disk, directory: str) -> Loaded:
    """For a start: what cannot be read is asked for again for `INSIST_S`, much longer than a segment, since where both
    copies count as lost so does what had been given up and what was accounted for."""
    for _ in range(INSIST_S):
        found = load_state(disk, directory)
        if found.state is not None or not found.unread:
            return found
        disk.pause(1.0)
    return load_state(disk, directory)


def store_state(disk: Disk, directory: str, state: State) -> None:
    """Both copies, durable on return. Raises DiskFull, Unavailable; the older copy then still stands."""
    data = encode_state(state)
    for name in names.STATES:
        replace_whole(disk, names.join(directory, name), data)


def spend(disk: Disk, directory: str, spare: str) -> None:
    """Room of our own for a state that gives back more, on a disk that others have filled. Raises Unavailable."""
    disk.remove(names.join(directory, spare))
    disk.sync_directory(directory)  # some file systems give the room only then
