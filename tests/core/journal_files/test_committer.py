"""The asyncio rim: group commit by itself, stalls with a reason, two-phase retention."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from headwater.core.batch import decode_batch
from headwater.core.clock import SystemClock
from headwater.core.errors import Closed, Unavailable
from headwater.core.journal.files import (
    Committer,
    FileJournal,
    FileJournalSettings,
    Loss,
    Position,
    StreamRetention,
    WhenFull,
    compaction,
)
from headwater.core.journal.files.committer import STEPS_MAX
from headwater.core.record import GAPS_STREAM, Record, TopicPartition
from headwater.core.units import KIB, ByteSize, Duration
from tests.core.journal_files.oracle import SMALL
from tests.core.journal_files.test_real_disk import open_real

A = TopicPartition("a", 0)


CROWDED = FileJournalSettings(
    segment_bytes=ByteSize(64 * KIB),
    bytes_max=ByteSize(10 * 64 * KIB),
    record_bytes_max=ByteSize(24 * KIB),
    commit_bytes_max=ByteSize(24 * KIB),
    spares=1,
)
GAPS = TopicPartition(GAPS_STREAM, 0)
DROPPING = {"a": StreamRetention(when_full=WhenFull.DROP_OLDEST)}


class Rim:
    """A journal and its committer, for the asyncio tests."""

    def __init__(self, path: Path, settings: FileJournalSettings = SMALL) -> None:
        self.journal = open_real(path, settings)
        self.committer = Committer(self.journal, clock=SystemClock(), rng=random.Random(1))

    async def __aenter__(self) -> Rim:
        self.committer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.committer.close()
        self.journal.close()


async def fill(rim: Rim) -> None:
    while rim.journal.full is None:
        rim.journal.writer(A).append(1, None, bytes(15000))
        await rim.committer.wait_durable(rim.journal.open_commit)


def test_listeners_hear_each_commit_once_and_in_order(tmp_path: Path) -> None:
    async def run() -> None:
        heard: list[int] = []
        async with Rim(tmp_path) as rim:
            rim.committer.add_listener(heard.append)
            for _ in range(50):
                rim.journal.writer(A).append(1, None, b"v")
                await rim.committer.wait_durable(rim.journal.open_commit)
        assert heard == list(range(heard[0], heard[0] + 51)), "fifty, and the mark of the end"

    asyncio.run(run())


def test_what_arrives_during_a_sync_shares_the_next_one(tmp_path: Path) -> None:
    async def run() -> None:
        async with Rim(tmp_path) as rim:
            gate = threading.Event()
            blocked = asyncio.ensure_future(rim.committer.run(gate.wait))
            await asyncio.sleep(0)
            commits = set()
            for _ in range(100):
                rim.journal.writer(A).append(1, None, b"v")
                commits.add(rim.journal.open_commit)
                rim.committer.request()
                await asyncio.sleep(0)
            assert len(commits) <= 2
            assert rim.journal.bounds(A).end == 0, "nothing is readable before its sync"
            gate.set()
            await blocked
            await rim.committer.wait_durable(max(commits))
            assert rim.journal.bounds(A).end == 100
            assert rim.journal.counters.commits <= 2

    asyncio.run(run())


def test_close_commits_what_is_pending(tmp_path: Path) -> None:
    async def run() -> None:
        async with Rim(tmp_path) as rim:
            for _ in range(10):
                rim.journal.writer(A).append(1, None, b"v")

    asyncio.run(run())
    journal = open_real(tmp_path)
    assert journal.bounds(A) == (0, 10)
    journal.close()


class FailingWrites:
    """Stands before a commit's write and refuses as long as told to."""

    def __init__(self, journal: FileJournal) -> None:
        self.refusing = True
        self.attempts = 0
        self.refused = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._write = journal.appender.write_frame
        journal.appender.write_frame = self  # type: ignore[method-assign]

    def __call__(self, frame: object) -> None:
        self.attempts += 1
        if self.refusing:
            self._loop.call_soon_threadsafe(self.refused.set)
            raise Unavailable("cannot write: /x: no space left on device")
        self._write(frame)  # type: ignore[arg-type]


