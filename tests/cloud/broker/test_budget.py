"""Bytes that may be held: nobody is over the limit, nobody waits for ever, everything comes back."""

from __future__ import annotations

import asyncio
import random

import pytest

from headwater.cloud.broker.budget import ByteBudget


def test_those_who_wait_are_served_in_turn() -> None:
    async def body() -> None:
        budget = ByteBudget(100)
        await budget.take(80)
        order: list[str] = []

        async def take(name: str, size: int) -> None:
            await budget.take(size)
            order.append(name)

        tasks = [asyncio.ensure_future(take(*ask)) for ask in (("big", 90), ("small", 10))]
        await asyncio.sleep(0)
        assert order == [], "the small one does not overtake"
        budget.give(80)
        await asyncio.gather(*tasks)
        assert order == ["big", "small"]
        assert budget.held == 100

    asyncio.run(body())


def test_one_that_is_larger_than_everything_is_let_in_alone() -> None:
    async def body() -> None:
        budget = ByteBudget(10)
        await budget.take(50)
        assert not budget.try_take(1)
        budget.give(50)
        assert budget.held == 0

    asyncio.run(body())


@pytest.mark.parametrize("seed", range(20))
def test_whoever_is_cancelled_leaves_nothing_behind(seed: int) -> None:
    async def body() -> None:
        rng = random.Random(seed)
        budget = ByteBudget(100)

        async def use() -> None:
            size = rng.randrange(1, 60)
            await budget.take(size)
            try:
                await asyncio.sleep(rng.random() / 1000)
            finally:
                budget.give(size)

        tasks = [asyncio.ensure_future(use()) for _ in range(60)]
        for _ in range(30):
            await asyncio.sleep(0)
            rng.choice(tasks).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert budget.held == 0, f"seed {seed}"

    asyncio.run(body())


def test_a_listener_is_called_once_when_there_is_room() -> None:
    budget = ByteBudget(10)
    budget.take_at_once(15)
    called: list[int] = []
    budget.call_when_free(lambda: called.append(1))
    budget.give(3)
    assert not called
    budget.give(5)
    budget.give(1)
    assert called == [1]
