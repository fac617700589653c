"""A slot is a key that can be taken once. Taking it is the commit, the order and the fence in one PUT.

Rules (each is a data loss that someone had, see FORMAT.md):
  * An answer that is not a clean yes or no is followed by the same bytes to the same key, for ever.
  * A no is followed by reading who holds the slot: our own header there is a yes whose answer was lost.
  * The tail is found by probing, which needs a log without holes: so no slot is ever skipped.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ...backoff import Backoff
from ...errors import AlreadyExists, Unavailable, Unknown
from ...objectstore import ObjectStore, StoredObject
from .keys import wal_key
from .layout import HEADER_BYTES, Header, decode_header
from .settings import ObjectJournalSettings

T = TypeVar("T")


class Attempts:
    """Repeats requests against one store with a time limit each and full-jitter pauses between."""

    def __init__(
        self, store: ObjectStore, settings: ObjectJournalSettings, rng: random.Random
    ) -> None:
        self.store = store
        self._settings = settings
        self._rng = rng

    def backoff(self) -> Backoff:
        settings = self._settings
        return Backoff(self._rng, first_s=settings.retry_first, cap_s=settings.retry_cap)

    async def once(self, request: Awaitable[T], *, what: str) -> T:
        """One attempt; no answer in time is Unknown. Errors of the store pass through."""
        try:
            async with asyncio.timeout(self._settings.attempt_timeout):
                return await request
        except TimeoutError:
            limit = self._settings.attempt_timeout
            raise Unknown(f"{what}: no answer within {limit:g}s") from None

    async def get(self, key: str, *, start: int = 0, size: int | None = None) -> StoredObject:
        """Reads are safe to repeat: goes on until there is an answer. Raises Missing, Refused."""
        backoff = self.backoff()
        while True:
            try:
                return await self.once(self.store.get(key, start=start, size=size), what=key)
            except (Unavailable, Unknown):
                await asyncio.sleep(backoff.next())

    async def exists(self, key: str) -> bool:
        """As `get`. Raises Refused."""
        backoff = self.backoff()
        while True:
            try:
                return await self.once(self.store.head(key), what=key) is not None
            except (Unavailable, Unknown):
                await asyncio.sleep(backoff.next())


async def claim(attempts: Attempts, header: Header, data: bytes) -> Header | None:
    """Puts `data` into the slot its header names. None: it is ours. Else the header of what holds the slot.

    Goes on until it knows. Raises Missing when the slot's holder was collected while we asked, Refused when the
    store refuses us altogether; in both cases an earlier attempt may have succeeded.
    """
    key = wal_key(header.shard, header.seq)
    backoff = attempts.backoff()
    while True:
        try:
            await attempts.once(attempts.store.put_if_absent(key, data), what=key)
        except AlreadyExists:
            holder = await read_header(attempts, header.shard, header.seq)
            return None if holder == header else holder
        except (Unavailable, Unknown):
            await asyncio.sleep(backoff.next())
        else:
            return None


async def read_header(attempts: Attempts, shard: int, seq: int) -> Header:
    """Raises Missing, Corrupt."""
    key = wal_key(shard, seq)
    stored = await attempts.get(key, size=HEADER_BYTES)
    return decode_header(stored.data, key=key)


async def first_absent(exists: Callable[[int], Awaitable[bool]], first: int) -> int:
    """The first absent number from `first` on, in a row without holes: doubling steps, then halving."""
    present, step = first - 1, 1
    while await exists(present + step):
        present, step = present + step, step * 2
    absent = present + step
    while absent - present > 1:
        middle = (present + absent) // 2
        if await exists(middle):
            present = middle
        else:
            absent = middle
    return absent


async def probe_tail(attempts: Attempts, shard: int, first: int) -> int:
    """The first free slot from `first` on. HEAD alone, no LIST."""

    async def taken(seq: int) -> bool:
        return await attempts.exists(wal_key(shard, seq))

    return await first_absent(taken, first)
