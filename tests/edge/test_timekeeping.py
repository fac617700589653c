"""The clock through a real daemon: what is stamped under which belief, over boots, steps and kills of the power."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headwater.core.anchor import TIME_PARTITION, Anchor
from headwater.core.batch import decode_batch
from headwater.core.belief import Mark, Stamp, Trust
from headwater.core.clock import ManualClock
from headwater.core.record import StoredRecord, TopicPartition
from headwater.core.timekeeper import RELEASED_MS
from headwater.core.timeline import Timeline, TimeQuality
from headwater.core.units import Duration
from headwater.edge.daemon import Edge, open_edge
from headwater.edge.settings import EdgeSettings
from headwater.edge.streams import Durability, StreamSettings
from headwater.edge.timekeeping import TimeSettings
from headwater.hardware.clock import BOOT_ID, ClockReader
from headwater.hardware.sysroot import SysRoot

from .test_daemon import client_of, run

NOW = RELEASED_MS + 20_000_000_000
HOUR = 3_600_000
STREAMS = (
    StreamSettings(name="memory", filters=("m/#",), durability=Durability.MEMORY),
    StreamSettings(name="lazy", filters=("l/#",), durability=Durability.INTERVAL),
)


class Board:
    """A machine without a clock: each boot has a name of its own, and starts at 1970."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._boots = 0
        self.really = NOW
        self.synchronised = False
        self.boot()

    def boot(self, *, off_for_ms: int = 0) -> None:
        self.really += off_for_ms
        self.clock = ManualClock(0, boot_ms=0)
        self.synchronised = False
        self._boots += 1
        path = self._folder / BOOT_ID.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{self._boots:08x}-0000-0000-0000-000000000000\n")

    def wait(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds / 1000)
        self.really += milliseconds

    def ntp(self, *, wrong_by_ms: int = 0) -> None:
        self.clock.step_wall(self.really + wrong_by_ms - self.clock.wall_ms())
        self.synchronised = True

    def adjtimex(self) -> tuple[int, int, int] | None:
        return (0, 0, 50_000) if self.synchronised else (5, 0x40, 16_000_000)

    @asynccontextmanager
    async def edge(self, **more: object) -> AsyncIterator[Edge]:
        settings = EdgeSettings(
            name="e1",
            data_dir=str(self._folder / "data"),
            mqtt="127.0.0.1:0",
            http="none",
            streams=STREAMS,
            **more,  # type: ignore[arg-type]
        )
        reader = ClockReader(SysRoot(self._folder), self.adjtimex)
        async with open_edge(settings, clock=self.clock, clock_reader=reader) as edge:
            yield edge


async def said(edge: Edge, topic: str) -> None:
    async with client_of(edge) as client:
        await client.publish(topic, b"x", qos=1)


async def settled(edge: Edge) -> None:
    edge.anchoring.look()
    await edge.committer.wait_durable(edge.journal.open_commit)


async def stamped(edge: Edge, stream: str) -> list[tuple[StoredRecord, Mark | None]]:
    found: list[tuple[StoredRecord, Mark | None]] = []
    tp = TopicPartition(stream, 0)
    offset = 0
    while batches := await edge.journal.read(tp, offset, bytes_max=1 << 20):
        for batch in batches:
            header, records = decode_batch(batch)
            stamp = Stamp(header.producer_id, header.producer_epoch, header.base_sequence)
            found += [(record, stamp.mark()) for record in records]
            offset = header.next_offset
    return found


async def anchors(edge: Edge) -> list[Anchor]:
    return [Anchor.decode(record.value or b"") for record, _ in await stamped(edge, "_time")]


def test_three_boots_without_a_clock_are_repaired(tmp_path: Path) -> None:
    """The first is synchronised late, the second never, the third at once."""

    async def scenario() -> None:
        board = Board(tmp_path)
        truth = []
        async with board.edge() as edge:
            board.wait(1000)
            truth.append(board.really)
            await said(edge, "a")
            assert edge.anchoring.keeper.trust is Trust.FLOOR
            board.wait(HOUR)
            board.ntp()
            await settled(edge)
            assert edge.anchoring.keeper.trusted
            truth.append(board.really)
            await said(edge, "a")
        board.boot(off_for_ms=HOUR)
        async with board.edge() as edge:
            assert edge.anchoring.keeper.wall_ms() >= truth[-1], "not before what the log has seen"
            board.wait(60_000)
            truth.append(board.really)
            await said(edge, "a")
            board.wait(HOUR)
        board.boot(off_for_ms=2 * HOUR)
        board.ntp()
        async with board.edge() as edge:
            truth.append(board.really)
            await said(edge, "a")
            timeline = Timeline(await anchors(edge))
            found = await stamped(edge, "default")
            repaired = [timeline.repair(record.timestamp, mark) for record, mark in found]
            assert [each.quality for each in repaired] == [
                TimeQuality.REPAIRED,
                TimeQuality.SYNCHRONISED,
                TimeQuality.BOUNDED,
                TimeQuality.SYNCHRONISED,
            ]
            for each, true in zip(repaired, truth, strict=True):
                assert each.lo_ms is not None
                assert each.hi_ms is not None
                assert each.lo_ms <= true <= each.hi_ms
            assert abs(repaired[0].ts_ms - truth[0]) <= 500
            assert (repaired[2].hi_ms or 0) - (repaired[2].lo_ms or 0) < 4 * HOUR
            assert min(record.timestamp for record, _ in found) >= RELEASED_MS, "no 1970"

    run(scenario)


