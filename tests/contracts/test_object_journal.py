"""The object journal over real stores: two writers on one shard, no simulation."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from headwater.core.batch import decode_batch
from headwater.core.clock import SystemClock
from headwater.core.errors import Closed, HeadwaterError
from headwater.core.journal.objects import ObjectJournalSettings, ShardWriter
from headwater.core.objectstore import ObjectStore
from headwater.core.units import Duration
from tests.seaweed import seaweed  # noqa: F401
from tests.sim.shard import READINGS, History, numbered

from .stores import opened

KINDS = ("directory", "seaweed")
SETTINGS = ObjectJournalSettings(flush_interval=Duration(0.002), checkpoint_objects=7)


async def _open(store: ObjectStore, history: History) -> ShardWriter:
    return await ShardWriter.open(
        store, 0, state=history, settings=SETTINGS, clock=SystemClock(), rng=random.Random()
    )


async def _read_all(writer: ShardWriter) -> list[int]:
    found: list[int] = []
    at, end = writer.journal.bounds(READINGS)
    while at < end:
        for data in await writer.journal.read(READINGS, at, bytes_max=300):
            header, records = decode_batch(data)
            found += [int(record.value or b"") for record in records]
            at = header.last_offset + 1
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_writers_that_take_a_shard_from_one_another_lose_nothing(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async def main() -> None:
        async with opened(kind, tmp_path / "store", request) as store:
            acknowledged: list[int] = []
            refused: set[int] = set()
            progress = asyncio.Semaphore(0)
            numbers = iter(range(10_000))

            async def produce(writer: ShardWriter) -> None:
                while True:
                    number = next(numbers)
                    try:
                        await writer.submit(numbered(number, writer.next_offset(READINGS)))
                    except Closed:
                        refused.add(number)
                        return
                    except HeadwaterError:
                        return
                    acknowledged.append(number)
                    progress.release()

            producers: list[asyncio.Task[None]] = []
            writers: list[ShardWriter] = []
            for _ in range(3):
                writers.append(await _open(store, History()))
                producers.append(asyncio.create_task(produce(writers[-1])))
                for _ in range(15):
                    await progress.acquire()
            history = History()
            last = await _open(store, history)
            await asyncio.gather(*producers)

            log = [number for _, number, _ in history.log]
            assert sorted(set(log)) == sorted(log)
            assert set(acknowledged) <= set(log)
            assert not refused & set(log)
            assert await _read_all(last) == log
            for writer in [*writers, last]:
                await writer.close()

    asyncio.run(main())