def test_a_refusing_disk_stalls_with_its_reason_and_goes_on_by_itself(tmp_path: Path) -> None:
    quick = FileJournalSettings(stall_pause=Duration(0.01))

    async def run() -> None:
        async with Rim(tmp_path, quick) as rim:
            disk = FailingWrites(rim.journal)
            rim.journal.writer(A).append(1, None, b"v")
            commit = rim.journal.open_commit
            waiting = asyncio.ensure_future(rim.committer.wait_durable(commit))
            await disk.refused.wait()
            disk.refused.clear()
            await disk.refused.wait()  # a second attempt: the first one's reason is out by now
            assert rim.committer.stalled is not None
            assert "no space left" in rim.committer.stalled
            assert rim.journal.pending_bytes > 0
            disk.refusing = False
            await waiting
            assert rim.committer.stalled is None
            assert rim.journal.pending_bytes == 0
            assert rim.journal.bounds(A).end == 1

    asyncio.run(run())


def test_a_directory_that_was_moved_away_is_waited_for(tmp_path: Path) -> None:
    async def run() -> None:
        async with Rim(tmp_path) as rim:
            rim.journal.writer(A).append(1, None, b"v")
            await rim.committer.wait_durable(rim.journal.open_commit)
            (tmp_path / "journal").rename(tmp_path / "elsewhere")
            async with asyncio.timeout(10):
                while rim.committer.stalled is None:
                    rim.journal.writer(A).append(1, None, bytes(15000))
                    rim.committer.request()
                    await asyncio.sleep(0)
            assert "no such file" in rim.committer.stalled
            (tmp_path / "elsewhere").rename(tmp_path / "journal")
            async with asyncio.timeout(10):
                await rim.committer.wait_durable(rim.journal.open_commit)
            assert rim.committer.stalled is None
            assert not rim.journal.take_losses()

    asyncio.run(run())


def test_closing_while_the_disk_refuses_says_what_was_not_committed(tmp_path: Path) -> None:
    async def run() -> None:
        rim = Rim(tmp_path)
        rim.committer.start()
        disk = FailingWrites(rim.journal)
        rim.journal.writer(A).append(1, None, b"v")
        waiting = asyncio.ensure_future(rim.committer.wait_durable(rim.journal.open_commit))
        await disk.refused.wait()
        with pytest.raises(Unavailable, match="1 records were not committed"):
            await rim.committer.close()
        with pytest.raises(Closed):
            await waiting
        rim.journal.close()

    asyncio.run(run())


def test_gap_records_are_durable_before_anything_is_dropped(tmp_path: Path) -> None:
    async def run() -> None:
        async with Rim(tmp_path, CROWDED) as rim:
            journal = rim.journal
            await fill(rim)
            order: list[str] = []

            def declare(losses: Sequence[Loss]) -> None:
                order.append("declared")
                assert journal.bounds(A).start == 0
                for loss in losses:
                    journal.append(GAPS, Record(1, None, repr(loss).encode()))

            carried_out = journal.appender.retire

            def retire(sequences: list[int]) -> None:
                order.append(f"retired with {journal.bounds(GAPS).end} gap records durable")
                carried_out(sequences)

            journal.appender.retire = retire  # type: ignore[method-assign]
            losses = await rim.committer.enforce_retention(
                0,
                rules=DROPPING,
                sent={A: 0},
                declare=declare,
            )
            assert order == ["declared", f"retired with {len(losses)} gap records durable"]
            assert losses[-1].last + 1 == journal.bounds(A).start
            assert journal.full is None

    asyncio.run(run())


