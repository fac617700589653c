"""Virtual time for asyncio: the code under test is not patched, only the loop's clock is.

When nothing is ready the loop's clock jumps to the next timer, so hours pass in milliseconds, and a run is a function
of its seed. When nothing is ready and no timer is pending, every task waits for ever: that is reported, not hung.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_EPOCH_MS = 1_700_000_000_000


class Deadlock(Exception):
    """Every task waits and no timer is pending."""


class _JumpingSelector(selectors.SelectSelector):
    """Never sleeps: where a real selector would wait, it moves the loop's clock."""

    loop: SimulatedLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("every task waits and no timer is pending")
        if timeout > 0:
            self.loop.now += timeout
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """No sockets and no threads: an answer that comes from outside the loop would not come from the seed."""

    def __init__(self) -> None:
        self.now = 0.0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


class LoopClock:
    """core.clock.Clock over the loop's own time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def wall_ms(self) -> int:
        return _EPOCH_MS + round(self._loop.time() * 1000)

    def monotonic(self) -> float:
        return self._loop.time()

    def boot_ms(self) -> int:
        return round(self._loop.time() * 1000)


def run(main: Coroutine[Any, Any, T]) -> T:
    """One simulation from start to end, in a loop of its own. Tasks left over are cancelled."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(main)
