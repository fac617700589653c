"""One process for each task, so many at a time. Each of them ends, whatever happens, and none is waited for without end.

Rules:
  told         a task's process tells by a pipe of its own: each step that begins, what it waits for, each step that is
               done, at last the task's result or its traceback. One writer, one reader: nobody dies with a lock of others.
  bounded      a step has a bound (`progress.BOUNDS_S`). What takes longer is stuck: the stack of its process is printed,
               then the process is ended, and the task has failed with the step's name and what it waited for.
  one by one   a task that failed is told at once, and begun again where it may be; the others go on. The caller hears of
               all at the end.
  ended        is by SIGTERM, which unwinds what is mounted and started; who still runs after UNWIND_SECONDS is killed.
               What is left mounted beneath the scratch folder is detached then, and the folder removed.

A pool of the standard library does not serve: its workers catch the SystemExit of their SIGTERM as the failure of a task
and ask for the next one, so that an executor shut down after the first failure waits for them for ever.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import FrameType
from typing import Generic, NamedTuple, TypeVar, cast

from . import kernel, progress

UNWIND_SECONDS = 20.0
_LOOK_SECONDS = 1.0
# SIGUSR1 has a worker print its stack; so long it has for that
_STACK_SECONDS = 1.0
_FORK = multiprocessing.get_context("fork")

T = TypeVar("T")


class Task(Generic[T]):
    """Runs in a process of its own; `result` is there once it is done, `failure` says why it never will be."""

    def __init__(self, name: str, run: Callable[[], T], *, tries: int = 1) -> None:
        """`tries`: begun so often until it is done; for what measures others, whose troubles are not ours to judge."""
        self.name = name
        self.run = run
        self.tries = tries
        self.results: list[T] = []
        self.failure = ""

    @property
    def result(self) -> T:
        assert self.results, f"{self.name} was done"
        return self.results[0]


class Failed(NamedTuple):
    """A task's last word where it has no result."""

    why: str


class Done(NamedTuple):
    result: object


@contextlib.contextmanager
def scratch(parent: Path | None) -> Iterator[Path]:
    """A folder for all that the tasks write, removed with what they may have left mounted there."""
    folder = Path(tempfile.mkdtemp(dir=parent, prefix="powercut-"))
    try:
        yield folder
    finally:
        for place in reversed(_mounts(folder)):
            kernel.detach(place)
        shutil.rmtree(folder, ignore_errors=True)


def _mounts(folder: Path) -> list[Path]:
    """Beneath that folder, in the order in which they were made."""
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    places = [Path(line.split()[1]) for line in lines]
    return [place for place in places if place.is_relative_to(folder)]


def run(tasks: Sequence[Task[T]], jobs: int, planned: Mapping[str, int]) -> None:
    """All of them are begun in this order. Nothing that they started is left, however this ends."""
    shown = progress.Shown(planned, jobs)
    waiting, running = list(tasks), list[_Worker[T]]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_Worker(waiting.pop(0)))
            wait([each.pipe for each in running], _LOOK_SECONDS)
            for worker in list(running):
                worker.hear(shown)
                if worker.task.results or worker.task.failure:
                    running.remove(worker)
                    worker.end()
                    if worker.task.failure:
                        print(f"{worker.task.name} failed: {worker.task.failure}", flush=True)
                        worker.task.tries -= 1
                        if worker.task.tries > 0:
                            worker.task.failure = ""
                            waiting.append(worker.task)
    finally:
        for worker in running:
            worker.process.terminate()
        for worker in running:
            worker.end()


class _Worker(Generic[T]):
    def __init__(self, task: Task[T]) -> None:
        self.task = task
        self.pipe, theirs = _FORK.Pipe(duplex=False)
        self.process: ForkProcess = _FORK.Process(target=_work, args=(task.run, theirs))
        self.process.start()
        theirs.close()
        self._step = progress.Begun(progress.RECORDING, "its beginning", time.monotonic())

    def hear(self, shown: progress.Shown) -> None:
        """All that was told; and is what it does within its bound?"""
        while not (self.task.results or self.task.failure) and self.pipe.poll():
            try:
                told = self.pipe.recv()
            except (EOFError, OSError):
                self.process.join(UNWIND_SECONDS)
                self.task.failure = (
                    f"its process ended by itself ({self.process.exitcode}) in {self._step.name}"
                )
                return
            match told:
                case progress.Begun():
                    self._step = told
                case progress.Ended():
                    shown.note(told)
                case Failed(why):
                    self.task.failure = why
                case Done(result):
                    self.task.results.append(cast("T", result))
        late = self._step.late(time.monotonic())
        if late and not (self.task.results or self.task.failure):
            self.task.failure = late
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid or 0, signal.SIGUSR1)
                time.sleep(_STACK_SECONDS)
            self.process.terminate()

    def end(self) -> None:
        """Its word is said or it was told to end: gone it is after this, but for one that the kernel holds."""
        deadline = time.monotonic() + UNWIND_SECONDS
        while self.process.is_alive() and time.monotonic() < deadline:
            with contextlib.suppress(EOFError, OSError):  # so that it is not held by a full pipe
                if self.pipe.poll(0.01):
                    self.pipe.recv()
            self.process.join(0.01)
        if self.process.is_alive():
            self.process.kill()
            self.process.join(UNWIND_SECONDS)
        if self.process.is_alive():
            print(f"{self.task.name}: process {self.process.pid} does not end", flush=True)
        self.pipe.close()


def _work(run: Callable[[], object], pipe: Connection) -> None:
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    signal.signal(signal.SIGTERM, _leave)
    progress.attach(pipe)
    said: Done | Failed
    try:
        said = Done(run())
    except SystemExit:
        said = Failed("ended")
    except BaseException as error:
        where = " ".join(getattr(error, "__notes__", ()))
        said = Failed(f"{error!r} {where}".rstrip() + f"\n{traceback.format_exc()}")
    with contextlib.suppress(OSError):  # the reader is gone: so is its interest
        pipe.send(said)


def _leave(number: int, frame: FrameType | None) -> None:
    """Once; a second word must not break off the unwinding."""
    del frame
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + number)
