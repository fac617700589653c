"""A bound on bytes held: taken before they are held, given back after.

`try_take` is for the door, which stops reading and is called when there is room again. `take` is for readers of the log
and waits its turn, first come, first served. One that asks for more than the whole budget is let in alone: a limit must
not become a deadlock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class ByteBudget:
    def __init__(self, limit: int) -> None:
        assert limit > 0
        self._limit = limit
        self._held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._listeners: deque[Callable[[], None]] = deque()

    @property
    def held(self) -> int:
        return self._held

    @property
    def full(self) -> bool:
        return self._held >= self._limit

    def try_take(self, size: int) -> bool:
        if self._held and self._held + size > self._limit:
            return False
        self._held += size
        return True

    def take_at_once(self, size: int) -> None:
        """Above the limit where need be: for bytes that are here already. Look at `full` before taking more in."""
        self._held += size

    async def take(self, size: int) -> None:
        if not self._waiting and self.try_take(size):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(size)  # the turn came and the asker went at the same moment
            raise

    def give(self, size: int) -> None:
        self._held -= size
        assert self._held >= 0, "given back more than was taken"
        while self._waiting:
            wanted, turn = self._waiting[0]
            if turn.cancelled():
                self._waiting.popleft()
            elif self.try_take(wanted):
                self._waiting.popleft()
                turn.set_result(None)
            else:
                break
        for _ in range(len(self._listeners)):
            if self.full:
                break
            self._listeners.popleft()()

    def call_when_free(self, listener: Callable[[], None]) -> None:
        """Once, when bytes have been given back."""
        self._listeners.append(listener)
