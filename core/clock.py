"""The clock, passed in. Only this file imports `time`; simulation passes another.

Three times that must not be confused: *wall* may step either way and may be wrong by years; *monotonic* is for intervals and
deadlines of this process; *boot* counts from this machine's start, time asleep included, and never steps: wall minus boot is
constant from one step of the wall clock to the next (the kernel slews both alike), which is what time repair rests upon.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def wall_ms(self) -> int:
        """Milliseconds since the epoch as this machine believes; may step either way."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back. For intervals and deadlines."""

    def boot_ms(self) -> int:
        """Milliseconds since this machine started, suspension included (CLOCK_BOOTTIME); never steps."""


class KnownTime(Protocol):
    """What the time is, and how far that is to be believed: for whoever judges certificates, dates and ages."""

    @property
    def trusted(self) -> bool:
        """Something that knows the time has set the clock, in this boot."""

    @property
    def floor_ms(self) -> int:
        """It is certainly not earlier than this."""

    def wall_ms(self) -> int:
        """Milliseconds since the epoch; at least the floor."""


def utc_offset_s(wall_ms: int) -> int:
    """How far this machine's local time is ahead of UTC at that time, in seconds."""
    return time.localtime(wall_ms / 1000).tm_gmtoff


class SystemClock:
    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    def boot_ms(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class ManualClock:
    """Stands still until moved: for tests and simulation."""

    def __init__(self, wall_ms: int = 1_700_000_000_000, *, boot_ms: int = 0) -> None:
        self._wall_ms = wall_ms
        self._boot_ms = boot_ms
        self._seconds = 0.0

    def wall_ms(self) -> int:
        return self._wall_ms

    def monotonic(self) -> float:
        return self._seconds

    def boot_ms(self) -> int:
        return self._boot_ms

    def advance(self, seconds: float) -> None:
        self._seconds += seconds
        self._wall_ms += round(seconds * 1000)
        self._boot_ms += round(seconds * 1000)

    def sleep_ms(self, milliseconds: int) -> None:
        """The machine is suspended: wall and boot go on, the monotonic clock does not."""
        self._wall_ms += milliseconds
        self._boot_ms += milliseconds

    def step_wall(self, milliseconds: int) -> None:
        """What NTP does: the wall clock jumps, the others do not."""
        self._wall_ms += milliseconds
