"""The fleet's account, kept against a real broker of somebody else's that is killed under it."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from headwater.core.clock import SystemClock
from headwater.demo.fleet import Fleet
from tests.bench.contenders import start_mosquitto
from tests.requirements import program

pytestmark = pytest.mark.interop


def test_a_killed_broker_leaves_only_what_was_in_flight_in_doubt(tmp_path: Path) -> None:
    program("mosquitto")
    running = start_mosquitto(tmp_path, persistence=False)
    fleet = Fleet(10, port=running.port, clock=SystemClock(), rng=random.Random(1))
    account = fleet.account

    async def acknowledged(count: int) -> None:
        async with asyncio.timeout(20):
            while len(account.acknowledged) < count:  # noqa: ASYNC110 - the account tells nobody
                await asyncio.sleep(0.01)

    async def tell() -> None:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fleet.run(stop))
            await acknowledged(50)
            running.daemon.kill()
            running.daemon.start()
            await acknowledged(len(account.acknowledged) + 50)
            stop.set()

    try:
        asyncio.run(tell())
    finally:
        running.daemon.close()
    assert account.acknowledged <= set(account.sent)
    assert set(account.sent.values()) == {1}, "nothing is sent twice"
    assert len(account.uncertain) <= 11, "one message of each client can be in flight"
    topics = {topic for topic, _ in account.acknowledged}
    assert len([topic for topic in topics if topic.startswith("site/")]) == 10
    assert any(topic.startswith("machine/") for topic in topics), "this machine's own readings"
