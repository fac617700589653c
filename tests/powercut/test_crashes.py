"""What the device model may and may not take away."""

from __future__ import annotations

import random

import pytest

from .crashes import BLOCK, SECTOR, Fate, Model, Patch, Record, State
from .device import FLUSH, Operation


def write(block: int, blocks: int = 1, byte: int = 1) -> Operation:
    return Operation(block * BLOCK, 0, bytes([byte]) * BLOCK * blocks)


def flush() -> Operation:
    return Operation(FLUSH, 0, b"")


RECORD = Record(
    [write(0), write(1), flush(), write(2, 3), write(9), flush(), write(4)], frozenset({9})
)


def patches(cut: int, model: Model, fate: Fate, seed: int = 0) -> list[Patch]:
    return RECORD.patches(State(cut, model, fate, seed))


@pytest.mark.parametrize(
    ("cut", "flushed"), [(0, 0), (1, 0), (2, 0), (3, 3), (4, 3), (5, 3), (6, 6), (7, 6)]
)
def test_what_a_flush_covers_is_safe(cut: int, flushed: int) -> None:
    assert RECORD.flushed(cut) == flushed


@pytest.mark.parametrize("model", Model)
@pytest.mark.parametrize("fate", Fate)
def test_only_writes_since_the_flush_are_at_stake(model: Model, fate: Fate) -> None:
    for seed in range(20):
        for patch in patches(5, model, fate, seed):
            assert 2 * BLOCK <= patch.position < 5 * BLOCK or patch.position // BLOCK == 9
    assert patches(3, model, fate) == []
    assert patches(6, model, fate) == []


def test_all_kept_and_all_lost_are_what_they_say() -> None:
    assert patches(5, Model.SECTORS, Fate.LOST) == []
    assert sum(len(p.data) for p in patches(5, Model.SECTORS, Fate.KEPT)) == 4 * BLOCK


@pytest.mark.parametrize(
    ("model", "ordinary", "journal"),
    [
        (Model.BLOCKS, BLOCK, BLOCK),
        (Model.SECTORS, SECTOR, BLOCK),
        (Model.SECTORS_ALL, SECTOR, SECTOR),
    ],
)
def test_a_sector_is_as_large_as_the_model_says(model: Model, ordinary: int, journal: int) -> None:
    found = [p for seed in range(50) for p in patches(5, model, Fate.SECTORS, seed)]
    assert {len(p.data) for p in found if p.position // BLOCK != 9} == {ordinary}
    assert {len(p.data) for p in found if p.position // BLOCK == 9} == {journal}


def test_sectors_are_kept_in_every_combination() -> None:
    seen = {
        tuple(p.position // BLOCK for p in patches(4, Model.BLOCKS, Fate.SECTORS, seed))
        for seed in range(200)
    }
    assert len(seen) == 8, "three blocks, each there or not"


def test_in_order_tears_one_write_and_keeps_all_before_it() -> None:
    for seed in range(50):
        found = patches(5, Model.SECTORS, Fate.PREFIX, seed)
        assert [p.position for p in found] == sorted(p.position for p in found)
        size = sum(len(p.data) for p in found if p.position < 9 * BLOCK)
        if any(p.position // BLOCK == 9 for p in found):
            assert size == 3 * BLOCK


def test_both_sides_of_every_flush_are_among_the_states() -> None:
    states = RECORD.states(50, list(Model), random.Random(1))
    assert {2, 3, 5, 6} <= {state.cut for state in states}
    assert [s.cut for s in states] == sorted(s.cut for s in states)
    assert len(states) == 50
