"""The time of a reading, from its payload: which number, or text, is a plausible time, in microseconds UTC.

A number's magnitude tells its unit, for the windows 2000 to 2100 in s, ms, µs and ns do not overlap. What is outside
of all of them (uptime counters, a clock at 1970) is no time. A text must be ISO 8601 with date and time; without a
zone it is UTC. Nothing may lie more than a day after the latest time we know of: the later of the record's arrival
and the sink's clock. Then the record's arrival stands in, and the value is kept as an ordinary column.
"""

from __future__ import annotations

import datetime

# Payload fields that may carry the time, in order of preference.
TIME_FIELDS = ("ts", "time", "timestamp")

FUTURE_MAX_US = 86_400_000_000

_FIRST_S = 946_684_800  # 2000-01-01
_LAST_S = 4_102_444_800  # 2100-01-01
_UNITS = ((1, 1_000_000, 1), (1_000, 1_000, 1), (1_000_000, 1, 1), (1_000_000_000, 1, 1_000))
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)

# The window of milliseconds, the usual unit: whole columns are tested against it at once.
FIRST_MS = _FIRST_S * 1_000
LAST_MS = _LAST_S * 1_000


def micros(value: object, *, latest_us: int) -> int | None:
    """None where the value is no plausible time."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        found = _of_number(value)
    elif isinstance(value, str):
        found = _of_text(value)
    else:
        return None
    if found is None or not _FIRST_S * 1_000_000 <= found <= latest_us + FUTURE_MAX_US:
        return None
    return found


def _of_number(value: float) -> int | None:
    for per_second, times, divided in _UNITS:
        if _FIRST_S * per_second <= value < _LAST_S * per_second:
            # a double holds µs of this century exactly enough; an integer stays an integer
            return round(value * times) if divided == 1 else int(value) // divided
    return None


def _of_text(text: str) -> int | None:
    if not 16 <= len(text) <= 40 or text[10] not in "Tt ":
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    try:
        return (moment - _EPOCH) // _MICROSECOND
    except OverflowError:
        return None
