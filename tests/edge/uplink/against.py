"""A body of a test against each broker: Headwater's cloud, and Apache Kafka where its jars are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.cloud.broker.running import run, started
from tests.interop.apache.broker import JARS, ApacheKafka

APACHE = [
    pytest.mark.interop,
    pytest.mark.skipif(not JARS.exists(), reason="Apache Kafka's jars are not here"),
]
BROKERS = ["headwater", pytest.param("apache", marks=APACHE)]


@contextlib.asynccontextmanager
async def _broker(kind: str, directory: Path) -> AsyncIterator[int]:
    if kind == "headwater":
        async with started() as running:
            yield running.broker.port
        return
    kafka = ApacheKafka(directory)
    await asyncio.to_thread(kafka.format)
    try:
        await asyncio.to_thread(kafka.start)
        yield kafka.port
    finally:
        await asyncio.to_thread(kafka.kill)


def against(kind: str, directory: Path, body: Callable[[int], Awaitable[None]]) -> None:
    async def scenario() -> None:
        async with _broker(kind, directory) as port:
            await body(port)

    run(scenario())
