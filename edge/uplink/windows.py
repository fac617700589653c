"""Times of day: "01:00-05:00,13:00-14:00" as minutes, and whether one of them holds.

A window that ends before it begins runs over midnight. "" is always. Knows neither zone nor clock: a second of the day in,
an answer and how long it stays true out.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ...core.errors import Misconfigured

DAY_S = 86_400
_WINDOW = re.compile(r"\s*([01]?\d|2[0-4]):([0-5]\d)\s*-\s*([01]?\d|2[0-4]):([0-5]\d)\s*\Z")


class Windows(NamedTuple):
    """`spans`: (begin, end) in seconds of the day, end exclusive, none over midnight."""

    spans: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: str, *, key: str = "window") -> Windows:
        """Raises Misconfigured."""
        spans: list[tuple[int, int]] = []
        for part in text.split(",") if text.strip() else ():
            match = _WINDOW.match(part)
            times = [int(number) for number in match.groups()] if match else []
            begin, end = _seconds(times[:2]), _seconds(times[2:])
            if begin is None or end is None or begin == end:
                raise Misconfigured(f"{key}: {part.strip()!r} is not a time window as 01:00-05:00")
            spans += [(begin, end)] if begin < end else [(begin, DAY_S), (0, end)]
        return cls(tuple(sorted(span for span in spans if span[0] < span[1])))

    def is_open(self, second: int) -> bool:
        return not self.spans or any(begin <= second < end for begin, end in self.spans)

    def changes_in(self, second: int) -> int | None:
        """Seconds until `is_open` gives another answer; None where it never does."""
        now = self.is_open(second)
        edges = {edge % DAY_S for span in self.spans for edge in span}
        for ahead in sorted((edge - second - 1) % DAY_S + 1 for edge in edges):
            if self.is_open((second + ahead) % DAY_S) != now:
                return ahead
        return None


def _seconds(time: list[int]) -> int | None:
    if len(time) != 2:
        return None
    second = time[0] * 3600 + time[1] * 60
    return second if second <= DAY_S else None
