"""The keeper: the lanes' cursors into the cursor store, off the event loop.

Identity (new producer ids, pins, eras) is awaited by whoever needs it; progress is written by `run` at a bounded pace.
All cursors are put into the store at one moment on the loop and encoded there, so a file never mixes two moments.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import structlog

from ...core.errors import HeadwaterError
from ...core.record import TopicPartition
from .cursor import ClusterCursor, CursorStore
from .lane import Lane

_log = structlog.get_logger()


class Keeper:
    """Of one cluster's cursor."""

    def __init__(
        self, store: CursorStore, cursor: ClusterCursor, lanes: Mapping[TopicPartition, Lane]
    ) -> None:
        self.cursor = cursor
        self._store = store
        self._lanes = lanes
        self._saved_sum = -1

    async def save(self, beginning: Collection[Lane] = ()) -> None:
        """Durable on return; `beginning` are lanes whose next era is to be made durable. Raises Unavailable, Refused."""
        for source, lane in self._lanes.items():
            self.cursor.put(source, lane.flow.cursor)
        eras = [(lane, lane.flow.next_cursor()) for lane in beginning]
        for lane, cursor in eras:
            self.cursor.put(lane.route.source, cursor)
        data = self._store.encode()
        await asyncio.to_thread(self._store.write, data)
        for lane, cursor in eras:
            lane.flow.saved(cursor)

    async def run(self, interval_s: float) -> None:
        """Until cancelled; a disk that refuses costs nothing but asking the broker again after a restart."""
        failing = False
        while True:
            await asyncio.sleep(interval_s)
            total = sum(lane.flow.acked for lane in self._lanes.values())
            if total == self._saved_sum:
                continue
            try:
                await self.save()
            except HeadwaterError as error:
                if not failing:
                    _log.warning("uplink cursor cannot be written", reason=str(error))
                failing = True
            else:
                self._saved_sum, failing = total, False
