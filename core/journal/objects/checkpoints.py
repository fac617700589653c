"""A checkpoint is the log up to one slot, folded: state, index, and the last header's digest so that the chain goes on.

It is a function of a durable prefix, so it is true whoever wrote it and however late it landed: a fenced writer's
checkpoint does no harm. Ordinals are dense from the boundary's on, so the newest is found by probing. Two writers may
leave ordinals whose slots are out of order; the newest that reaches the boundary is as good as any.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import msgspec
from crc32c import crc32c

from ...errors import AlreadyExists, Corrupt, Missing
from .boundary import Boundary
from .keys import FIRST_SEQ, checkpoint_key
from .layout import NO_PREVIOUS
from .slots import Attempts, first_absent

_PREFIX = struct.Struct("<4sHHI")  # magic, format, reserved, CRC32C of the rest
_MAGIC = b"HWCK"
_FORMAT_VERSION = 1


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Covers slots 1 to `seq`. `digest` and `epoch` are those of the object in slot `seq`."""

    shard: int
    seq: int
    epoch: int
    digest: bytes
    index: bytes
    state: bytes


class Found(NamedTuple):
    """`ordinal` is the checkpoint read; `next` the first free ordinal as far as we looked."""

    checkpoint: Checkpoint | None
    ordinal: int
    next: int

    @property
    def seq(self) -> int:
        return self.checkpoint.seq if self.checkpoint else FIRST_SEQ - 1

    @property
    def digest(self) -> bytes:
        return self.checkpoint.digest if self.checkpoint else NO_PREVIOUS

    @property
    def epoch(self) -> int:
        return self.checkpoint.epoch if self.checkpoint else 0


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    body = msgspec.msgpack.encode(checkpoint)
    return _PREFIX.pack(_MAGIC, _FORMAT_VERSION, 0, crc32c(body)) + body


def decode_checkpoint(data: bytes, *, key: str) -> Checkpoint:
    """Raises Corrupt."""
    if len(data) < _PREFIX.size:
        raise Corrupt(f"{key}: {len(data)} bytes are no checkpoint")
    magic, version, _, crc = _PREFIX.unpack_from(data)
    body = memoryview(data)[_PREFIX.size :]
    if magic != _MAGIC or version != _FORMAT_VERSION or crc32c(body) != crc:
        raise Corrupt(f"{key}: not a checkpoint of format {_FORMAT_VERSION}, or its CRC is wrong")
    try:
        return msgspec.msgpack.decode(body, type=Checkpoint)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"{key}: {error}") from error


async def newest_checkpoint(attempts: Attempts, shard: int, boundary: Boundary) -> Found:
    """The newest that reaches the boundary and reads back whole; none only where nothing was ever collected.

    Raises Missing when the boundary moved on meanwhile: read it again. Raises Corrupt when none is whole.
    """
    first = boundary.checkpoint

    async def exists(ordinal: int) -> bool:
        return await attempts.exists(checkpoint_key(shard, ordinal))

    free = await first_absent(exists, first)
    damage: Corrupt | None = None
    for ordinal in range(free - 1, first - 1, -1):
        key = checkpoint_key(shard, ordinal)
        stored = await attempts.get(key)
        try:
            checkpoint = decode_checkpoint(stored.data, key=key)
        except Corrupt as error:
            damage = error
            continue
        if checkpoint.seq >= boundary.seq - 1:
            return Found(checkpoint, ordinal, free)
    if damage is not None and boundary.seq > FIRST_SEQ:
        raise damage
    if boundary.seq > FIRST_SEQ:
        raise Missing(f"{checkpoint_key(shard, first)}: no checkpoint reaches slot {boundary.seq}")
    return Found(None, first - 1, free)


async def write_checkpoint(attempts: Attempts, checkpoint: Checkpoint, ordinal: int) -> int:
    """Takes the first free ordinal from `ordinal` on; returns it. Raises Unavailable or Unknown: try again later.

    A lost answer costs a second copy under the next ordinal, which is harmless.
    """
    data = encode_checkpoint(checkpoint)
    while True:
        key = checkpoint_key(checkpoint.shard, ordinal)
        try:
            await attempts.once(attempts.store.put_if_absent(key, data), what=key)
        except AlreadyExists:
            ordinal += 1
        else:
            return ordinal
