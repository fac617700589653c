"""The real daemon: twenty thousand messages for a subscriber that is away cost no memory, and all come when it is back."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiomqtt
import psutil
import pytest

MESSAGES = 20_000
# What the process may grow while they are published: twice what it grows by serving any publisher, and a tenth of
# what they would take in memory.
GROWTH_MIB = 6.0


def kept(port: int) -> aiomqtt.Client:
    return aiomqtt.Client("127.0.0.1", port, identifier="away", clean_session=False)


async def publish(port: int, first: int, count: int) -> None:
    async with aiomqtt.Client("127.0.0.1", port, identifier="publisher") as client:
        client.pending_calls_threshold = count
        for start in range(first, first + count, 500):
            await asyncio.gather(
                *(
                    client.publish("a/b", b"%06d" % number + bytes(94), qos=1)
                    for number in range(start, min(start + 500, first + count))
                )
            )


async def subscribe_and_leave(port: int) -> None:
    async with kept(port) as client:
        await client.subscribe("a/#", qos=1)


async def publish_measured(port: int, process: psutil.Process) -> None:
    await publish(port, 0, 2000)
    before = process.memory_info().rss
    await publish(port, 2000, MESSAGES - 2000)
    grown = (process.memory_info().rss - before) / 2**20
    assert grown < GROWTH_MIB, f"{grown:.1f} MiB more"


async def return_and_take(port: int, process: psutil.Process) -> None:
    before = process.memory_info().rss
    got: list[int] = []
    async with kept(port) as client, asyncio.timeout(120):
        async for message in client.messages:
            got.append(int(bytes(message.payload)[:6]))
            if len(got) == MESSAGES:
                break
    assert got == list(range(MESSAGES))
    grown = (process.memory_info().rss - before) / 2**20
    assert grown < GROWTH_MIB + 8.0, f"{grown:.1f} MiB more"  # the replay's own budget


@contextmanager
def daemon(folder: Path) -> Iterator[tuple[int, psutil.Process]]:
    with subprocess.Popen(
        [
            sys.executable, "-m", "headwater", "edge", "--name", "t",
            "--data-dir", str(folder), "--mqtt", "127.0.0.1:0", "--http", "none",
        ],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            port = 0
            while not port:
                line = process.stderr.readline()
                assert line, "the daemon ended"
                if "edge ready" in line:
                    found = re.search(r"mqtt\W+127\.0\.0\.1:(\d+)", line)
                    assert found is not None, line
                    port = int(found[1])
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(30)


@pytest.mark.parametrize("killed", [False, True])
def test_an_absent_subscriber_costs_the_daemon_no_memory_and_gets_everything_in_order(
    tmp_path: Path, killed: bool
) -> None:
    with daemon(tmp_path) as (port, process):
        asyncio.run(subscribe_and_leave(port))
        asyncio.run(publish_measured(port, process))
        if not killed:
            asyncio.run(return_and_take(port, process))
            return
        process.kill()
    with daemon(tmp_path) as (port, process):
        asyncio.run(return_and_take(port, process))
