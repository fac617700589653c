"""Takeover: from nothing but the bucket to a shard's state and the right to write its next slot.

    1  read the boundary, find the newest checkpoint it allows
    2  probe for the first free slot after it (HEAD alone, no LIST)
    3  put a fence there, with the next epoch and the digest of the header before it
       taken by a commit of the previous owner: go on with the slot after it
       taken by another fence: somebody else is opening too; leave the shard to them
    4  read the boundary again: past our fence, the slot had been used and collected; give up, nothing was written
       and look at the slot after it: taken, a successor is there, or somebody lost an object of the log
    5  restore the checkpoint, replay the slots up to the fence, checking the chain of digests
       an object is missing: an older owner is still collecting; start over from its newer checkpoint
    6  the writer may commit to the slot after the fence

From step 3 on no earlier writer can have anything acknowledged: each has at most one slot it is trying for, and that
slot is the fence of whoever came next (FORMAT.md, proof 1).
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from ...clock import Clock
from ...errors import Closed, Corrupt, Missing, Unavailable
from .boundary import read_boundary
from .checkpoints import Found, newest_checkpoint
from .entries import StateMachine
from .index import LogIndex
from .keys import checkpoint_key, wal_key
from .layout import Header, LogObject, decode_object, encode_fence
from .settings import ObjectJournalSettings
from .slots import Attempts, claim, probe_tail, read_header

_ROUNDS_MAX = 8  # each round lost means that another writer made progress


class Opened(NamedTuple):
    """Everything a writer starts from. `fence` is the last durable slot."""

    fence: Header
    log_index: LogIndex
    found: Found
    recent: list[tuple[int, bytes]]
    boundary_read: float


class _Moved(Exception):
    """Collection has passed what we were reading; read the boundary again."""


async def take_over(
    attempts: Attempts,
    shard: int,
    *,
    writer: bytes,
    state: StateMachine,
    clock: Clock,
    settings: ObjectJournalSettings,
) -> Opened:
    """Raises Closed when another writer is taking the shard, Unavailable when it kept moving, Corrupt."""
    opening = _Opening(attempts, shard, writer, clock, settings)
    for _ in range(_ROUNDS_MAX):
        try:
            found = await opening.newest()
            fence = await opening.fence(found)
            return await opening.replay(fence, state)
        except _Moved:
            continue
    raise Unavailable(f"shard {shard}: collection kept moving past us while opening")


class _Opening:
    def __init__(
        self,
        attempts: Attempts,
        shard: int,
        writer: bytes,
        clock: Clock,
        settings: ObjectJournalSettings,
    ) -> None:
        self._attempts = attempts
        self._shard = shard
        self._writer = writer
        self._clock = clock
        self._settings = settings
        self._fence: Header | None = None

    async def newest(self) -> Found:
        boundary = await read_boundary(self._attempts, self._shard)
        try:
            return await newest_checkpoint(self._attempts, self._shard, boundary)
        except Missing as error:
            if await read_boundary(self._attempts, self._shard) == boundary:
                raise Corrupt(str(error)) from error  # nothing moves: it is really gone
            raise _Moved from None

    async def fence(self, found: Found) -> Header:
        """Our fence, won and checked against the boundary; the one already won if this is another round."""
        if self._fence is None:
            slot = await probe_tail(self._attempts, self._shard, found.seq + 1)
            self._fence = await self._claim_from(slot, found)
        # the look after the win, issued after it: the slot was never used before, or the boundary shows it
        if (await read_boundary(self._attempts, self._shard)).seq > self._fence.seq:
            raise Closed(
                f"{wal_key(self._shard, self._fence.seq)}: this slot had been used and collected; open again"
            )
        await self._check_end(self._fence)
        return self._fence

    async def _check_end(self, fence: Header) -> None:
        """Nothing may stand after our fence: if something does, a successor is there or an object was lost."""
        key = wal_key(self._shard, fence.seq + 1)
        if not await self._attempts.exists(key):
            return
        after = await read_header(self._attempts, self._shard, fence.seq + 1)
        if after.previous == fence.digest():
            raise Closed(f"{key}: another writer (epoch {after.epoch}) took the shard")
        raise Corrupt(
            f"{wal_key(self._shard, fence.seq)}: was missing while the log goes on after it"
        )

    async def _claim_from(self, slot: int, found: Found) -> Header:
        epoch, digest = found.epoch, found.digest
        if slot > found.seq + 1:
            try:
                before = await read_header(self._attempts, self._shard, slot - 1)
            except Missing:
                raise _Moved from None
            epoch, digest = before.epoch, before.digest()
        while True:
            fence = Header(
                shard=self._shard, seq=slot, epoch=epoch + 1, writer=self._writer,
                previous=digest, written_ms=self._clock.wall_ms(),
            )  # fmt: skip
            try:
                holder = await claim(self._attempts, fence, encode_fence(fence))
            except Missing:
                raise _Moved from None
            if holder is None:
                return fence
            if holder.is_fence:
                raise Closed(
                    f"{wal_key(self._shard, slot)}: another writer (epoch {holder.epoch}) took the shard"
                )
            slot, epoch, digest = slot + 1, holder.epoch, holder.digest()

    async def replay(self, fence: Header, state: StateMachine) -> Opened:
        looked = self._clock.monotonic()
        found = await self.newest()
        if found.seq >= fence.seq:
            key = checkpoint_key(self._shard, found.ordinal)
            raise Closed(f"{key}: another writer is already past our fence at slot {fence.seq}")
        index = LogIndex()
        if found.checkpoint is not None:
            key = checkpoint_key(self._shard, found.ordinal)
            index = LogIndex.decode(found.checkpoint.index, key=key)
            state.restore(found.checkpoint.state)
        recent: list[tuple[int, bytes]] = []
        digest = found.digest
        window = self._settings.replay_parallel
        for first in range(found.seq + 1, fence.seq + 1, window):
            slots = range(first, min(first + window, fence.seq + 1))
            for data, log_object in await self._fetch(slots):
                header = log_object.header
                if header.previous != digest:
                    raise Corrupt(
                        f"{wal_key(self._shard, header.seq)}: does not follow the object before it"
                    )
                digest = header.digest()
                index.apply(log_object)
                if log_object.entries:
                    state.apply(header.seq, log_object.entries)
                    recent.append((header.seq, data))
            del recent[:-window]
        return Opened(fence, index, found, recent, looked)

    async def _fetch(self, slots: range) -> list[tuple[bytes, LogObject]]:
        tasks = [asyncio.ensure_future(self._read(seq)) for seq in slots]
        try:
            return [await task for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, seq: int) -> tuple[bytes, LogObject]:
        key = wal_key(self._shard, seq)
        try:
            stored = await self._attempts.get(key)
        except Missing:
            boundary = await read_boundary(self._attempts, self._shard)
            if boundary.seq > seq:
                raise _Moved from None
            raise Corrupt(f"{key}: missing, though the boundary is at {boundary.seq}") from None
        log_object = decode_object(stored.data, key=key)
        if (log_object.header.shard, log_object.header.seq) != (self._shard, seq):
            raise Corrupt(f"{key}: the object says it is slot {log_object.header.seq}")
        return stored.data, log_object
