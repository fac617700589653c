"""When records that were acknowledged early reach the disk, with the real rim."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from headwater.core.clock import SystemClock
from headwater.core.journal.files import Committer, FileJournal
from headwater.core.journal.files.early import EarlyRule
from headwater.core.record import TopicPartition
from tests.core.journal_files.test_real_disk import open_real

A, B = TopicPartition("a", 0), TopicPartition("b", 0)


class Rim:
    """`a` waits for at most `interval_s`, `b` is sync."""

    def __init__(self, path: Path, interval_s: float) -> None:
        self.journal: FileJournal = open_real(path, early={"a": EarlyRule(interval_s)})
        self.committer = Committer(self.journal, clock=SystemClock(), rng=random.Random(1))

    async def __aenter__(self) -> Rim:
        self.committer.start()
        self.journal.writer(A).append(1, None, b"the first is held")
        await self.committer.wait_durable(self.journal.open_commit)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.committer.close()
        self.journal.close()

    async def next_commit(self) -> int:
        heard: asyncio.Queue[int] = asyncio.Queue()
        self.committer.add_listener(heard.put_nowait)
        async with asyncio.timeout(10):
            return await heard.get()

    async def append(self, partition: TopicPartition) -> None:
        self.journal.writer(partition).append(1, None, b"v")
        self.committer.request()
        for _ in range(3):
            await asyncio.sleep(0)


def test_early_records_cause_no_commit_until_their_interval_is_over(tmp_path: Path) -> None:
    async def run() -> None:
        async with Rim(tmp_path, 0.5) as rim:
            for _ in range(20):
                await rim.append(A)
            assert rim.journal.bounds(A).end == 1
            commit = rim.journal.open_commit
            assert await rim.next_commit() == commit
            assert rim.journal.bounds(A).end == 21

    asyncio.run(run())


def test_a_sync_record_takes_them_along(tmp_path: Path) -> None:
    async def run() -> None:
        async with Rim(tmp_path, 3600) as rim:
            await rim.append(A)
            rim.journal.writer(B).append(1, None, b"v")
            rim.committer.request()
            await rim.next_commit()
            assert rim.journal.bounds(A).end == 2

    asyncio.run(run())


def test_whoever_waits_for_the_commit_gets_it_at_once(tmp_path: Path) -> None:
    async def run() -> None:
        async with Rim(tmp_path, 3600) as rim:
            await rim.append(A)
            async with asyncio.timeout(10):
                await rim.committer.wait_durable(rim.journal.open_commit)
            assert rim.journal.bounds(A).end == 2

    asyncio.run(run())


def test_an_orderly_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    async def run() -> None:
        async with Rim(tmp_path, 3600) as rim:
            await rim.append(A)

    asyncio.run(run())
    journal = open_real(tmp_path, early={"a": EarlyRule(3600)})
    assert journal.bounds(A) == (0, 2)
    assert not journal.recovery.volatile
    journal.close()


def test_after_an_orderly_stop_damage_to_the_last_records_is_told(tmp_path: Path) -> None:
    """Without the mark at the end it would look like a torn write that was never acknowledged."""

    async def run() -> int:
        async with Rim(tmp_path, 3600) as rim:
            rim.journal.writer(B).append(1, None, b"the last record before the end")
            await rim.committer.wait_durable(rim.journal.open_commit)
        return rim.journal.appender.counters.commits

    asyncio.run(run())
    (segment,) = (tmp_path / "journal").glob("*.segment")
    data = bytearray(segment.read_bytes())
    data[data.index(b"the last record before")] ^= 1
    segment.write_bytes(data)
    journal = open_real(tmp_path, early={"a": EarlyRule(3600)})
    assert journal.recovery.damage
    assert any(loss.partition == B for loss in journal.recovery.losses) or (
        journal.writer(B).next_offset > 0
    ), "known as damage: told, or at least never given again"
    journal.close()
