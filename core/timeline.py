"""Time repair: what time it really was, and between what bounds, from an edge's anchors. A pure function, at reading time.

A record gives the boot it was stamped in and its boot time b there (exact, see belief.py). Wanted is the *true offset* at b:
wall − boot as a perfect clock would have had it. What is known of it:

1. A *fix* (an anchor taken while the clock was synchronised) knows it at its own boot time, off by at most `error_ms`. Away
   from it a clock that nothing disciplines drifts by at most DRIFT_PPM: `offset ± (error + drift × distance)`.
   The nearest fix on either side counts; both together where there are two (their bounds are intersected).
2. A boot without a fix lies between its neighbours. It began after all that is known of earlier boots, each of which
   lasted at least as long as its last anchor says; and it ended before the next boot with a fix began:
       wall ≥ latest known time of earlier boots + lengths of the boots between + b
       wall ≤ start of a later boot − lengths of the boots between − what this boot still lasted after b
   Each length counts for DRIFT_PPM less than the clock said.

The best guess is the line between two fixes (drift is steady; a step between them is what it had added up to), one fix's
offset where there is only one, the edge's own belief, brought within the bounds, where there is none. Bounds that exclude
one another mean that some fix was wrong: then both stand, as far as they reach, and the quality says so.

True, and tested as a property: if every fix was within its error and no clock drifted more than DRIFT_PPM, the true time
lies within the bounds. The lake computes the same in SQL (cloud/lake/repairing.py); a test holds one against the other.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from .anchor import Anchor
from .belief import Mark, Trust
from .timekeeper import DRIFT_PPM

MILLION = 1_000_000


class TimeQuality(enum.StrEnum):
    SYNCHRONISED = (
        "synchronised"  # stamped by a synchronised clock; checked against the fixes around it
    )
    REPAIRED = "repaired"  # stamped by another, and moved to where the fixes of its boot put it
    BOUNDED = "bounded"  # its boot never knew the time: between its neighbours
    CONFLICT = "conflict"  # two fixes contradict each other: the bounds hold both
    BELIEVED = "believed"  # nothing is known of its boot: as the edge believed


class RepairedTime(NamedTuple):
    """Milliseconds since the epoch; None: no bound on that side."""

    ts_ms: int
    lo_ms: int | None
    hi_ms: int | None
    quality: TimeQuality


class Fix(NamedTuple):
    """At `boot_ms` the true offset was `offset_ms`, give or take `error_ms`."""

    boot_ms: int
    offset_ms: int
    error_ms: int

    def bounds(self, boot_ms: int) -> tuple[int, int]:
        """Of the true offset at another boot time."""
        slack = self.error_ms + drift(boot_ms - self.boot_ms)
        return self.offset_ms - slack, self.offset_ms + slack


def drift(distance_ms: int) -> int:
    return -(-abs(distance_ms) * DRIFT_PPM // MILLION)


def at_least(length_ms: int) -> int:
    """What really went by while an undisciplined clock counted so much."""
    return length_ms - drift(length_ms)


class _Boot(NamedTuple):
    fixes: list[Fix]
    length_ms: int
    after_ms: int | None  # wall: it began then or later
    before_ms: int | None  # wall: it had lasted `length_ms` by then


class Timeline:
    """Of one edge and log. `anchors` in the order of the log, which is the order of the boots."""

    def __init__(self, anchors: Iterable[Anchor]) -> None:
        fixes: dict[str, list[Fix]] = {}
        lengths: dict[str, int] = {}
        for anchor in anchors:
            found = fixes.setdefault(anchor.boot, [])
            lengths[anchor.boot] = max(lengths.get(anchor.boot, 0), anchor.boot_ms)
            if anchor.is_fix:
                found.append(Fix(anchor.boot_ms, anchor.offset_ms, anchor.error_ms))
        for boot, found in fixes.items():
            # one for each moment: of two, the later offset
            fixes[boot] = list({fix.boot_ms: fix for fix in sorted(found)}.values())
        after = _forward(fixes, lengths)
        before = _backward(fixes, lengths)
        self._boots = {
            boot: _Boot(found, lengths[boot], after[boot], before[boot])
            for boot, found in fixes.items()
        }

    def repair(self, timestamp_ms: int, mark: Mark | None) -> RepairedTime:
        """Of a record stamped `timestamp_ms` under `mark`."""
        boot = self._boots.get(mark.boot) if mark is not None else None
        if mark is None or boot is None:
            return RepairedTime(timestamp_ms, None, None, TimeQuality.BELIEVED)
        boot_ms = timestamp_ms - mark.offset_ms
        if not boot.fixes:
            return _bounded(boot, boot_ms, mark.offset_ms)
        index = bisect_right(boot.fixes, boot_ms, key=lambda fix: fix.boot_ms)
        around = boot.fixes[max(0, index - 1) : index + 1] if index else boot.fixes[:1]
        lows, highs = zip(*(fix.bounds(boot_ms) for fix in around), strict=True)
        low, high = max(lows), min(highs)
        synchronised = mark.trust is Trust.SYNCHRONISED
        quality = TimeQuality.SYNCHRONISED if synchronised else TimeQuality.REPAIRED
        if low > high:
            low, high, quality = min(lows), max(highs), TimeQuality.CONFLICT
        guess = min(max(_between(around, boot_ms), low), high)
        return RepairedTime(boot_ms + guess, boot_ms + low, boot_ms + high, quality)


def _between(around: list[Fix], boot_ms: int) -> int:
    """The offset on the line through two fixes, rounded towards the first; of one, its own."""
    first, last = around[0], around[-1]
    if last.boot_ms == first.boot_ms:
        return first.offset_ms
    rise = last.offset_ms - first.offset_ms
    part = abs(rise) * (boot_ms - first.boot_ms) // (last.boot_ms - first.boot_ms)
    return first.offset_ms + (part if rise >= 0 else -part)


def _bounded(boot: _Boot, boot_ms: int, offset_ms: int) -> RepairedTime:
    low = None if boot.after_ms is None else boot.after_ms + at_least(boot_ms)
    high = None
    if boot.before_ms is not None:
        high = boot.before_ms - at_least(max(boot.length_ms - boot_ms, 0))
    if low is None and high is None:
        return RepairedTime(boot_ms + offset_ms, None, None, TimeQuality.BELIEVED)
    quality = TimeQuality.BOUNDED
    if low is not None and high is not None and low > high:
        low, high, quality = high, low, TimeQuality.CONFLICT
    guess = boot_ms + offset_ms
    if low is not None:
        guess = max(guess, low)
    if high is not None:
        guess = min(guess, high)
    return RepairedTime(guess, low, high, quality)


def _forward(fixes: dict[str, list[Fix]], lengths: dict[str, int]) -> dict[str, int | None]:
    """Per boot: the latest wall time known to have passed when it began."""
    after: dict[str, int | None] = {}
    known: int | None = None
    for boot, found in fixes.items():
        after[boot] = known
        length = lengths[boot]
        if known is not None:
            known += at_least(length)
        if found:
            ended = length + found[-1].bounds(length)[0]
            known = ended if known is None else max(known, ended)
    return after


def _backward(fixes: dict[str, list[Fix]], lengths: dict[str, int]) -> dict[str, int | None]:
    """Per boot: the earliest wall time known to have come only after its end."""
    before: dict[str, int | None] = {}
    limit: int | None = None
    for boot in reversed(fixes):
        before[boot] = limit
        if limit is not None:
            limit -= at_least(lengths[boot])
        if found := fixes[boot]:
            began = found[0].bounds(0)[1]
            limit = began if limit is None else min(limit, began)
    return before
