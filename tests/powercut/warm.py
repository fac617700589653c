"""The edge's daemon without the start of an interpreter: forked from a process that has imported it, for many states.

Rule: what runs is `headwater.cli.main` with the same arguments, in a process, session and log of its own; only its imports
were paid before. Recordings are of the daemon as it is started in earnest (`Daemon`).
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from headwater.demo import daemon
from headwater.demo.daemon import Daemon

_PR_SET_PDEATHSIG = 1
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["tests.powercut.command", "headwater.commands.edge", "headwater.edge.daemon"]
)


class _Forked(subprocess.Popen[bytes]):
    """As much of `Popen` as `Daemon` asks for."""

    def __init__(self, process: ForkServerProcess) -> None:
        # not `super()`: nothing is executed
        self._process = process
        self.args = ()
        self.pid = process.pid or 0
        self.returncode: int | None = None

    def poll(self) -> int | None:
        self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired("edge", timeout or 0)
        return status

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __del__(self) -> None: ...


class WarmDaemon(Daemon):
    """`arguments`: of the command line, after `headwater`; `defect`: a broken twin (defects.py)."""

    def __init__(self, arguments: Sequence[str], *, log: Path, http_port: int, defect: str) -> None:
        super().__init__("edge", arguments, log=log, http_port=http_port)
        self._defect = defect

    def start(self) -> None:
        assert not self.running, "one process at a time"
        process = _context.Process(
            target=_serve, args=(self._command, str(self._log), self._defect), daemon=True
        )
        process.start()
        self._process = _Forked(process)
        self.starts += 1
        daemon._started.add(self._process)


def _serve(arguments: Sequence[str], log: str, defect: str) -> None:
    # nothing here outlives the test run, even one that is killed
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    null = os.open(os.devnull, os.O_RDONLY)
    for descriptor, place in ((null, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, place)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    from headwater.cli import main

    if defect:
        from .defects import DEFECTS

        DEFECTS[defect].plant()
    status = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
