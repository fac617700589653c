"""Time to empty: by pace, rate, window and budget, and never where it never will be."""

from __future__ import annotations

import pytest

from headwater.edge.uplink.forecast import Mean, Rules, seconds_to_empty
from headwater.edge.uplink.windows import DAY_S, Windows

HOUR_S = 3600
ALWAYS = Windows.parse("")
NIGHT = Windows.parse("01:00-05:00")


def _rules(
    *,
    budget: int | None = None,
    left: int = 0,
    hour: float | None = 12,
    windows: Windows = ALWAYS,
    is_open: bool | None = None,
) -> Rules:
    second = None if hour is None else hour * HOUR_S
    opened = windows.is_open(int(second or 0)) if is_open is None else is_open
    return Rules(budget, left, DAY_S - (second or 0), windows, opened, second)


def test_without_rules_it_is_size_by_net_pace() -> None:
    assert seconds_to_empty(0, 0, 0, _rules()) == 0
    assert seconds_to_empty(100_000, 1000, 0, _rules()) == 100
    assert seconds_to_empty(100_000, 1000, 500, _rules()) == 200
    assert seconds_to_empty(100_000, 0, 0, _rules()) is None
    assert seconds_to_empty(100_000, 1000, 1000, _rules()) is None, "it never catches up"
    assert seconds_to_empty(100, 1000, 1000, _rules()) == 0.1, "what is under way is no backlog"


def test_a_closed_window_is_waited_for() -> None:
    rules = _rules(windows=NIGHT)
    assert seconds_to_empty(3600, 1, 0, rules) == 13 * HOUR_S + 3600
    # four hours a night: the rest in the next one
    assert seconds_to_empty(5 * HOUR_S, 1, 0, rules) == (13 + 24 + 1) * HOUR_S
    inside = _rules(windows=NIGHT, hour=4)
    assert seconds_to_empty(2 * HOUR_S, 1, 0, inside) == (1 + 20 + 1) * HOUR_S


def test_what_arrives_while_it_is_closed_has_to_be_sent_too() -> None:
    rules = _rules(windows=NIGHT)
    left = seconds_to_empty(0.5 * HOUR_S, 1, 0.1, rules)
    assert left == pytest.approx((13 + (0.5 + 1.3) / 0.9) * HOUR_S, rel=0.001)


def test_a_budget_is_spent_day_by_day() -> None:
    rules = _rules(budget=1000, left=500)
    assert seconds_to_empty(400, 10, 0, rules) == 40
    assert seconds_to_empty(1500, 10, 0, rules) == pytest.approx(12 * HOUR_S + 100, abs=1)
    assert seconds_to_empty(2500, 10, 0, rules) == pytest.approx(36 * HOUR_S + 100, abs=1)
    spent = _rules(budget=1000, left=0)
    assert seconds_to_empty(10, 10, 0, spent) == pytest.approx(12 * HOUR_S + 1, abs=1)


def test_a_budget_smaller_than_what_arrives_is_never_enough() -> None:
    assert seconds_to_empty(1_000_000, 100, 0.1, _rules(budget=8_000, left=8_000)) is None


def test_a_window_that_waits_for_a_clock_has_no_end() -> None:
    rules = _rules(windows=NIGHT, hour=None, is_open=False)
    assert seconds_to_empty(100, 10, 0, rules) is None


def test_a_mean_skips_what_says_nothing() -> None:
    mean = Mean()
    for second in range(100):
        mean.observe(100.0 * second, float(second))
    assert mean.per_second == pytest.approx(100)
    for second in range(100, 400):
        mean.observe(9_900.0, float(second), counts=False)
    assert mean.per_second == pytest.approx(100)
    for second in range(400, 600):
        mean.observe(9_900.0, float(second))
    assert mean.per_second is not None
    assert mean.per_second < 1
