"""The one thread that touches the disk for writing: one job at a time, its outcome told to the event loop.

A ThreadPoolExecutor would do the same for about 40 microseconds more a commit: it makes a lock, a condition and two
futures for each job, and a commit of a fast disk comes two thousand times a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

_T = TypeVar("_T")
_Job = tuple[Callable[[], object], asyncio.AbstractEventLoop, "asyncio.Future[object]"]


class DiskThread:
    """Started by the first job. `close` returns when every job given before it has been done."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    async def run(self, work: Callable[[], _T]) -> _T:
        """The outcome of `work`, run in the thread. Cancelling the caller does not stop it."""
        if self._thread.ident is None:
            self._thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        self._jobs.put((work, loop, future))  # type: ignore[arg-type]  # a queue of jobs of every type
        return await future

    def close(self) -> None:
        if self._thread.ident is not None:
            self._jobs.put(None)
            self._thread.join()

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, loop, future = job
            result: object = None
            failure: BaseException | None = None
            try:
                result = work()
            except BaseException as error:  # carried to the caller, whatever it is
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, future, result, failure)


def _settle(future: asyncio.Future[object], result: object, failure: BaseException | None) -> None:
    if future.done():  # the caller was cancelled
        return
    if failure is None:
        future.set_result(result)
    else:
        future.set_exception(failure)
