"""The feeder: from the journal to the cutters, under one byte budget, fair by weight.

Where few partitions are hungry each is read by itself, as many reads in a turn as its weight. Where many are (after an
outage), the journal is read once in arrival order: sequential on the card, and a commit that holds a hundred partitions is
read once instead of a hundred times. What such a read brings for a lane that has no room is dropped and read again later
by partition; nothing waits in memory but what a cutter holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Protocol

import structlog

from ...core.clock import Clock
from ...core.errors import Corrupt, Missing, OffsetOutOfRange, Unavailable
from ...core.journal.reading import JournalReader, Position
from ...core.record import TopicPartition
from .lane import Budget, Lane
from .settings import UplinkSettings

if TYPE_CHECKING:
    from .lanes import PartitionLanes

_log = structlog.get_logger()
# After a journal read failed: the disk is in trouble, and the journal itself reports it.
_PAUSE_S = 1.0


class UplinkJournal(JournalReader, Protocol):
    """What the uplink needs of the edge's journal."""

    @property
    def log_id(self) -> str: ...

    def position_of(self, partition: TopicPartition, offset: int) -> Position:
        """The place in arrival order of the batch that holds `offset`."""


class Feeder:
    def __init__(
        self, journal: UplinkJournal, settings: UplinkSettings, budget: Budget, *, clock: Clock
    ) -> None:
        self._journal = journal
        self._settings = settings
        self._budget = budget
        self._clock = clock
        self._scan: Position | None = None

    async def feed(
        self, hungry: Collection[Lane], partitions: Mapping[TopicPartition, PartitionLanes]
    ) -> bool:
        """One round of reading; False where nothing was read (no room, nothing there)."""
        if not self._budget.room(self._settings.read_bytes):
            return False
        if len(hungry) < self._settings.scan_partitions_min:
            self._scan = None
            return await self._feed_each(hungry)
        return await self._feed_arrivals(hungry, partitions) or await self._feed_each(hungry)

    async def _feed_each(self, hungry: Collection[Lane]) -> bool:
        read = False
        for lane in hungry:
            for _ in range(lane.weight):
                if not self._budget.room(self._settings.read_bytes):
                    return read
                if not lane.hungry(self._settings.batch_bytes_max):
                    break
                if not await self._feed_one(lane):
                    break
                read = True
        return read

    async def _feed_one(self, lane: Lane) -> bool:
        source, wanted = lane.route.source, lane.cutter.wanted
        lane.reading = True
        try:
            batches = await self._journal.read(source, wanted, bytes_max=self._settings.read_bytes)
        except OffsetOutOfRange:
            start = self._journal.bounds(source).start
            if lane.cutter.wanted == wanted:
                lane.cutter.skip_to(start)
                lane.changed()
            return start > wanted
        except Missing:
            return False
        except (Corrupt, Unavailable) as error:
            _log.warning("uplink cannot read the journal", partition=str(source), reason=str(error))
            await asyncio.sleep(_PAUSE_S)
            return False
        finally:
            lane.reading = False
        if lane.cutter.wanted != wanted:
            return True  # restarted elsewhere while we read
        if not batches:
            # durable records stand beyond, but none from here on can be read: all of it is a declared gap
            lane.cutter.skip_to(self._journal.bounds(source).end)
            lane.changed()
            return False
        self._take(lane, batches)
        return True

    async def _feed_arrivals(
        self, hungry: Collection[Lane], partitions: Mapping[TopicPartition, PartitionLanes]
    ) -> bool:
        """One sequential read for all; False where it fed nobody."""
        if self._scan is None:
            self._scan = self._earliest(hungry)
        try:
            arrivals, place = await self._journal.read_arrivals(
                self._scan, bytes_max=self._settings.read_bytes
            )
        except (Corrupt, Unavailable, OffsetOutOfRange):
            self._scan = None
            return False
        fed = False
        for partition, batch in arrivals:
            for lane in partitions.get(partition, ()):
                if lane.hungry(self._settings.batch_bytes_max):
                    fed = self._take(lane, [batch], in_sequence=True) or fed
        self._scan = place if fed else None
        return fed

    def _earliest(self, hungry: Collection[Lane]) -> Position:
        places = []
        for lane in hungry:
            try:
                bounds = self._journal.bounds(lane.route.source)
                offset = max(bounds.start, lane.cutter.wanted)
                places.append(self._journal.position_of(lane.route.source, offset))
            except (Missing, OffsetOutOfRange, Unavailable):
                continue
        return min(places, default=Position(0, 0))

    def _take(self, lane: Lane, batches: list[bytes], *, in_sequence: bool = False) -> bool:
        before = lane.cutter.wanted
        if in_sequence and not lane.cutter.follows(batches[0]):
            return False
        taken = lane.cutter.feed(batches, self._clock.monotonic())
        lane.fed_bytes += taken
        lane.fed_records += lane.cutter.wanted - before
        lane.changed()
        return taken > 0
