"""Two edges with a copy of one data directory: neither takes the other's records for its own, and both say so."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from headwater.core.record import TopicPartition
from headwater.core.units import Duration
from headwater.edge.uplink.status import UplinkStatus
from headwater.edge.uplink.twins import CONTESTED_S, Ahead
from headwater.edge.uplink.uplink import Uplink
from tests.cloud.broker.running import run, started

from .river import River, addresses

SOURCE = TopicPartition("readings", 0)
LATE_S = 60.0


def test_what_the_cloud_has_beyond_the_journal_is_waited_for_and_then_believed() -> None:
    ahead = Ahead(LATE_S)
    assert ahead.judge(10, 10, 0.0) is None
    reason, until = ahead.judge(15, 10, 1.0) or ("", 0.0)
    assert "up to 15" in reason
    assert until == 1.0 + LATE_S
    assert ahead.judge(18, 10, 30.0) == ("waiting for late copies", 1.0 + LATE_S)
    assert ahead.judge(18, 10, 62.0) is None, "a disk lost what it had confirmed: the log goes on"


def test_what_grows_beyond_the_journal_after_late_copies_is_a_twins() -> None:
    ahead = Ahead(LATE_S)
    ahead.judge(15, 10, 1.0)
    reason, until = ahead.judge(16, 10, 62.0) or ("", 0.0)
    assert "another edge runs with a copy" in reason
    assert until == 62.0 + CONTESTED_S


async def _until(uplink: Uplink, holds: Callable[[UplinkStatus], bool]) -> UplinkStatus:
    async with asyncio.timeout(20):
        while not holds(uplink.status()):  # noqa: ASYNC110  # the uplink tells nobody; a test looks
            await asyncio.sleep(0.005)
    return uplink.status()


async def _twins(directory: Path, port: int) -> tuple[River, River]:
    """Both have sent ten records of their common past."""
    one, two = (
        River(directory / name, port, late_copies=Duration(0.3), partitions=1, seed=seed)
        for name, seed in (("one", 1), ("two", 2))
    )
    for river in (one, two):
        river.journal.append(SOURCE, [b"common %d" % n for n in range(10)])
    async with one.running() as uplink:
        await one.drained(uplink)
    shutil.copytree(directory / "one", directory / "two")
    return one, two


def test_a_twins_records_are_not_taken_for_ours(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with started() as running:
            one, two = await _twins(tmp_path, running.broker.port)
            one.journal.append(SOURCE, [b"one %d" % n for n in range(5)])
            two.journal.append(SOURCE, [b"two %d" % n for n in range(8)])
            async with one.running() as uplink:
                await one.drained(uplink)
            async with two.running() as uplink:
                status = await _until(uplink, lambda status: "copy of" in status.last_error)
                assert status.backlog_records == 8, "acknowledged to its publishers, and kept"
                assert "copy of this data directory" in status.partitions[0].last_error
            stored = (await one.stored("readings"))[0]
            assert addresses(stored, SOURCE) == list(range(15))
            assert not [record for record in stored if (record.value or b"").startswith(b"two")]

    run(scenario())


def test_a_twin_that_has_gone_further_is_found_by_what_it_adds(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with started() as running:
            one, two = await _twins(tmp_path, running.broker.port)
            one.journal.append(SOURCE, [b"one %d" % n for n in range(5)])
            async with one.running() as ahead:
                await one.drained(ahead)
                async with two.running() as uplink:
                    await _until(uplink, lambda status: "late copies" in status.last_error)
                    one.journal.append(SOURCE, [b"one more"])
                    await one.drained(ahead)
                    await _until(uplink, lambda status: "copy of" in status.last_error)

    run(scenario())


def test_under_a_name_of_its_own_a_twin_goes_on_beside_the_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with started() as running:
            one, two = await _twins(tmp_path, running.broker.port)
            renamed = River(
                tmp_path / "two",
                running.broker.port,
                edge="edge-2",
                late_copies=Duration(0.3),
                partitions=1,
            )
            renamed.journal = two.journal
            two.journal.append(SOURCE, [b"two %d" % n for n in range(8)])
            async with one.running() as uplink, renamed.running() as other:
                await _until(other, lambda status: "copy of" not in status.last_error)
                for turn in range(20):
                    one.journal.append(SOURCE, [b"one %d" % turn])
                    await one.drained(uplink)
                await renamed.drained(other)
            values = [record.value for record in (await one.stored("readings"))[0]]
            assert len(values) == len(set(values)) == 10 + 20 + 8

    run(scenario())
