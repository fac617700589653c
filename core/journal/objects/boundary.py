"""How far collection may have gone: the one object of a shard that is replaced, and it moves forward only.

    seq         every slot below may have been deleted; no slot below counts as won from now on
    checkpoint  checkpoints below may have been deleted; the one named here covers all slots below `seq`

The rule of its use: advanced *before* anything below is deleted, looked at *after* a slot was won. A takeover always
looks; a commit looks when its last look is old (FORMAT.md proves why a commit need not, and why it does).
Being durable and never lost it is also the root from which a takeover finds everything else.
"""

from __future__ import annotations

import asyncio

import msgspec

from ...errors import AlreadyExists, Corrupt, Missing, Unavailable, Unknown
from .keys import FIRST_SEQ, boundary_key
from .slots import Attempts


class Boundary(msgspec.Struct, frozen=True, kw_only=True):
    """JSON, for people."""

    format: int = 1
    seq: int = FIRST_SEQ
    checkpoint: int = 0

    def reaches(self, other: Boundary) -> bool:
        return self.seq >= other.seq and self.checkpoint >= other.checkpoint


async def read_boundary(attempts: Attempts, shard: int) -> Boundary:
    """Where there is none yet: nothing was collected. Raises Corrupt."""
    boundary, _ = await _read(attempts, shard)
    return boundary


async def advance_boundary(attempts: Attempts, shard: int, target: Boundary) -> Boundary:
    """Advances to `target` where that is forward in both numbers; returns the durable boundary, which binds.

    The two numbers belong together: a fenced writer's late checkpoint may have a newer ordinal and an older slot.
    Taking the greater of each would name a checkpoint that does not cover the slots below `seq`. Such a target is
    not taken; the caller's next checkpoint has both.
    """
    key = boundary_key(shard)
    store = attempts.store
    backoff = attempts.backoff()
    while True:
        current, etag = await _read(attempts, shard)
        if current.reaches(target) or not target.reaches(current):
            return current
        data = msgspec.json.encode(target)
        try:
            if etag is None:
                await attempts.once(store.put_if_absent(key, data), what=key)
            else:
                await attempts.once(store.replace(key, data, etag=etag), what=key)
        except (AlreadyExists, Missing, Unavailable, Unknown):
            await asyncio.sleep(backoff.next())  # whatever happened, the next read shows it
        else:
            return target


async def _read(attempts: Attempts, shard: int) -> tuple[Boundary, str | None]:
    key = boundary_key(shard)
    try:
        stored = await attempts.get(key)
    except Missing:
        return Boundary(), None
    try:
        return msgspec.json.decode(stored.data, type=Boundary), stored.etag
    except msgspec.MsgspecError as error:
        raise Corrupt(f"{key}: {error}") from error
