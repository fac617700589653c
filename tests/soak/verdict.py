"""Is it flat? The statistic, and what it is held against.

The series after the warm-up is cut into at most BUCKETS pieces of equal time, each represented by its median, so that
noise and single spikes weigh nothing. Through them goes a Theil–Sen line: the median of the slopes of all pairs, which a
third of outliers does not move. Its slope times the time observed is the *growth*. Flat means that the growth is at most
the limit, which is a number of units, or a share of the median where that is more. So what a soak can see depends on its
length: the smallest leak it finds is the limit divided by its hours, and the report says so.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import NamedTuple

BUCKETS = 200
# fewer points than this after the warm-up say nothing about a slope
POINTS_MIN = 8


class Limit(NamedTuple):
    """At most `growth` units, or `share` of the median where that is more; never above `ceiling` at any moment."""

    growth: float
    share: float = 0.0
    ceiling: float = float("inf")


class Finding(NamedTuple):
    """Of one series. `growth` over `hours`, in the series' unit."""

    points: int
    hours: float
    first: float
    median: float
    highest: float
    growth: float
    allowed: float
    ceiling: float

    @property
    def flat(self) -> bool:
        return self.growth <= self.allowed

    @property
    def holds(self) -> bool:
        return self.points >= POINTS_MIN and self.flat and self.highest <= self.ceiling

    @property
    def smallest_leak_an_hour(self) -> float:
        """What would have been noticed, in units an hour."""
        return self.allowed / self.hours if self.hours else float("inf")


def judge(points: Sequence[tuple[float, float]], limit: Limit, *, warm_up_s: float) -> Finding:
    """`points` are (seconds, value), in order of time. The ceiling holds during the warm-up too."""
    highest = max((value for _, value in points), default=0.0)
    settled = [(at, value) for at, value in points if at >= warm_up_s]
    if len(settled) < POINTS_MIN:
        return Finding(len(settled), 0.0, 0.0, 0.0, highest, 0.0, 0.0, limit.ceiling)
    typical = statistics.median(value for _, value in settled)
    span = settled[-1][0] - settled[0][0]
    smooth = _medians(settled, span)
    return Finding(
        len(settled),
        span / 3600,
        smooth[0][1],
        typical,
        highest,
        _slope(smooth) * span,
        max(limit.growth, limit.share * typical),
        limit.ceiling,
    )


def _medians(points: Sequence[tuple[float, float]], span: float) -> list[tuple[float, float]]:
    """One point for each bucket that has any."""
    begin = points[0][0]
    width = span / BUCKETS if len(points) > BUCKETS else 0.0
    if not width:
        return list(points)
    grouped = itertools.groupby(points, key=lambda point: int((point[0] - begin) / width))
    smooth = []
    for _, group in grouped:
        held = list(group)
        smooth.append(
            (statistics.median(at for at, _ in held), statistics.median(v for _, v in held))
        )
    return smooth


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Theil–Sen: the median slope of all pairs, in units a second."""
    slopes = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for earlier, later in itertools.combinations(points, 2)
        if later[0] > earlier[0]
    ]
    return statistics.median(slopes) if slopes else 0.0


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """`values` as a line of blocks from their lowest to their highest."""
    marks = "▁▂▃▄▅▆▇█"
    if not values:
        return ""
    cells = (
        [
            statistics.median(
                values[
                    len(values) * n // width : max(
                        len(values) * (n + 1) // width, len(values) * n // width + 1
                    )
                ]
            )
            for n in range(min(width, len(values)))
        ]
        if len(values) > width
        else list(values)
    )
    low, high = min(cells), max(cells)
    if high == low:
        return marks[0] * len(cells)
    return "".join(marks[int((value - low) / (high - low) * (len(marks) - 1))] for value in cells)
