"""Producer ids, taken from the controller shard's log in blocks.

A block is in the log before an id of it is given out, so no id is ever given twice, whichever node gives it.
"""

from __future__ import annotations

import asyncio

from .events import ProducerIdsAllocated
from .shards import Shards


class ProducerIds:
    def __init__(self, shards: Shards, *, block: int) -> None:
        self._shards = shards
        self._block = block
        self._next = 0
        self._limit = 0
        self._lock = asyncio.Lock()

    async def draw(self) -> int | None:
        """None where the controller shard is another node's. Raises Closed, Unknown, Unavailable."""
        async with self._lock:
            if self._next >= self._limit:
                shard = self._shards.controller
                if shard is None:
                    return None
                first = shard.state.next_producer_id
                event = ProducerIdsAllocated(next_id=first + self._block)
                await asyncio.shield(shard.propose(event))
                self._next, self._limit = first, first + self._block
            self._next += 1
            return self._next - 1