@pytest.mark.parametrize("turns", range(6))
def test_what_was_declared_is_given_up_however_soon_the_end_comes(
    tmp_path: Path, turns: int
) -> None:
    """An orderly stop cancels whoever makes room: a gap record of what is still there would tell a loss that is none."""
    declared: list[Loss] = []

    async def run() -> None:
        async with Rim(tmp_path, CROWDED) as rim:
            journal = rim.journal
            await fill(rim)
            told = asyncio.Event()

            def declare(losses: Sequence[Loss]) -> None:
                declared.extend(losses)
                told.set()
                for loss in losses:
                    journal.append(GAPS, Record(1, None, repr(loss).encode()))

            making = rim.committer.enforce_retention(
                0, rules=DROPPING, sent={A: 0}, declare=declare
            )
            task = asyncio.create_task(making)
            await told.wait()
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()

    asyncio.run(run())
    journal = open_real(tmp_path, CROWDED)
    assert journal.bounds(GAPS).end == len(declared)
    assert journal.bounds(A).start == declared[-1].last + 1
    journal.close()


def test_no_commit_and_no_stop_waits_for_a_long_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit lowered in the configuration makes one run of a whole log: minutes of a slow card."""
    rewrite, rewritten = compaction._rewrite, 0
    settings = msgspec.structs.replace(CROWDED, bytes_max=ByteSize(60 * 64 * KIB))

    async def run() -> None:
        nonlocal rewritten
        async with Rim(tmp_path, settings) as rim:
            journal = rim.journal
            while len(journal.shelf.sequences) < 40:
                journal.writer(TopicPartition("b", 0)).append(1, None, b"alarm")
                journal.writer(A).append(1, None, bytes(15000))
                await rim.committer.wait_durable(journal.open_commit)

            def counted(*args: object) -> None:
                nonlocal rewritten
                rewritten += 1
                if rewritten == 20:
                    loop.call_soon_threadsafe(closing.set)
                rewrite(*args)  # type: ignore[arg-type]

            loop, closing = asyncio.get_running_loop(), asyncio.Event()
            monkeypatch.setattr(compaction, "_rewrite", counted)
            journal.settings = msgspec.structs.replace(settings, bytes_max=ByteSize(12 * 64 * KIB))
            making = asyncio.create_task(
                rim.committer.enforce_retention(0, rules=DROPPING, sent={}, declare=lambda _: None)
            )
            waits: list[int] = []
            while not closing.is_set():
                before = rewritten
                journal.note(9, b"taken by a full log, too")
                await rim.committer.wait_durable(journal.open_commit)
                waits.append(rewritten - before)
            # its job may be given just behind that of the next piece
            assert max(waits) <= 2 * STEPS_MAX + 1
            making.cancel()

    asyncio.run(run())
    assert rewritten <= 20 + 2 * STEPS_MAX
    assert not [name for name in tmp_path.iterdir() if name.suffix == ".tmp"]
    journal = open_real(tmp_path, settings)
    assert journal.bounds(TopicPartition("b", 0)).start == 0
    journal.close()


def test_async_reads_equal_the_synchronous_ones(tmp_path: Path) -> None:
    async def run() -> None:
        async with Rim(tmp_path) as rim:
            for _ in range(5):
                rim.journal.writer(A).append(1, None, b"v")
                await rim.committer.wait_durable(rim.journal.open_commit)
            journal = rim.journal
            assert await journal.read(A, 0, bytes_max=999) == journal.read_sync(A, 0, bytes_max=999)
            arrivals, position = await journal.read_arrivals(Position(0, 0), bytes_max=999)
            assert len(arrivals) == 5
            assert position == journal.position_of(A, 5) or position <= journal.end_position
            assert (await journal.read_arrivals(position, bytes_max=999)) == ([], position)
            resumed, _ = await journal.read_arrivals(journal.position_of(A, 3), bytes_max=999)
            assert decode_batch(resumed[0].batch)[0].base_offset == 3

    asyncio.run(run())
