"""How far a run is, and when it will end: each worker tells of each step, one thread prints a line now and then.

What is left is reckoned by kind of step, because a start of the daemon with its clients costs twenty of the others.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import SimpleQueue

STATE, START, RECORDING, PEER = "states", "starts", "recordings", "states of peers"
# seconds of each, until some are done
GUESS = {STATE: 0.3, START: 1.5, RECORDING: 10.0, PEER: 3.0}
PRINT_SECONDS = 30.0

Step = tuple[str, float] | None
# of this worker, once it is attached
_queues: list[SimpleQueue[Step]] = []


def attach(queue: SimpleQueue[Step]) -> None:
    """In a worker, as it begins."""
    _queues.append(queue)


@contextmanager
def step(kind: str) -> Iterator[None]:
    """One is done, however it ended."""
    began = time.monotonic()
    try:
        yield
    finally:
        for queue in _queues:
            queue.put((kind, time.monotonic() - began))


def left_seconds(
    planned: Mapping[str, int], done: Mapping[str, int], took: Mapping[str, float]
) -> float:
    """Of work, if nothing ran beside it."""
    return sum(
        max(0, count - done.get(kind, 0))
        * (took[kind] / done[kind] if done.get(kind) else GUESS[kind])
        for kind, count in planned.items()
    )


@contextmanager
def shown(planned: Mapping[str, int], jobs: int) -> Iterator[SimpleQueue[Step]]:
    """Prints while it lasts. `planned`: how many of each kind."""
    queue: SimpleQueue[Step] = SimpleQueue()
    thread = threading.Thread(target=_show, args=(queue.get, planned, jobs), daemon=True)
    thread.start()
    try:
        yield queue
    finally:
        queue.put(None)
        thread.join()


def _show(get: Callable[[], Step], planned: Mapping[str, int], jobs: int) -> None:
    done: Counter[str] = Counter()
    took: Counter[str] = Counter()  # seconds, by kind
    began = printed = time.monotonic()
    while (told := get()) is not None:
        kind, seconds = told
        done[kind] += 1
        took[kind] += seconds  # type: ignore[assignment]
        now = time.monotonic()
        if now - printed >= PRINT_SECONDS:
            printed = now
            parts = [f"{done[each]:,} of {count:,} {each}" for each, count in planned.items()]
            rate = (done[STATE] + done[START]) / (now - began) * 60
            left = left_seconds(planned, done, took) / jobs
            print(
                f"[{(now - began) / 60:.1f} min] {', '.join(parts)}; {rate:.0f} states a minute; "
                f"about {left / 60:.0f} min to go",
                flush=True,
            )
