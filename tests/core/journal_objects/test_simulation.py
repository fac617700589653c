"""Thousands of stories of writers that take a shard from one another over a store in trouble, each from a seed.

`HEADWATER_SEED=n` runs that seed alone; `HEADWATER_SEEDS=n` that many.
"""

from __future__ import annotations

import os

import pytest

from tests.sim.shard import simulate

_SEEDS = int(os.environ.get("HEADWATER_SEEDS", "2000"))
_ONE = os.environ.get("HEADWATER_SEED")
_SHARES = 4


@pytest.mark.parametrize("share", range(_SHARES))
def test_every_acknowledged_entry_is_in_the_log_exactly_once_and_in_order(share: int) -> None:
    seeds = range(share, _SEEDS, _SHARES) if _ONE is None else [int(_ONE)]
    fenced = collected = acknowledged = 0
    for seed in seeds:
        outcome = simulate(seed)
        problems = outcome.ledger.problems
        assert not problems, f"HEADWATER_SEED={seed}: {problems[:5]}"
        fenced += outcome.ledger.fenced
        collected += outcome.ledger.collected
        acknowledged += len(outcome.ledger.acknowledged)
    if _ONE is None:  # the stories are worth telling only if these things happen in them
        assert min(fenced, collected, acknowledged) > len(seeds) // 4


@pytest.mark.parametrize("seed", range(5))
def test_the_same_seed_tells_the_same_story(seed: int) -> None:
    first, second = simulate(seed), simulate(seed)

    assert first.trace == second.trace
    assert first.log == second.log
    assert simulate(seed + 1000).trace != first.trace
