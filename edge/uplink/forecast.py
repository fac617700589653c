"""When will it be empty: bytes, a pace, and the rules that stop it by the clock.

A walk over the days to come: while the window is open and the day's budget lasts, bytes go at the pace; otherwise time
passes. Streams of higher priority go first, so a stream is empty when all above it are and itself; readings that keep
arriving are taken off the pace and off each day's budget. None: never, or not within `DAYS_MAX`, or nobody can say.

Sans-I/O, and a pure function but for the two means that are kept.
"""

from __future__ import annotations

from typing import NamedTuple

from .windows import DAY_S, Windows

DAYS_MAX = 60
_WINDOW_S = 30.0  # of the means
# What is under way is no backlog: at the pace seen it is gone in this time, however much keeps arriving.
_UNDER_WAY_S = 10.0


class Rules(NamedTuple):
    """What holds for one priority. `budget`: bytes a day, None for no limit; `second`: of the day, None where the clock is
    not trusted, and then the window stays as it is."""

    budget: int | None
    left: int
    new_day_in_s: float
    windows: Windows
    is_open: bool
    second: float | None


class Mean:
    """A rate, as an exponentially weighted mean over half a minute."""

    def __init__(self) -> None:
        self.per_second: float | None = None
        self._total: float | None = None
        self._at = 0.0

    def observe(self, total: float, now: float, *, counts: bool = True) -> None:
        """`counts`: False where nothing could have moved, so that the interval says nothing about the rate."""
        last, elapsed = self._total, now - self._at
        if last is not None and 0 <= elapsed < 0.5 and total >= last:
            return
        self._total, self._at = total, now
        if last is None or total < last or not counts:
            return
        rate = (total - last) / elapsed
        if self.per_second is None:
            self.per_second = rate
            return
        share = min(1.0, elapsed / _WINDOW_S)
        self.per_second += share * (rate - self.per_second)


def seconds_to_empty(size: float, pace: float, arriving: float, rules: Rules) -> float | None:
    """`size`: bytes to send; `pace` and `arriving`: bytes a second."""
    if size <= 0:
        return 0.0
    if pace <= 0:
        return None
    if size / pace < _UNDER_WAY_S and rules.is_open and (rules.budget is None or rules.left > size):
        return size / pace
    net = pace - arriving
    if net <= 0:
        return None
    return _walk(size, net, arriving, rules)


def _walk(size: float, net: float, arriving: float, rules: Rules) -> float | None:
    elapsed, second, is_open = 0.0, rules.second, rules.is_open
    new_day_in, left = rules.new_day_in_s, float(rules.left)
    while elapsed < DAYS_MAX * DAY_S:
        change_in = None if second is None else rules.windows.changes_in(int(second) % DAY_S)
        if rules.budget is None and change_in is None:
            return elapsed + size / net if is_open else None
        span = min(new_day_in, change_in if change_in is not None else new_day_in)
        span = max(1.0, span)
        if is_open:
            could = net * span if rules.budget is None else min(net * span, left)
            if size <= could:
                return elapsed + size / net
            size -= max(0.0, could)
            left -= could
        else:
            size += arriving * span
        if rules.budget is not None:
            left -= arriving * span
        elapsed += span
        new_day_in -= span
        if new_day_in <= 0:
            new_day_in, left = float(DAY_S), float(rules.budget or 0)
        if second is not None:
            second = (second + span) % DAY_S
            is_open = rules.windows.is_open(int(second))
    return None
