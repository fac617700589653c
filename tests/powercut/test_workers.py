"""Whatever becomes of a task, the run ends, says which task it was, and leaves nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from . import progress, workers
from .workers import Task

pytestmark = pytest.mark.timeout(60)


def ran(*runs: Callable[[], str]) -> list[Task[str]]:
    tasks = [Task(f"task {index}", each) for index, each in enumerate(runs)]
    workers.run(tasks, 2, {})
    return tasks


def timed_out() -> str:
    with progress.step(progress.PEER, "state 3 of 8 of NATS"):
        progress.awaiting("the CONNACK")
        raise TimeoutError("timed out")


def killed() -> str:
    with progress.step(progress.PEER, "state 4 of 8 of NATS"):
        os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def test_a_task_that_fails_is_named_with_its_step_while_others_are_under_way() -> None:
    def slow() -> str:
        time.sleep(0.5)
        return "done"

    failed, other, next_one = ran(timed_out, slow, slow)
    assert "timed out" in failed.failure
    assert "in state 3 of 8 of NATS, waiting for the CONNACK" in failed.failure
    assert [other.result, next_one.result] == ["done", "done"]


def test_what_measures_others_is_begun_again(tmp_path: Path) -> None:
    def the_second_time() -> str:
        if not (tmp_path / "begun").exists():
            (tmp_path / "begun").touch()
            return timed_out()
        return "done"

    tasks = [Task("patient", the_second_time, tries=2), Task("hopeless", timed_out, tries=2)]
    workers.run(tasks, 2, {})
    assert (tasks[0].results, tasks[0].failure) == (["done"], "")
    assert "timed out" in tasks[1].failure


def test_a_process_that_dies_is_a_failure_of_its_task_alone() -> None:
    dead, other = ran(killed, lambda: "done")
    assert "ended by itself (-9) in state 4 of 8 of NATS" in dead.failure
    assert other.result == "done"


def test_a_step_beyond_its_bound_is_named_and_unwound(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(progress.BOUNDS_S, progress.PEER, 0.2)

    def stuck() -> str:
        try:
            with progress.step(progress.PEER, "state 5 of 8 of NATS"):
                progress.awaiting("the mount")
                while True:
                    time.sleep(1)
        finally:
            (tmp_path / "unwound").touch()

    (task,) = ran(stuck)
    assert task.failure.startswith("stuck in state 5 of 8 of NATS for ")
    assert task.failure.endswith("waiting for the mount")
    assert (tmp_path / "unwound").exists()


def test_who_does_not_unwind_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(progress.BOUNDS_S, progress.PEER, 0.2)
    monkeypatch.setattr(workers, "UNWIND_SECONDS", 0.5)

    def deaf() -> str:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with progress.step(progress.PEER, str(os.getpid())):
            while True:
                time.sleep(1)

    (task,) = ran(deaf)
    pid = int(task.failure.split()[2])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_scratch_is_removed_however_it_ends(tmp_path: Path) -> None:
    def broken() -> None:
        with workers.scratch(tmp_path) as folder:
            (folder / "file").touch()
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert not list(tmp_path.iterdir())
