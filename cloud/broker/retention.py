"""What a node throws away, and when: records beyond their topic's retention, producers and groups long silent.

Age counts from when the log took a record, not from the record's own timestamp: a device without a clock stamps 1970,
and must not lose its data for it. Every decision becomes a trim or an event in the log first; the journal then deletes
objects that hold nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from ...core.errors import Closed, Missing, Unavailable, Unknown
from ...core.journal.objects import Trim
from ...core.record import TopicPartition
from .events import AnyEvent, GroupDeleted, PartitionRetired, ProducersForgotten
from .node import Node
from .shard import Shard
from .topics import RETENTION_BYTES, RETENTION_MS

_log = structlog.get_logger()


class Housekeeper:
    def __init__(self, node: Node, *, sweep: Callable[[], None]) -> None:
        """`sweep` closes idle connections."""
        self._node = node
        self._sweep = sweep
        self._producers_at = node.clock.monotonic()

    async def run(self) -> None:
        """Until cancelled. Raises nothing: what did not work is tried at the next turn."""
        while True:
            await asyncio.sleep(self._node.settings.housekeeping_interval)
            self._sweep()
            for shard in self._node.shards.owned():
                try:
                    await self.tidy(shard)
                except (Unavailable, Unknown, Closed) as error:
                    _log.warning("retention waits", shard=shard.number, error=str(error))

    async def tidy(self, shard: Shard) -> None:
        """One turn over one shard. Raises Unavailable, Unknown, Closed."""
        trims, events = self._expired_records(shard)
        events += self._expired_producers(shard)
        events += self._expired_groups(shard)
        if trims or events:
            await shard.propose(*events, trims=trims)
            for trim in trims:
                _log.info("records retired", partition=str(trim.partition), start=trim.start)
            await shard.writer.collect()

    def _expired_records(self, shard: Shard) -> tuple[list[Trim], list[AnyEvent]]:
        trims: list[Trim] = []
        events: list[AnyEvent] = []
        for tp in shard.state.partitions():
            if self._node.shards.has(tp):
                start = self._start_of(shard, tp)
            else:  # its topic is gone, and so is whoever should have trimmed it
                start = shard.bounds(tp).end
                if shard.producers(tp):
                    events.append(PartitionRetired(topic=tp.topic, partition=tp.partition))
            if start > shard.bounds(tp).start:
                trims.append(Trim(tp, start))
        return trims, events

    def _start_of(self, shard: Shard, tp: TopicPartition) -> int:
        topic = self._node.shards.topics[tp.topic]
        defaults = self._node.defaults
        start = shard.bounds(tp).start
        keep_ms = topic.integer(RETENTION_MS, defaults)
        if keep_ms >= 0:
            start = max(start, shard.state.offset_by_age(tp, self._node.clock.wall_ms() - keep_ms))
        keep_bytes = topic.integer(RETENTION_BYTES, defaults)
        if keep_bytes >= 0:
            try:
                held = shard.journal.start_for_retention(tp, bytes_max=keep_bytes)
            except Missing:
                return start
            start = max(start, held)
        return start

    def _expired_producers(self, shard: Shard) -> list[AnyEvent]:
        """Looked at a hundred times in the time they are allowed: the walk is over every producer there is."""
        idle_max = self._node.settings.producer_idle_max
        now = self._node.clock.monotonic()
        if now - self._producers_at < idle_max / 100:
            return []
        self._producers_at = now
        idle = shard.idle_producers(idle_max)
        return [ProducersForgotten(producers=idle)] if idle else []

    def _expired_groups(self, shard: Shard) -> list[AnyEvent]:
        coordinator = self._node.groups.coordinator
        before = self._node.clock.wall_ms() - coordinator.settings.offsets_retention * 1000
        return [
            GroupDeleted(group=group_id)
            for group_id, group in shard.state.groups.items()
            if group.at_ms < before and not coordinator.has_members(group_id)
        ]
