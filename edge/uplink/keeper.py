"""The keeper: the partitions' cursors into the cursor store, off the event loop.

Identity (new producer ids, pins, eras) is awaited by whoever needs it; progress is written by `run` at a bounded pace.
All cursors are put into the store at one moment on the loop and encoded there, so a file never mixes two moments; one save
at a time, so that none can overtake the identity that another is making durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import NamedTuple

import structlog

from ...core.errors import HeadwaterError
from ...core.record import TopicPartition
from .cursor import ClusterCursor, CursorStore
from .lane import Lane
from .lanes import PartitionLanes

_log = structlog.get_logger()


class Opening(NamedTuple):
    """A range that is about to be opened, under this producer id, from this cloud offset on."""

    partition: PartitionLanes
    producer_id: int
    floor: int


class Keeper:
    """Of one cluster's cursor."""

    def __init__(
        self,
        store: CursorStore,
        cursor: ClusterCursor,
        partitions: Mapping[TopicPartition, PartitionLanes],
    ) -> None:
        self.cursor = cursor
        self._store = store
        self._partitions = partitions
        self._saving = asyncio.Lock()
        self._saved_sum = -1

    async def save(
        self, beginning: Collection[Lane] = (), opening: Collection[Opening] = ()
    ) -> None:
        """Durable on return. `beginning`: lanes whose next era, `opening`: partitions whose next range is made so.

        Raises Unavailable, Refused.
        """
        async with self._saving:
            for source, partition in self._partitions.items():
                self.cursor.put(source, partition.cursors(beginning))
            for partition, producer_id, floor in opening:
                cursors = partition.ranges.next_cursors(producer_id, floor)
                self.cursor.put(partition.route.source, cursors)
            eras = [(lane, lane.flow.next_cursor()) for lane in beginning]
            opened = [
                (partition, self.cursor.get(partition.route.source)[-1])
                for partition, _, _ in opening
            ]
            data = self._store.encode()
            await asyncio.to_thread(self._store.write, data)
            for lane, cursor in eras:
                lane.flow.saved(cursor)
            for partition, cursor in opened:
                partition.open(cursor)

    async def run(self, interval_s: float) -> None:
        """Until cancelled; a disk that refuses costs nothing but asking the broker again after a restart."""
        failing = False
        while True:
            await asyncio.sleep(interval_s)
            total = sum(lane.flow.acked for lanes in self._partitions.values() for lane in lanes)
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
