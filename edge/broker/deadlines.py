"""Things to be done at a time: one heap for connect time-outs, keep-alives, will delays and session expiry.

What is cancelled lets go of its action at once and leaves the heap when half of the heap is such husks: a client
that comes and goes a thousand times with a week's session costs no memory for it. The granularity is the rim's tick;
nothing is called before its time.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

Action = Callable[[float], None]


class Deadline:
    __slots__ = ("_owner", "action")

    def __init__(self, owner: Deadlines, action: Action) -> None:
        self._owner = owner
        self.action: Action | None = action

    def cancel(self) -> None:
        """It will not be called. Harmless when it was."""
        if self.action is not None:
            self.action = None
            self._owner.cancelled()


class Deadlines:
    __slots__ = ("_cancelled", "_count", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Deadline]] = []
        self._count = 0
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, when: float, action: Action) -> Deadline:
        """Call `action(now)` at the first tick at or after `when`."""
        self._count += 1  # ties go in order of arrival, and deadlines are never compared
        deadline = Deadline(self, action)
        heapq.heappush(self._heap, (when, self._count, deadline))
        return deadline

    def run(self, now: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= now:
            deadline = heapq.heappop(heap)[2]
            action, deadline.action = deadline.action, None
            if action is None:
                self._cancelled -= 1
            else:
                action(now)
            heap = self._heap  # an action may have cancelled, and so rebuilt it

    def cancelled(self) -> None:
        self._cancelled += 1
        if self._cancelled > 64 and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].action is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0
