"""Shaping: may a stream of this priority send now, and if not, why and until when.

Sans-I/O, one per uplink. Whoever puts bytes on the wire asks `hold(priority, now)` before it takes a batch, and tells
`sent(size, now)` after; whoever reads the kernel's counters tells `observe(reading, …)` about once a second.

    rate      a token bucket of bytes sent. A batch may overdraw it; the next one waits for the debt.
    budget    bytes a day and link class, both directions. The last part (`reserve`) is for high priorities alone.
    window    times of day outside which streams below a priority wait.
    throttle  a broker asked for silence (throttle_time_ms, KIP-219): nobody sends.

What counts is what really went over the wire: the kernel's own count of the connection's bytes and packets, TLS and
retransmissions and headers included. Between two readings batches are charged provisionally by their size; a reading
puts the true number in their place. The first reason in the order throttle, budget, window, rate is the one that is told.

Time. `now` is monotonic seconds. What day and what time of day it is comes from the clock that was passed in, and only
where that is trusted: see daybook.py for days, `without_clock` for windows.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from ...core.clock import Clock, KnownTime
from .daybook import Daybook
from .forecast import Rules
from .limits import PRIORITY_MAX, LinkClass, ShapingSettings, WithoutClock, Zone
from .windows import DAY_S, Windows

# A debt is paid off in steps of this time rather than byte by byte: ten wake-ups a second at most.
_STEP_S = 0.1
_ALWAYS = Windows(())
# How often day and window are looked at, at most.
_CALENDAR_S = 1.0


class Waits(enum.StrEnum):
    """Why a stream is not sent."""

    THROTTLED = "throttled"
    BUDGET = "over budget"
    RESERVE = "budget kept for higher priorities"
    WINDOW = "outside window"
    RATE = "rate limit"


class Hold(NamedTuple):
    """Do not send; ask again at `until` (monotonic seconds)."""

    why: Waits
    until: float


class Reading(NamedTuple):
    """Bytes over the life of the process: counted by the kernel, and (`queued`) handed over and not yet sent."""

    sent: int
    received: int
    queued: int = 0


class BudgetStatus(msgspec.Struct, frozen=True, kw_only=True):
    link: LinkClass
    spent: int
    limit: int | None
    left: int | None


class ShapingStatus(msgspec.Struct, frozen=True, kw_only=True):
    link: LinkClass
    """Of the present connection, or the last one."""
    interface: str
    rate: int | None
    budgets: list[BudgetStatus]
    new_day_in_s: float
    reserve: float
    reserve_priority: int
    window: str
    window_priority: int
    window_open: bool
    window_changes_in_s: float | None
    clock_trusted: bool
    throttled_s: float


class Shaper:
    """`known`: the time and whether to believe it; without it the clock is believed. `offset_s`: seconds that local time
    is ahead of UTC at a wall time in ms; used where the zone is local."""

    def __init__(
        self,
        settings: ShapingSettings,
        *,
        clock: Clock,
        known: KnownTime | None = None,
        offset_s: Callable[[int], int] = lambda _: 0,
        daybook: Daybook | None = None,
    ) -> None:
        self.settings = settings
        self.daybook = daybook or Daybook({link: settings.budget(link) for link in LinkClass})
        self.link = LinkClass.ETHERNET
        self.interface = ""
        self.throttles = 0
        self.throttled_s = 0.0
        self._clock = clock
        self._known = known
        self._offset_s = offset_s
        self._windows = Windows.parse(settings.window)
        self._tokens = float(settings.burst)
        self._tokens_at = clock.monotonic()
        self._provisional = 0
        self._counted = Reading(0, 0)
        self._silent_until = 0.0
        self._calendar_at = float("-inf")
        self._window_open = True
        self._window_changes_at: float | None = None
        self._new_day_at = 0.0
        self._look(clock.monotonic())

    # -- asked before sending ----------------------------------------------------------------------------------------

    def hold(self, priority: int, now: float) -> Hold | None:
        """None: send. `priority` 0..9, above 9 for declared losses."""
        self._look(now)
        if now < self._silent_until:
            return Hold(Waits.THROTTLED, self._silent_until)
        limit = self.settings.budget(self.link)
        if limit:
            left = limit - self.daybook.spent(self.link) - self._provisional
            if left <= 0:
                return Hold(Waits.BUDGET, self._new_day_at)
            if priority < self.settings.reserve_priority and left <= limit * self.settings.reserve:
                return Hold(Waits.RESERVE, self._new_day_at)
        if priority < self.settings.window_priority and not self._window_open:
            return Hold(Waits.WINDOW, self._window_changes_at or now + DAY_S)
        if self.settings.rate and (short := self._short(now)) > 0:
            return Hold(Waits.RATE, now + max(_STEP_S, short / self.settings.rate))
        return None

    def held(self, now: float) -> dict[int, Hold]:
        """By priority, for those that would have to wait."""
        holds = {priority: self.hold(priority, now) for priority in range(PRIORITY_MAX + 2)}
        return {priority: hold for priority, hold in holds.items() if hold is not None}

    def _short(self, now: float) -> float:
        """Bytes that the bucket owes; 0 where something may be sent."""
        rate, burst = float(self.settings.rate), float(self.settings.burst)
        self._tokens = min(burst, self._tokens + max(0.0, now - self._tokens_at) * rate)
        self._tokens_at = now
        return max(0.0, -self._tokens)

    # -- told after sending ------------------------------------------------------------------------------------------

    def sent(self, size: int, now: float) -> None:
        """A batch of `size` bytes was handed to the connection."""
        self._short(now)
        self._tokens -= size
        self._provisional += size

    def observe(self, reading: Reading, now: float) -> None:
        """What the kernel has counted so far takes the place of what was charged provisionally."""
        self._look(now)
        self._short(now)
        last, self._counted = self._counted, reading
        handed = reading.sent + reading.queued - last.sent - last.queued
        self._tokens -= handed - self._provisional
        self._provisional = 0
        self.daybook.spend(self.link, handed + reading.received - last.received)

    def carried_by(self, link: LinkClass, interface: str) -> None:
        """The connection goes over this interface. What was counted before belongs to the one before."""
        self.link, self.interface = link, interface

    def throttled(self, milliseconds: int, now: float) -> None:
        """A broker's answer says that it will not listen for so long."""
        if milliseconds > 0:
            self.throttles += 1
            until = now + milliseconds / 1000
            self.throttled_s += max(0.0, until - max(now, self._silent_until))
            self._silent_until = max(self._silent_until, until)

    # -- the calendar ------------------------------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        """What day it is, whether the window is open; at most once a second."""
        if now < self._calendar_at + _CALENDAR_S:
            return
        self._calendar_at = now
        second, day = self._local_second(), None
        if self._is_known:
            day, second_of_day = divmod(second, DAY_S)
            self._new_day_at = now + DAY_S - second_of_day
            self._window_open = self._windows.is_open(second_of_day)
            ahead = self._windows.changes_in(second_of_day)
            self._window_changes_at = None if ahead is None else now + ahead
        else:
            is_open = self.settings.without_clock is WithoutClock.OPEN or not self._windows.spans
            self._window_open = is_open
            # the clock may become known at any time: ask again soon
            self._window_changes_at = None if is_open else now + 10 * _CALENDAR_S
        self.daybook.turn(day, now)
        if day is None:
            self._new_day_at = now + max(_CALENDAR_S, self.daybook.left_of_unknown_day_s)

    @property
    def _is_known(self) -> bool:
        return self._known is None or self._known.trusted

    def _local_second(self) -> int:
        wall_ms = (self._known or self._clock).wall_ms()
        offset = self._offset_s(wall_ms) if self.settings.zone is Zone.LOCAL else 0
        return wall_ms // 1000 + offset

    # -- seen from outside -------------------------------------------------------------------------------------------

    def rules(self, priority: int, now: float) -> Rules:
        """What holds for a stream of this priority, for the forecast."""
        self._look(now)
        settings, limit = self.settings, self.settings.budget(self.link)
        left = limit - self.daybook.spent(self.link) - self._provisional
        if priority < settings.reserve_priority:
            kept = int(limit * settings.reserve)
            limit, left = limit - kept, left - kept
        is_free = priority >= settings.window_priority
        return Rules(
            budget=limit if settings.budget(self.link) else None,
            left=max(0, left),
            new_day_in_s=max(0.0, self._new_day_at - now),
            windows=_ALWAYS if is_free else self._windows,
            is_open=is_free or self._window_open,
            second=float(self._local_second() % DAY_S) if self._is_known else None,
        )

    def status(self, now: float) -> ShapingStatus:
        self._look(now)
        settings, changes_at = self.settings, self._window_changes_at
        is_known = self._is_known
        return ShapingStatus(
            link=self.link,
            interface=self.interface,
            rate=int(settings.rate) or None,
            budgets=[self._budget(link) for link in LinkClass],
            new_day_in_s=max(0.0, self._new_day_at - now),
            reserve=settings.reserve,
            reserve_priority=settings.reserve_priority,
            window=settings.window,
            window_priority=settings.window_priority,
            window_open=self._window_open,
            window_changes_in_s=changes_at - now if changes_at and is_known else None,
            clock_trusted=is_known,
            throttled_s=max(0.0, self._silent_until - now),
        )

    def _budget(self, link: LinkClass) -> BudgetStatus:
        spent, limit = self.daybook.spent(link), self.settings.budget(link)
        return BudgetStatus(
            link=link,
            spent=spent,
            limit=limit or None,
            left=max(0, limit - spent) if limit else None,
        )
