"""Fetch requests that wait for records: woken by the commit of the partition they wait for, never by polling."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from ...core.record import TopicPartition


class Watch:
    """One waiting request. `woken` holds the partitions that grew since it was last cleared."""

    def __init__(self) -> None:
        self.woken: set[TopicPartition] = set()
        self._signal = asyncio.Event()

    def wake(self, tp: TopicPartition) -> None:
        self.woken.add(tp)
        self._signal.set()

    async def wait(self, seconds: float) -> bool:
        """False when time ran out."""
        try:
            async with asyncio.timeout(seconds):
                await self._signal.wait()
        except TimeoutError:
            return False
        self._signal.clear()
        return True


class Watchers:
    def __init__(self) -> None:
        self._watches: dict[TopicPartition, set[Watch]] = {}

    def add(self, watch: Watch, partitions: Iterable[TopicPartition]) -> None:
        for tp in partitions:
            self._watches.setdefault(tp, set()).add(watch)

    def remove(self, watch: Watch, partitions: Iterable[TopicPartition]) -> None:
        for tp in partitions:
            watches = self._watches.get(tp)
            if watches is not None:
                watches.discard(watch)
                if not watches:
                    del self._watches[tp]

    def wake(self, partitions: Iterable[TopicPartition]) -> None:
        for tp in partitions:
            for watch in self._watches.get(tp, ()):
                watch.wake(tp)

    def wake_all(self) -> None:
        self.wake(list(self._watches))
