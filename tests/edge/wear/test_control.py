"""The pace of commits against a budget, simulated: a day has 1,440 steps, a commit costs a padded frame."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from headwater.edge.wear.control import DAY_S, STEP_S, PaceControl

MIB = 1024 * 1024


def written(interval_s: float, rate: float, seconds: float, *, sync_s: float = 0.005) -> int:
    """Bytes of log for `rate` records of 150 bytes a second: frames of whole blocks, one per commit."""
    per_second = min(rate, 1 / max(interval_s, sync_s))
    if not per_second:
        return 0
    frame = -(-int(56 + rate / per_second * 150) // 4096) * 4096
    return int(per_second * seconds * frame)


def live(
    control: PaceControl,
    *,
    days: float,
    rate: Callable[[float], float],
    others: float = 0.0,
    budget: float,
) -> list[tuple[float, int]]:
    """(interval, bytes of all) of each step."""
    steps = []
    for index in range(int(days * DAY_S / STEP_S)):
        ours = written(control.interval_s, rate(index * STEP_S), STEP_S)
        total = ours + int(others * STEP_S)
        control.step(STEP_S, ours=ours, total=total, budget_per_day=budget)
        assert control.floor_s <= control.interval_s <= control.ceiling_s
        steps.append((control.interval_s, total))
    return steps


def per_day(steps: list[tuple[float, int]]) -> float:
    return sum(total for _, total in steps) / (len(steps) * STEP_S) * DAY_S


@pytest.mark.parametrize("rate", [0.5, 10.0, 300.0])
@pytest.mark.parametrize("budget", [200 * MIB, 1024 * MIB, 8192 * MIB])
def test_a_budget_that_can_be_kept_is_kept_and_used(rate: float, budget: int) -> None:
    control = PaceControl(floor_s=0.0, ceiling_s=30.0)
    steps = live(control, days=6, rate=lambda _: rate, budget=budget)
    least = written(30.0, rate, DAY_S)
    most = written(0.0, rate, DAY_S)
    spent = per_day(steps[1440:])  # the first day begins without a measure
    if least > budget:
        assert control.strained
        assert control.interval_s == 30.0
        return
    assert spent <= budget * 1.1
    assert not control.strained
    assert spent >= min(most, budget) * 0.7, "the budget is there to be used: acks wait no longer"


def test_with_room_in_the_budget_nothing_waits() -> None:
    control = PaceControl(floor_s=0.0, ceiling_s=5.0)
    live(control, days=1, rate=lambda _: 5.0, budget=10 * 1024 * MIB)
    assert control.interval_s == 0.0
    assert PaceControl(floor_s=0.2, ceiling_s=0.1).ceiling_s == 0.2, "the owner's floor stands"


def test_without_a_budget_the_floor_stands() -> None:
    control = PaceControl(floor_s=0.05, ceiling_s=5.0)
    control.step(STEP_S, ours=10**9, total=10**9, budget_per_day=None)
    assert control.interval_s == 0.05


def test_a_burst_may_use_what_a_quiet_day_left() -> None:
    budget = 500 * MIB
    control = PaceControl(floor_s=0.0, ceiling_s=30.0)
    live(control, days=1, rate=lambda _: 0.0, budget=budget)
    rested = live(control, days=0.1, rate=lambda _: 20.0, budget=budget)
    control = PaceControl(floor_s=0.0, ceiling_s=30.0)
    tired = live(control, days=0.1, rate=lambda _: 20.0, budget=budget)
    assert sum(interval for interval, _ in rested) < 0.8 * sum(interval for interval, _ in tired)


def test_what_others_write_is_left_out_of_ours() -> None:
    budget = 1000 * MIB
    control = PaceControl(floor_s=0.0, ceiling_s=30.0)
    steps = live(control, days=4, rate=lambda _: 10.0, others=0.5 * budget / DAY_S, budget=budget)
    assert per_day(steps[1440:]) <= budget * 1.1
    control = PaceControl(floor_s=0.0, ceiling_s=30.0)
    live(control, days=2, rate=lambda _: 10.0, others=3 * budget / DAY_S, budget=budget)
    assert control.strained, (
        "others alone overrun it: said, and the acks wait no longer than they may"
    )


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_load_the_budget_holds_over_days(seed: int) -> None:
    rng = random.Random(seed)
    budget = 1500 * MIB
    loads = [rng.choice((0.0, 1.0, 20.0, 200.0)) for _ in range(24 * 12)]
    control = PaceControl(floor_s=0.0, ceiling_s=60.0)
    steps = live(control, days=12, rate=lambda at: loads[int(at // 3600)], budget=budget)
    for first, second in itertools.pairwise(range(0, len(steps) + 1, 1440 * 3)):
        assert per_day(steps[first:second]) <= budget * 1.45, "a day's credit at most on top"


def test_a_pace_that_never_moves_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PaceControl, "_move", lambda _control, _excess: None)
    control = PaceControl(floor_s=0.0, ceiling_s=30.0)
    steps = live(control, days=3, rate=lambda _: 10.0, budget=200 * MIB)
    assert per_day(steps) > 200 * MIB * 2
