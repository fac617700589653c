"""What the demo shows while it runs: one line that is rewritten on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from typing import NamedTuple, TextIO

PLAIN_SECONDS = 2.0
WIDTH = 110


class Progress(NamedTuple):
    published: int
    acknowledged: int
    replicated: int
    in_lake: int

    @property
    def lag(self) -> int:
        return max(self.acknowledged - self.in_lake, 0)


class Screen:
    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._began = self._shown_at = time.monotonic()
        self._rate_from = (self._began, 0)
        self._rate = 0.0
        self._live = False

    def show(self, progress: Progress) -> None:
        now = time.monotonic()
        since, acknowledged = self._rate_from
        if now - since >= 1:
            self._rate = (progress.acknowledged - acknowledged) / (now - since)
            self._rate_from = (now, progress.acknowledged)
        line = (
            f"published {progress.published:>7,}  acknowledged {progress.acknowledged:>7,} "
            f"({self._rate:>4,.0f}/s)  replicated {progress.replicated:>7,}  "
            f"in the lake {progress.in_lake:>7,}  lag {progress.lag:>6,}"
        )
        if self._terminal:
            self._out.write(f"\r{self._stamp()}  {line}".ljust(WIDTH))
            self._live = True
        elif now - self._shown_at >= PLAIN_SECONDS:
            self._shown_at = now
            self._out.write(f"{self._stamp()}  {line}\n")
        self._out.flush()

    def say(self, text: str) -> None:
        """An event: a line that stays."""
        self._out.write(("\n" if self._live else "") + f"{self._stamp()}  {text}\n")
        self._live = False
        self._out.flush()

    def print(self, text: str = "") -> None:
        self._out.write(("\n" if self._live else "") + text + "\n")
        self._live = False
        self._out.flush()

    def _stamp(self) -> str:
        return f"{time.monotonic() - self._began:5.1f} s"