def test_a_step_waits_for_the_commit_and_no_commit_has_two_clocks(tmp_path: Path) -> None:
    async def scenario() -> None:
        board = Board(tmp_path)
        async with board.edge() as edge:
            writer = edge.journal.writer(TopicPartition("default", 0))
            writer.append(edge.outside.clock.wall_ms(), b"k", b"before")
            board.wait(5000)
            board.ntp()
            edge.anchoring.look()
            assert not edge.anchoring.keeper.trusted, "a record of the old clock is in the commit"
            writer.append(edge.outside.clock.wall_ms(), b"k", b"before, too")
            await edge.committer.wait_durable(edge.journal.open_commit)
            assert edge.anchoring.keeper.trusted
            writer.append(edge.outside.clock.wall_ms(), b"k", b"after")
            await settled(edge)
            found = await stamped(edge, "default")
            assert [mark.trust for _, mark in found if mark] == [
                Trust.FLOOR,
                Trust.FLOOR,
                Trust.SYNCHRONISED,
            ]
            boots = [record.timestamp - mark.offset_ms for record, mark in found if mark]
            assert boots == [0, 5000, 5000]
            said_by = [each.reason for each in await anchors(edge)]
            assert said_by == ["start", "tick", "step"]

    run(scenario)


@pytest.mark.parametrize("topic", ["m/1", "l/1"])
def test_streams_that_do_not_wait_for_the_disk_keep_their_clock(tmp_path: Path, topic: str) -> None:
    async def scenario() -> None:
        board = Board(tmp_path)
        async with board.edge() as edge:
            for _ in range(3):
                await said(edge, topic)
                board.wait(1000)
            board.ntp()
            edge.anchoring.look()
            await edge.committer.wait_durable(edge.journal.open_commit)
            assert edge.anchoring.keeper.trusted, "it does not wait for their interval"
            await said(edge, topic)
            await asyncio.sleep(0)
        async with board.edge() as edge:
            found = await stamped(edge, {"m": "memory", "l": "lazy"}[topic[0]])
            boots = [record.timestamp - mark.offset_ms for record, mark in found if mark]
            assert boots == [0, 1000, 2000, 3000]
            assert [mark.trust for _, mark in found if mark][2:] == [
                Trust.FLOOR,
                Trust.SYNCHRONISED,
            ]

    run(scenario)


def test_ntp_with_a_date_of_years_past_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        board = Board(tmp_path)
        board.ntp()
        async with board.edge() as edge:
            assert edge.anchoring.keeper.trusted
        board.boot(off_for_ms=HOUR)
        board.ntp(wrong_by_ms=-400 * 24 * HOUR)
        async with board.edge() as edge:
            await settled(edge)
            assert not edge.anchoring.keeper.trusted
            assert edge.anchoring.keeper.wall_ms() >= board.really - 2 * HOUR
            board.ntp()
            await settled(edge)
            assert edge.anchoring.keeper.wall_ms() == board.really

    run(scenario)


def test_ticks_say_how_far_the_clock_has_come_and_time_asleep_counts(tmp_path: Path) -> None:
    async def scenario() -> None:
        board = Board(tmp_path)
        async with board.edge(time=TimeSettings(anchor_interval=Duration(60))) as edge:
            board.clock.sleep_ms(HOUR)
            board.wait(59_000)
            await settled(edge)
            board.wait(2_000)
            await settled(edge)
            found = await anchors(edge)
            assert [(each.reason, each.boot_ms) for each in found] == [
                ("start", 0),
                ("tick", HOUR + 61_000),
            ]
            assert TIME_PARTITION in edge.journal.partitions()

    run(scenario)


def test_without_a_boot_id_each_start_is_a_boot_of_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        board = Board(tmp_path)
        (tmp_path / BOOT_ID.lstrip("/")).unlink()
        board.wait(HOUR)
        for _ in range(2):
            async with board.edge() as edge:
                await settled(edge)
        async with board.edge() as edge:
            await settled(edge)
            found = await anchors(edge)
            assert len({each.boot for each in found}) == 3
            assert {each.boot_ms for each in found} == {0}

    run(scenario)
