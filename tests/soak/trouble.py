"""What goes wrong meanwhile, drawn from the seed: the cloud killed or frozen for a while, the edge told to read its
settings again.

Nothing here waits: `turn(now)` does what is due.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from headwater.demo.daemon import Daemon

RELOAD_S = 45.0
LEVELS = ("info", "warning")


class Trouble:
    """`pause_s` of peace between two interruptions on average, each `outage_s` long or a good deal longer."""

    def __init__(
        self,
        edge: Daemon,
        cloud: Daemon,
        config: Path,
        renew: Callable[[], None],
        rng: random.Random,
        *,
        pause_s: float,
        outage_s: float,
    ) -> None:
        self._edge, self._cloud, self._config, self._renew, self._rng = (
            edge,
            cloud,
            config,
            renew,
            rng,
        )
        self._pause_s, self._outage_s = pause_s, outage_s
        self._plain = config.read_text()
        self._next_blow = pause_s
        self._next_reload = RELOAD_S / 2
        self._back: Callable[[], None] | None = None
        self._back_at = 0.0
        self.met: Counter[str] = Counter()
        self.log: list[tuple[float, str]] = []

    def turn(self, now: float) -> None:
        """`now` in seconds since the start."""
        if self._back is not None and now >= self._back_at:
            self.calm()
            self._next_blow = now + self._pause_s * self._rng.uniform(0.5, 1.5)
        if self._back is None and now >= self._next_blow:
            self._strike(now)
        if now >= self._next_reload:
            self._next_reload = now + RELOAD_S
            self._reload(now)

    def calm(self) -> None:
        """The cloud is there again."""
        if self._back is not None:
            self._back()
            self._back = None

    def _strike(self, now: float) -> None:
        length = self._outage_s * self._rng.choice((0.3, 1, 1, 2.5))
        if self._rng.random() < 0.6:
            self._cloud.kill()
            self._back, what = self._cloud.start, "cloud killed"
        else:
            pid = self._cloud.pid
            os.kill(pid, signal.SIGSTOP)
            self._back, what = (lambda: _wake(pid)), "cloud frozen"
        self._back_at = now + length
        self._note(now, what, f" for {length:.0f} s")

    def _reload(self, now: float) -> None:
        """Another log level, another rate limit on the WebSocket listener, a new certificate; none matters to the load."""
        count = self.met["edge reloaded"]
        text = self._plain.replace('log_level = "info"', f'log_level = "{LEVELS[count % 2]}"')
        text = text.replace("publish_rate = 5000", f"publish_rate = {5000 + count % 2}")
        self._config.write_text(text)
        if count % 3 == 0:
            self._renew()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._edge.pid, signal.SIGHUP)
        self._note(now, "edge reloaded")

    def _note(self, now: float, what: str, more: str = "") -> None:
        self.met[what] += 1
        self.log.append((now, what + more))


def _wake(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
