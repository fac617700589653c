"""Outages with a backlog that is filled in behind live data, edge and cloud killed in the middle of it: the lake is exact.

Set HEADWATER_SEED to repeat a run's kill moments.
"""

from __future__ import annotations

import os
import random
from functools import partial
from pathlib import Path

import pytest

from .world import World

pytestmark = [pytest.mark.crash, pytest.mark.timeout(480)]

# A backlog is history from a handful of records on, and travels slowly enough to be interrupted.
SPLIT_RECORDS = "50"
LANES = {
    "HEADWATER_EDGE__UPLINK_OPTIONS__SPLIT_RECORDS": SPLIT_RECORDS,
    "HEADWATER_EDGE__UPLINK_OPTIONS__BATCH_RECORDS_MAX": "10",
    "HEADWATER_EDGE__UPLINK_OPTIONS__LINGER": "20ms",
}


@pytest.fixture
def seed() -> int:
    return int(os.environ.get("HEADWATER_SEED", random.SystemRandom().randrange(1_000_000)))


def outages(world: World, *, rounds: int) -> None:
    """The cloud is away until a backlog stands; while it fills in behind live data, edge and cloud are killed again."""
    world.more_is_acknowledged()
    for turn in range(rounds):
        before = split(world)
        world.kill("cloud")
        world.more_is_acknowledged(600)  # the edge needs nobody
        if turn % 2:
            world.kill("edge")
            world.restart("edge")
            world.more_is_acknowledged(50)
        world.restart("cloud")
        world.river.daemons["cloud"].wait_ready()
        if not turn:
            world.until(lambda: split(world) > 0)
        # After a kill the cursor may be older than the cloud: a live range that has sent nothing, as far as the edge
        # knows, opens no other before it has read back. So few records may all be up before the next look.
        world.until(partial(serves_live_data, world, before))
        world.live(0.0, 1.0)  # in the middle of filling in, or just after
        for tier in world.rng.sample(("edge", "cloud", "sink"), 2):
            world.kill(tier)
            world.live(0.0, 0.2)
            world.restart(tier)
        world.more_is_acknowledged(50)


def caught_up(world: World) -> bool:
    """No partition is far behind any more: live data wait for nothing."""
    samples = world.river.daemons["edge"].metrics()
    behind = [
        count
        for name, count in samples.items()
        if name.startswith("headwater_uplink_backlog_records{")
    ]
    return bool(behind) and max(behind) <= int(SPLIT_RECORDS)


def serves_live_data(world: World, before: int) -> bool:
    """Beside the backlog, or nothing is left of it; `before`: lanes opened before this outage."""
    return split(world) > before or caught_up(world)


def split(world: World) -> int:
    """How often live lanes were opened beside a backlog."""
    log = world.river.directory.joinpath("edge.log").read_text(encoding="utf-8", errors="replace")
    return log.count("live data beside the backlog")


def test_a_backlog_interrupted_while_it_fills_in_behind_live_data_is_exact(
    tmp_path: Path, seed: int
) -> None:
    with World(tmp_path, seed, environment=LANES) as world:
        outages(world, rounds=4)
        world.finish()
        assert split(world), "the story never had two lanes"
