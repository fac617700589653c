"""Keeps one child process alive: starts it, waits, starts it again after a pause that grows while it keeps dying.

The child gets SIGTERM when the parent stops, and SIGKILL when it takes too long. When the parent is killed outright the
kernel tells the child (PR_SET_PDEATHSIG), so no orphan goes on writing for a node that is gone.
"""

from __future__ import annotations

import asyncio
import ctypes
import random
import signal
from collections.abc import Callable, Mapping, Sequence

import structlog

from ..core.backoff import Backoff
from ..core.clock import Clock

_log = structlog.get_logger()

# A child that lived for so long had started properly: its next pause is short again.
HEALTHY_SECONDS = 60.0
# What a sink may need to commit what it fetched.
STOP_SECONDS = 15.0

_PR_SET_PDEATHSIG = 1


class Supervisor:
    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        clock: Clock,
        rng: random.Random,
        pause_max_s: float,
        restarted: Callable[[], None],
    ) -> None:
        self._name = name
        self._command = command
        self._environ = environ
        self._clock = clock
        self._backoff = Backoff(rng, first_s=0.5, cap_s=pause_max_s)
        self._restarted = restarted
        self._child: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The child's, while one runs."""
        return self._child.pid if self._child is not None else None

    async def run(self) -> None:
        """Until cancelled; then the child is stopped too."""
        die_with_parent = _death_signal_setter()
        while True:
            started = self._clock.monotonic()
            self._child = child = await asyncio.create_subprocess_exec(
                *self._command,
                env=dict(self._environ),
                stdin=asyncio.subprocess.DEVNULL,
                preexec_fn=die_with_parent,
            )
            _log.info("child started", child=self._name, pid=child.pid)
            try:
                status = await child.wait()
            except asyncio.CancelledError:
                await self._stop(child)
                raise
            finally:
                self._child = None
            if self._clock.monotonic() - started >= HEALTHY_SECONDS:
                self._backoff.reset()
            pause = self._backoff.next()
            _log.warning("child ended", child=self._name, status=status, again_in_s=round(pause, 1))
            self._restarted()
            await asyncio.sleep(pause)

    async def _stop(self, child: asyncio.subprocess.Process) -> None:
        if child.returncode is not None:
            return
        child.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await child.wait()
        except TimeoutError:
            _log.warning("child did not stop in time", child=self._name, pid=child.pid)
            child.kill()
            await child.wait()


def _death_signal_setter() -> Callable[[], None]:
    """Loaded before the fork, since after it nothing may be allocated."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def set_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)

    return set_signal
