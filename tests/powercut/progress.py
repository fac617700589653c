"""How far a run is, when it will end, and what takes longer than it may.

Each worker tells of each step, as it begins and as it ends, and what it waits for meanwhile; `Shown` prints a line now and
then. What is left is reckoned by kind of step, because a start of the daemon with its clients costs twenty of the others.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple

STATE, START, RECORDING, PEER = "states", "starts", "recordings", "states of peers"
# seconds of each, until some are done
GUESS = {STATE: 0.3, START: 1.5, RECORDING: 10.0, PEER: 3.0}
# And at most; beyond it nothing moves any more. Some ten times what each takes on a machine with other work to do, and more
# than the bounds within it (a broker's start, an answer, the acknowledgements of a recording) come to.
BOUNDS_S = {STATE: 120.0, START: 300.0, RECORDING: 900.0, PEER: 240.0}
PRINT_SECONDS = 30.0


class Begun(NamedTuple):
    """A step, or another thing to wait for within it (`since` stays the step's)."""

    kind: str
    name: str
    since: float
    awaited: str = ""

    def late(self, now: float) -> str:
        """What is stuck and for how long; empty within its bound."""
        seconds = now - self.since
        if seconds <= BOUNDS_S[self.kind]:
            return ""
        awaited = f", waiting for {self.awaited}" if self.awaited else ""
        return f"stuck in {self.name} for {seconds:.0f} s{awaited}"


class Ended(NamedTuple):
    kind: str
    seconds: float


# of this worker, once it is attached: where it tells, and what it is in
_pipes: list[Connection] = []
_steps: list[Begun] = []


def attach(pipe: Connection) -> None:
    """In a worker, as it begins."""
    _pipes[:] = [pipe]
    _steps.clear()


@contextmanager
def step(kind: str, name: str) -> Iterator[None]:
    """One is done, however it ended."""
    begun = Begun(kind, name, time.monotonic())
    _steps[:] = [begun]
    _tell(begun)
    try:
        yield
    except Exception as error:
        error.add_note(f"in {name}{_awaited()}")
        raise
    finally:
        _tell(Ended(kind, time.monotonic() - begun.since))


def awaiting(what: str) -> None:
    """From now on, in the step that is under way: a word for whoever finds it stuck."""
    if _steps:
        _steps[0] = _steps[0]._replace(awaited=what)
        _tell(_steps[0])


def _awaited() -> str:
    return f", waiting for {_steps[0].awaited}" if _steps and _steps[0].awaited else ""


def _tell(told: Begun | Ended) -> None:
    for pipe in _pipes:
        with contextlib.suppress(OSError):  # whoever listened is gone
            pipe.send(told)


def left_seconds(
    planned: Mapping[str, int], done: Mapping[str, int], took: Mapping[str, float]
) -> float:
    """Of work, if nothing ran beside it."""
    return sum(
        max(0, count - done.get(kind, 0))
        * (took[kind] / done[kind] if done.get(kind) else GUESS[kind])
        for kind, count in planned.items()
    )


class Shown:
    """`planned`: how many of each kind."""

    def __init__(self, planned: Mapping[str, int], jobs: int) -> None:
        self._planned = planned
        self._jobs = jobs
        self._done: Counter[str] = Counter()
        self._took: dict[str, float] = dict.fromkeys(BOUNDS_S, 0.0)
        self._began = self._printed = time.monotonic()

    def note(self, ended: Ended) -> None:
        done = self._done
        done[ended.kind] += 1
        self._took[ended.kind] += ended.seconds
        now = time.monotonic()
        if now - self._printed < PRINT_SECONDS:
            return
        self._printed = now
        parts = [f"{done[each]:,} of {count:,} {each}" for each, count in self._planned.items()]
        rate = (done[STATE] + done[START]) / (now - self._began) * 60
        left = left_seconds(self._planned, done, self._took) / self._jobs
        print(
            f"[{(now - self._began) / 60:.1f} min] {', '.join(parts)}; {rate:.0f} states a minute; "
            f"about {left / 60:.0f} min to go",
            flush=True,
        )
