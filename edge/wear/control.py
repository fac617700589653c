"""The pace of commits that keeps a budget of bytes a day. Sans-I/O: measured rates and seconds come in, an interval out.

A commit costs a padded frame whatever it holds, so at sensor rates the bytes written go with one over the interval: that
is the one thing that can be traded. The promise is not: an acknowledgement still means disk, it only comes later.

    credit   grows with the budget, shrinks with what was written, never beyond a day's worth either way: a busy hour may use
             what a quiet day left, and a debt older than a day is forgiven (the account, which spreads what is left of the
             card over what is left of its time, remembers it)
    target   the budget's rate, up to twice of it with a day's credit, down to a tenth with a day's debt
    ours     what we may write: the target less what others write to the same device, but never below `OURS_MIN` of it
    interval follows measured / allowed, by a factor of two a step at most, within [floor, ceiling]
Where the ceiling does not help, `strained` says so; nothing else happens.
"""

from __future__ import annotations

DAY_S = 86_400.0
# One look: long enough that a burst is not a trend, short enough that a day's budget is not gone before it is noticed.
STEP_S = 60.0
# Below it commits come as fast as the disk syncs: no interval at all, or a tiny one, costs the same.
INTERVAL_MIN_S = 0.01
OURS_MIN = 0.1
_LATEST = 0.3  # weight of the newest step in the measured rates: about the last five minutes


class PaceControl:
    """`interval_s` is what the committer should keep now."""

    def __init__(self, *, floor_s: float, ceiling_s: float, credit: float = 0.0) -> None:
        self.floor_s = floor_s
        self.ceiling_s = max(floor_s, ceiling_s)
        self.interval_s = floor_s
        self.credit = credit
        self.strained = False
        self._ours: float | None = None  # bytes a second
        self._all = 0.0

    def limit(self, ceiling_s: float) -> None:
        """How long acknowledgements may wait from now on."""
        self.ceiling_s = max(self.floor_s, ceiling_s)
        self.interval_s = min(self.interval_s, self.ceiling_s)

    def step(self, seconds: float, *, ours: int, total: int, budget_per_day: float | None) -> float:
        """`ours` of `total` bytes were written to the device in the last `seconds`; the interval from now on."""
        if seconds <= 0:
            return self.interval_s
        if budget_per_day is None:
            self.strained, self.interval_s = False, self.floor_s
            return self.interval_s
        budget = budget_per_day / DAY_S
        self.credit += budget * seconds - total
        self.credit = min(max(self.credit, -budget_per_day), budget_per_day)
        self._measure(ours / seconds, max(total, ours) / seconds)
        target = budget * min(max(1 + self.credit / budget_per_day, 0.1), 2.0)
        assert self._ours is not None
        allowed = max(target - (self._all - self._ours), OURS_MIN * target)
        self._move(self._ours / allowed)
        self.strained = self.interval_s >= self.ceiling_s and self._all > target
        return self.interval_s

    def _measure(self, ours: float, total: float) -> None:
        if self._ours is None:
            self._ours, self._all = ours, total
        self._ours += _LATEST * (ours - self._ours)
        self._all += _LATEST * (total - self._all)

    def _move(self, excess: float) -> None:
        wanted = max(self.interval_s, INTERVAL_MIN_S) * min(max(excess, 0.5), 2.0)
        wanted = min(max(wanted, self.floor_s), self.ceiling_s)
        self.interval_s = self.floor_s if wanted <= INTERVAL_MIN_S else wanted
