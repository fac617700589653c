"""The lanes of one edge partition: its ranges (ranges.py), each with a cutter and what the rim keeps beside them.

The last lane is live; the first of several is the backlog whose turn it is; those between wait and hold nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from .cursor import PartitionCursor
from .cutting import Cutter
from .lane import Budget, Lane, Route
from .partition import PartitionFlow
from .parts import Parts
from .ranges import PartitionRanges


class PartitionLanes:
    """`changed` tells the engine to look at a lane again."""

    def __init__(
        self,
        route: Route,
        cursors: Sequence[PartitionCursor],
        parts: Parts,
        *,
        fresh: bool,
        budget: Budget,
        changed: Callable[[Lane], None],
    ) -> None:
        self.route = route
        self._parts = parts
        self._budget = budget
        self._changed = changed
        self._lanes: dict[PartitionFlow, Lane] = {}
        self._end = -1
        self._behind_since: float | None = float("-inf")  # what is behind at first is an outage's
        self.ranges = PartitionRanges(
            cursors, self._make, fresh=fresh, most=parts.settings.ranges_max
        )
        self._arrange()

    def _make(self, cursor: PartitionCursor, fresh: bool) -> PartitionFlow:
        parts, stream = self._parts, self.route.source.topic
        cutter = Cutter(
            self.route.source,
            parts.origin,
            parts.limits,
            patience=parts.patience(parts.priority(stream)),
            departures=parts.departures,
        )
        flow = PartitionFlow(
            cursor,
            cutter,
            backoff=parts.backoff(),
            fresh=fresh,
            window=parts.settings.in_flight,
            records_max=parts.settings.batch_records_max,
            late_copies_s=float(parts.settings.late_copies),
        )
        self._lanes[flow] = Lane(
            self.route,
            flow,
            cutter,
            owner=self,
            weight=parts.weight(stream),
            priority=parts.priority(stream),
            budget=self._budget,
            changed=self._changed,
        )
        return flow

    def __iter__(self) -> Iterator[Lane]:
        """In the order of their offsets."""
        return iter([self._lanes[flow] for flow in self.ranges.flows])

    @property
    def live(self) -> Lane:
        return self._lanes[self.ranges.live]

    def _arrange(self) -> None:
        flows = self.ranges.flows
        for flow in flows:
            lane = self._lanes[flow]
            lane.is_live = flow is flows[-1]
            lane.is_active = self.ranges.active(flow)
        self.observe(self._end)

    def observe(self, journal_end: int) -> bool:
        """True where that is news."""
        is_news, self._end = journal_end != self._end, journal_end
        if journal_end >= 0:
            self.ranges.observe(journal_end)
        return is_news

    def examine(self, lane: Lane) -> bool:
        """After anything happened to `lane`: take in what it found, let go of what is finished. False where it is gone."""
        if lane.flow not in self._lanes:
            return False
        if lane.flow.strangers:
            self.ranges.adopt(lane.flow)
        elif lane.flow.finished:
            for flow in self.ranges.merge():
                self._lanes.pop(flow).stop()
        else:
            return True
        self._arrange()
        for other in self:
            other.changed()
        return lane.flow in self._lanes

    def lags(self, now: float) -> bool:
        """The live lane is so far behind, and for so long, that a new one should be opened, and may be.

        Where it may not yet (the limit of ranges, or it has sent nothing so far) it is not forgotten since when it is
        behind: an outage's backlog makes room for live data in the moment in which that becomes possible.
        """
        settings = self._parts.settings
        if not self.ranges.lags(settings.split_records):
            self._behind_since = None
            return False
        if self._behind_since is None:
            self._behind_since = now
        if not self.ranges.may_open:
            return False
        is_held = self.ranges.live.is_held
        return is_held or now - self._behind_since >= settings.split_after

    def open(self, cursor: PartitionCursor) -> None:
        """It is durable."""
        self.ranges.open(cursor)
        self._behind_since = None
        self._arrange()
        for lane in self:
            lane.changed()

    def give_up_opening(self) -> None:
        self.ranges.give_up_opening()
        self._arrange()

    def cursors(self, beginning: Collection[Lane]) -> list[PartitionCursor]:
        """What must survive; of lanes in `beginning` with the era that is about to begin."""
        flows = {lane.flow for lane in beginning if lane.owner is self}
        return [flow.next_cursor() if flow in flows else flow.cursor for flow in self.ranges.flows]

    def returned(self) -> None:
        """The link is back: what is behind now is an outage's."""
        self._behind_since = float("-inf")

    def resume(self, changed: Callable[[Lane], None]) -> None:
        """A new session takes over."""
        self._changed = changed
        self.returned()
        for lane in self:
            lane.resume(changed)

    def stop(self) -> None:
        for lane in self:
            lane.stop()

    @property
    def is_idle(self) -> bool:
        """Nothing of it is under way, neither records nor questions."""
        busy = any(lane.busy or lane.reading or lane.flow.flying for lane in self)
        return not busy and not self.ranges.is_opening

    def retire(self) -> None:
        """Its place in the cloud is gone; whoever still holds a lane of it finds it inactive. Only where `is_idle`."""
        self.stop()
        for lane in self:
            lane.is_active = False
        self._lanes.clear()
