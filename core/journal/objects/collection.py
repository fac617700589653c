"""Deleting what no one will read again. Safe from any writer, even one that was fenced and does not know.

    1  a checkpoint is durable
    2  the boundary is advanced to the checkpoint before it, durably            (two checkpoints are always kept)
    3  objects below the boundary that hold no live row are deleted, never a fence
    4  checkpoints below the boundary's are deleted

What a fenced writer believes dead is dead: a trim in a prefix of the log is in the whole log. A crash between 2 and
3 leaves objects behind; the first collection of each writer lists the shard once and finds them.
"""

from __future__ import annotations

from typing import NamedTuple

from ...errors import Unavailable, Unknown
from .boundary import Boundary, advance_boundary
from .index import LogIndex
from .keys import FIRST_SEQ, checkpoint_key, checkpoint_prefix, number_of, wal_key, wal_prefix
from .layout import FENCE_BYTES
from .slots import Attempts

_LIST_LIMIT = 1000


class Kept(NamedTuple):
    """A durable checkpoint of which this writer knows."""

    ordinal: int
    seq: int


class Collector:
    def __init__(self, attempts: Attempts, shard: int, index: LogIndex) -> None:
        self._attempts = attempts
        self._shard = shard
        self._index = index
        self._dead: set[int] = set()
        self._old_checkpoints: set[int] = set()
        self._kept: list[Kept] = []
        self._swept = False
        self.deleted_objects = 0

    def checkpoint_is_durable(self, ordinal: int, seq: int) -> None:
        self._kept.append(Kept(ordinal, seq))

    async def collect(self) -> int:
        """One round; returns how many objects went. Raises Unavailable or Unknown where the store does not answer."""
        self._dead.update(self._index.take_dead())
        if len(self._kept) < 2:
            return 0
        second = self._kept[-2]
        target = Boundary(seq=second.seq + 1, checkpoint=second.ordinal)
        boundary = await advance_boundary(self._attempts, self._shard, target)
        self._old_checkpoints.update(kept.ordinal for kept in self._kept[:-2])
        del self._kept[:-2]
        if not self._swept:
            await self._sweep(min(boundary.seq, target.seq), boundary.checkpoint)
            self._swept = True
        gone = 0
        for seq in sorted(seq for seq in self._dead if seq < boundary.seq):
            if await self._delete(wal_key(self._shard, seq)):
                self._dead.discard(seq)
                gone += 1
        for ordinal in sorted(n for n in self._old_checkpoints if n < boundary.checkpoint):
            if await self._delete(checkpoint_key(self._shard, ordinal)):
                self._old_checkpoints.discard(ordinal)
                gone += 1
        self.deleted_objects += gone
        return gone

    async def _delete(self, key: str) -> bool:
        try:
            await self._attempts.once(self._attempts.store.delete(key), what=key)
        except (Unavailable, Unknown):
            return False  # stays on the list for the next round
        return True

    async def _sweep(self, below: int, first_checkpoint: int) -> None:
        """What earlier writers left: not a fence (known by its size), and not live.

        Only below our own checkpoint too: a fenced writer may find the boundary ahead of all it knows, and an
        object that it never applied is not in its index either.
        """
        store = self._attempts.store
        end = wal_key(self._shard, below)
        after = wal_key(self._shard, FIRST_SEQ - 1)
        while True:
            page = await self._attempts.once(
                store.list(wal_prefix(self._shard), after=after, limit=_LIST_LIMIT),
                what=wal_prefix(self._shard),
            )
            for info in page:
                seq = number_of(info.key)
                if seq is None or info.key >= end or info.size == FENCE_BYTES:
                    continue
                if not self._index.live(seq):
                    self._dead.add(seq)
            if len(page) < _LIST_LIMIT or page[-1].key >= end:
                break
            after = page[-1].key
        page = await self._attempts.once(
            store.list(checkpoint_prefix(self._shard), limit=_LIST_LIMIT),
            what=checkpoint_prefix(self._shard),
        )
        for info in page:
            ordinal = number_of(info.key)
            if ordinal is not None and ordinal < first_checkpoint:
                self._old_checkpoints.add(ordinal)
