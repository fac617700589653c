"""A lane: the flow and the cutter of one range of an edge partition, with what the rim keeps beside them.

A partition has one lane, or after an outage several: live data and history side by side (lanes.py), under the same budget.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ...core.record import TopicPartition
from .cutting import Cutter
from .partition import PartitionFlow
from .stages import Stage
from .twins import Ahead

if TYPE_CHECKING:
    from .lanes import PartitionLanes


class Route(NamedTuple):
    """From an edge partition to a cloud partition."""

    source: TopicPartition
    target: TopicPartition


class Budget:
    """Bytes that all lanes hold together."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.used = 0

    def room(self, size: int) -> bool:
        return self.used + size <= self.bytes_max


class Lane:
    """`changed` tells the engine to look at the lane again."""

    def __init__(
        self,
        route: Route,
        flow: PartitionFlow,
        cutter: Cutter,
        *,
        owner: PartitionLanes,
        weight: int,
        priority: int = 4,
        budget: Budget,
        changed: Callable[[Lane], None],
    ) -> None:
        self.route = route
        self.flow = flow
        self.cutter = cutter
        self.owner = owner
        self.is_live = True
        self.is_active = True
        self.weight = weight
        self.priority = priority
        self.busy = False  # a need is being met
        self.reading = False  # a journal read is under way
        self.fed_bytes = 0
        self.fed_records = 0
        self.wire_bytes = 0
        self.ahead = Ahead(flow.late_copies_s)
        self._budget = budget
        self._changed = changed
        self._held = 0
        self._timer: asyncio.TimerHandle | None = None

    def account(self) -> None:
        """Bring the budget up to date."""
        held = self.cutter.buffered_bytes + self.flow.unacked_bytes
        self._budget.used += held - self._held
        self._held = held

    def changed(self) -> None:
        self.account()
        self._changed(self)

    def sendable(self, now: float) -> bool:
        return self.is_active and self.flow.sendable(now)

    def hungry(self, batch_bytes: int) -> bool:
        """Sending, behind, and with less than a batch at hand."""
        return (
            self.is_active
            and self.flow.stage is Stage.OPEN
            and not self.reading
            and self.cutter.wanted < self.flow.log_end
            and self.cutter.buffered_bytes < batch_bytes
        )

    def wake_at(self, when: float, now: float, loop: asyncio.AbstractEventLoop) -> None:
        """Look again at `when`; one timer per lane, the last one asked for."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(max(0.001, when - now), self.changed)

    def resume(self, changed: Callable[[Lane], None]) -> None:
        """A new session takes over."""
        self.busy = self.reading = False
        self._changed = changed
        self.changed()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._budget.used -= self._held
        self._held = 0

    def put_aside(self) -> None:
        """It has to wait for long: what is at hand and was never sent makes room for others, to be read again later."""
        if self.reading or self.flow.unacked_bytes:
            return
        if self.cutter.first is not None:
            self.cutter.restart(self.cutter.first)
            self.account()

    @property
    def wire_bytes_per_byte(self) -> float:
        """What a journal byte weighs on the wire, compressed with its address; a guess on the safe side at first."""
        sent = self.fed_bytes - self.cutter.buffered_bytes
        return max(0.02, self.wire_bytes / sent) if sent > 0 and self.wire_bytes else 1.0

    @property
    def bytes_per_record(self) -> float:
        return self.fed_bytes / self.fed_records if self.fed_records else 100.0
