"""Bytes of log objects for readers: what was committed lately, and what was fetched.

Objects never change, so nothing is ever invalidated; a bound on bytes and least-recently-used eviction are all.
Concurrent readers of the same range share one GET, which belongs to the cache: a reader that is cancelled does not
cancel it for the others. Fetched batches are checked against their own CRC32C once, on the way in.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import NamedTuple

from crc32c import crc32c

from ...errors import Corrupt
from .keys import wal_key
from .layout import decode_runs, split_run
from .settings import ObjectJournalSettings
from .slots import Attempts

_CRC_AT = 17  # in a record batch v2: the CRC32C, which covers all that follows it


class _Range(NamedTuple):
    """`size` 0 means the whole object."""

    seq: int
    position: int
    size: int


class SegmentCache:
    def __init__(self, attempts: Attempts, shard: int, settings: ObjectJournalSettings) -> None:
        self._attempts = attempts
        self._shard = shard
        self._settings = settings
        self._held: OrderedDict[_Range, bytes] = OrderedDict()
        self._bytes = 0
        self._fetching: dict[_Range, asyncio.Task[bytes]] = {}
        self._gets = asyncio.Semaphore(settings.read_parallel)
        self.hits = 0
        self.fetches = 0

    @property
    def bytes_held(self) -> int:
        return self._bytes

    def keep_object(self, seq: int, data: bytes) -> None:
        """What was just committed, or replayed."""
        self._keep(_Range(seq, 0, 0), data)

    async def run(self, seq: int, position: int, size: int, *, object_size: int) -> memoryview:
        """The bytes of one run. Raises Missing, Corrupt, Refused; waits out a store that does not answer."""
        whole = _Range(seq, 0, 0)
        part = _Range(seq, position, size)
        for key in (whole, part):
            held = self._held.get(key)
            if held is not None:
                self.hits += 1
                self._held.move_to_end(key)
                return _slice(held, key, part)
        wanted = whole if object_size <= self._settings.read_whole_bytes else part
        return _slice(await self._shared(wanted), wanted, part)

    async def object(self, seq: int) -> bytes:
        """The whole object. Raises as `run`."""
        whole = _Range(seq, 0, 0)
        held = self._held.get(whole)
        if held is not None:
            self.hits += 1
            self._held.move_to_end(whole)
            return held
        return await self._shared(whole)

    async def _shared(self, wanted: _Range) -> bytes:
        task = self._fetching.get(wanted)
        if task is None:
            self.fetches += 1
            task = asyncio.get_running_loop().create_task(self._fetch(wanted))
            self._fetching[wanted] = task
            task.add_done_callback(lambda done: self._fetched(wanted, done))
        return await asyncio.shield(task)

    async def close(self) -> None:
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._held.clear()
        self._bytes = 0

    async def _fetch(self, wanted: _Range) -> bytes:
        async with self._gets:
            return await self._get(wanted)

    async def _get(self, wanted: _Range) -> bytes:
        key = wal_key(self._shard, wanted.seq)
        if wanted.size == 0:
            whole = await self._attempts.get(key)
            decode_runs(whole.data, key=key)  # for its checks
            return whole.data
        part = await self._attempts.get(key, start=wanted.position, size=wanted.size)
        check_run(part.data, expected=wanted.size, key=key)
        return part.data

    def _fetched(self, wanted: _Range, task: asyncio.Task[bytes]) -> None:
        self._fetching.pop(wanted, None)
        if not task.cancelled() and task.exception() is None:
            self._keep(wanted, task.result())

    def _keep(self, key: _Range, data: bytes) -> None:
        limit = self._settings.cache_bytes
        if len(data) > limit or key in self._held:
            return
        self._held[key] = data
        self._bytes += len(data)
        while self._bytes > limit:
            _, evicted = self._held.popitem(last=False)
            self._bytes -= len(evicted)


def check_run(data: bytes, *, expected: int, key: str) -> None:
    """Raises Corrupt unless these are whole batches with right CRCs."""
    if len(data) != expected:
        raise Corrupt(f"{key}: a range of {expected} bytes came back as {len(data)}")
    for span, batch in split_run(data):
        if crc32c(batch[_CRC_AT + 4 :]) != int.from_bytes(batch[_CRC_AT : _CRC_AT + 4]):
            raise Corrupt(f"{key}: the record batch at offset {span.base} does not match its CRC")


def _slice(data: bytes, held: _Range, wanted: _Range) -> memoryview:
    start = wanted.position - held.position
    return memoryview(data)[start : start + wanted.size]
