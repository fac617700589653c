"""Turns: which lane sends next over a link. Sans-I/O.

Two levels, both by bytes. Live lanes and backlog lanes share the link by weight (70 to 30, say) while both have something
to send; who was idle meanwhile has saved nothing up and owes nothing, and goes first when it comes back (start-time fair
queueing). Within either, deficit round robin: a lane sends until its quantum times its weight is used up, then
stands behind the others; the quantum is the largest batch lately, so a turn is at least one batch.
"""

from __future__ import annotations

from collections.abc import Iterator

from .lane import Lane

# A quantum forgets a large batch so fast: in some ten batches.
_FORGET = 0.9


class _Ring:
    """Lanes of one kind."""

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.served = 0.0  # bytes over weight
        self.lanes: dict[Lane, None] = {}


class Turns:
    """`live`, `backlog`: the weights of the two kinds."""

    def __init__(self, *, live: int, backlog: int) -> None:
        self._live = _Ring(live)
        self._backlog = _Ring(backlog)
        self._ring_of: dict[Lane, _Ring] = {}
        self._credit: dict[Lane, float] = {}
        self._quantum = 1.0

    def __len__(self) -> int:
        return len(self._ring_of)

    def offer(self, lane: Lane) -> bool:
        """It has something to send; False where that was known."""
        ring = self._live if lane.is_live else self._backlog
        if (known := self._ring_of.get(lane)) is ring:
            return False
        if known is not None:
            self.leave(lane)  # live data became history
        if not ring.lanes:
            busy = [other.served for other in (self._live, self._backlog) if other.lanes]
            ring.served = max([ring.served, *busy])
        ring.lanes[lane] = None
        self._ring_of[lane] = ring
        return True

    def leave(self, lane: Lane) -> None:
        """It has nothing to send any more."""
        ring = self._ring_of.pop(lane, None)
        if ring is not None:
            del ring.lanes[lane]
        self._credit.pop(lane, None)

    def round(self) -> Iterator[Lane]:
        """Each lane at most once, in the order of their turns; tell `charge` about those that were served."""
        left = [(ring, iter(list(ring.lanes))) for ring in (self._live, self._backlog)]
        while left:
            ring, lanes = min(left, key=lambda item: item[0].served)
            lane = next((lane for lane in lanes if self._ring_of.get(lane) is ring), None)
            if lane is None:
                left = [item for item in left if item[0] is not ring]
            else:
                yield lane

    def charge(self, lane: Lane, size: int) -> None:
        """It sent so many bytes."""
        self._quantum = max(float(size), self._quantum * _FORGET)
        ring = self._ring_of.get(lane)
        if ring is None:
            return
        ring.served += size / ring.weight
        full = self._quantum * lane.weight
        credit = min(full, self._credit.get(lane, full)) - size
        if credit <= 0:
            del ring.lanes[lane]
            ring.lanes[lane] = None  # behind the others
            credit += full
        self._credit[lane] = credit
