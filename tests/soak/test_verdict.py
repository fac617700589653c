"""The verdict can say no: a planted leak is found in noise, noise alone is not called one."""

from __future__ import annotations

import random

import pytest

from .verdict import Limit, judge, sparkline

MIB = 1 << 20
LIMIT = Limit(6 * MIB, 0.10, 80 * MIB)


def series(
    seed: int, *, hours: float = 4.0, leak_an_hour: float = 0.0, noise: float = 2 * MIB
) -> list[tuple[float, float]]:
    """45 MiB with noise, a saw-tooth of caches, and now and then a spike; a sample in ten seconds."""
    rng = random.Random(seed)
    points = []
    for number in range(int(hours * 360)):
        at = number * 10.0
        value = 45 * MIB + leak_an_hour * at / 3600 + rng.gauss(0, noise) + (number % 37) * 40_000
        if rng.random() < 0.03:
            value += rng.uniform(5, 20) * MIB
        points.append((at, value))
    return points


@pytest.mark.parametrize("seed", range(5))
def test_noise_with_spikes_is_flat(seed: int) -> None:
    found = judge(series(seed), LIMIT, warm_up_s=600)
    assert found.holds, found


@pytest.mark.parametrize("seed", range(5))
def test_a_leak_of_two_mebibytes_an_hour_is_found(seed: int) -> None:
    found = judge(series(seed, leak_an_hour=2 * MIB), LIMIT, warm_up_s=600)
    assert not found.flat, found
    assert found.growth == pytest.approx(2 * MIB * found.hours, rel=0.15)


def test_what_a_short_run_can_see_is_said() -> None:
    short, long = (judge(series(1, hours=hours), LIMIT, warm_up_s=60) for hours in (0.25, 4))
    assert short.smallest_leak_an_hour > 10 * long.smallest_leak_an_hour
    leak = 1.3 * short.smallest_leak_an_hour
    assert not judge(series(1, hours=0.25, leak_an_hour=leak), LIMIT, warm_up_s=60).flat


def test_growth_before_the_warm_up_is_over_is_none() -> None:
    grown = [(at, value - max(0.0, 600 - at) * 50_000) for at, value in series(2)]
    assert judge(grown, LIMIT, warm_up_s=600).holds
    assert not judge(grown[:120], LIMIT, warm_up_s=0).flat


def test_the_ceiling_holds_at_every_moment() -> None:
    points = [*series(3, noise=0)[:200]]
    points[5] = (points[5][0], 81.0 * MIB)
    found = judge(points, LIMIT, warm_up_s=600)
    assert found.flat
    assert not found.holds


def test_too_few_points_are_no_proof() -> None:
    assert not judge(series(4)[:5], LIMIT, warm_up_s=0).holds


def test_one_descriptor_leaked_a_minute_is_found() -> None:
    rng = random.Random(7)
    flat = [(n * 10.0, 60.0 + rng.randrange(25)) for n in range(360)]
    leaking = [(at, value + at / 60) for at, value in flat]
    assert judge(flat, Limit(10), warm_up_s=300).holds
    assert not judge(leaking, Limit(10), warm_up_s=300).holds


def test_a_curve_spans_its_values() -> None:
    assert sparkline([1, 2, 3]) == "▁▄█"
    assert sparkline([2, 2]) == "▁▁"
    line = sparkline([float(n) for n in range(1000)])
    assert len(line) == 60
    assert line[0] == "▁"
    assert line[-1] == "█"
