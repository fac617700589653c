"""Batches where the topic's limit of bytes is below ours."""

from __future__ import annotations

import random

import pytest

from headwater.core.kafka.errors import ErrorCode
from headwater.edge.uplink.cursor import Era
from headwater.edge.uplink.sizing import Sizing
from headwater.edge.uplink.supply import Cut

ERA = Era(7, 0, 0)


def _cut(count: int, size: int) -> Cut:
    return Cut(0, count, ERA, bytes(size))


@pytest.mark.parametrize("limit", [900, 50_000, 700_000])
def test_what_is_wasted_on_refusals_is_little(limit: int) -> None:
    rng, sizing = random.Random(1), Sizing(10_000)
    taken = refused = 0
    for turn in range(3000):
        if turn == 50:
            taken = refused = 0  # it has found its way down
        cut = _cut(sizing.records, int(sizing.records * 100 * rng.uniform(0.98, 1.02)))
        if len(cut.payload) > limit:
            refused += len(cut.payload) * 5  # with those in flight behind it
            sizing.refused(cut, ErrorCode.MESSAGE_TOO_LARGE)
        else:
            taken += len(cut.payload)
            sizing.accepted(cut)
    assert refused < taken / 20
    assert sizing.records * 100 > limit * 0.7, "and batches are as large as they may be"


def test_smaller_records_are_many_again_soon() -> None:
    sizing = Sizing(10_000)
    sizing.refused(_cut(8, 1_600_000), ErrorCode.MESSAGE_TOO_LARGE)
    turns = 0
    while sizing.records * 60 < 700_000 and sizing.records < 10_000:
        sizing.accepted(_cut(sizing.records, sizing.records * 60))
        turns += 1
    assert turns < 20


def test_what_is_refused_for_what_it_is_says_nothing_about_size() -> None:
    sizing = Sizing(64)
    for count in (64, 32, 16, 8, 4, 2):
        sizing.refused(_cut(count, count * 100), ErrorCode.INVALID_RECORD)
    for _ in range(6):
        sizing.accepted(_cut(sizing.records, sizing.records * 100))
    assert sizing.records == 64


def test_a_trickle_does_not_forget_the_limit() -> None:
    sizing = Sizing(1000)
    sizing.refused(_cut(1000, 100_000), ErrorCode.MESSAGE_TOO_LARGE)
    for _ in range(100):
        sizing.accepted(_cut(3, 300))
    assert sizing.records == 500
