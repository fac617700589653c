"""Exactly once, in order, under everything the world can do to one partition: thousands of seeds.

`HEADWATER_SEED=n` reruns one; `HEADWATER_SEEDS=n` runs more of them.
"""

from __future__ import annotations

import os

import pytest

from .simulation import World

STEPS = 150
CHUNKS = 10


def _run(seed: int) -> World:
    world = World(seed)
    for _ in range(STEPS):
        world.step()
    world.heal()
    world.check()
    return world


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_record_arrives_exactly_once_in_order(chunk: int) -> None:
    if (only := os.environ.get("HEADWATER_SEED")) is not None:
        _run(int(only))
        return
    seeds = int(os.environ.get("HEADWATER_SEEDS", "3000")) // CHUNKS
    for seed in range(chunk * seeds, (chunk + 1) * seeds):
        try:
            _run(seed)
        except AssertionError as error:
            raise AssertionError(f"HEADWATER_SEED={seed}: {error}") from error


def test_the_same_seed_is_the_same_run() -> None:
    assert _run(7).broker.log == _run(7).broker.log
