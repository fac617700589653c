"""Live data beside the backlog of an outage, against real brokers on loopback."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headwater.core.record import TopicPartition
from headwater.core.units import Duration

from .against import BROKERS, against
from .river import River, addresses, labels

SOURCE = TopicPartition("readings", 0)


def _once(offsets: list[int], count: int) -> None:
    assert sorted(offsets) == list(range(count)), "each exactly once"


@pytest.mark.parametrize("kind", BROKERS)
def test_live_data_arrive_before_the_history_that_was_there_first(
    kind: str, tmp_path: Path
) -> None:
    async def body(port: int) -> None:
        river = River(tmp_path, port, split_records=100, batch_records_max=20)
        for _ in range(200):
            river.journal.append(SOURCE, [b"history"] * 20)
        async with river.running() as uplink:
            await river.until(lambda: len(uplink.status().partitions) > 0)
            await river.until(lambda: uplink.progress.get(SOURCE, 0) > 0)
            river.journal.append(SOURCE, [b"live"] * 10)
            await river.drained(uplink)
            await river.until(lambda: uplink.progress[SOURCE] == 4010)  # the ranges meet
            river.journal.append(SOURCE, [b"later"] * 10)
            await river.drained(uplink)
        stored = [r for each in (await river.stored("readings")).values() for r in each]
        order = addresses(stored, SOURCE)
        _once(order, 4020)
        assert labels(stored[-10:]) == {0}, "one range again"
        assert labels(stored) == {0, 4000}
        assert order.index(4009) < order.index(3999), "live data came first"
        assert [n for n in order if n < 4000] == list(range(4000)), "each range in order"

    against(kind, tmp_path, body)


@pytest.mark.parametrize("kind", BROKERS)
def test_outage_after_outage_with_breaking_connections_loses_and_repeats_nothing(
    kind: str, tmp_path: Path
) -> None:
    sources = [TopicPartition("readings", n) for n in range(6)]

    async def body(port: int) -> None:
        river = River(
            tmp_path, port, chance=0.1, partitions=4, batch_records_max=5, split_records=50
        )
        for life in range(6):
            for turn in range(30):
                for source in sources:
                    river.journal.append(source, [b"%d.%d" % (life, turn)] * 4)
            async with river.running() as uplink:
                for _ in range(5):
                    await asyncio.sleep(river.rng.random() * 0.05)
                    for source in sources:
                        river.journal.append(source, [b"live"])
                    uplink.notify()
                if life == 5:  # else it is killed now, wherever it is
                    await river.drained(uplink, timeout_s=60)
                    await river.until(lambda: set(uplink.progress.values()) == {750})
        stored = [r for each in (await river.stored("readings")).values() for r in each]
        for source in sources:
            _once(addresses(stored, source), 750)
        assert len(labels(stored)) > 1, "the test split nothing"

    against(kind, tmp_path, body)


def test_with_the_newest_cursor_damaged_ranges_that_it_knew_are_found_in_the_cloud(
    tmp_path: Path,
) -> None:
    async def body(port: int) -> None:
        river = River(
            tmp_path, port, split_records=100, batch_records_max=20, late_copies=Duration(0.5)
        )
        river.journal.append(SOURCE, [b"first"] * 10)
        async with river.running() as uplink:
            await river.drained(uplink)
        before = {
            name: (tmp_path / "uplink" / name).read_bytes() for name in ("cursor-0", "cursor-1")
        }
        for _ in range(100):
            river.journal.append(SOURCE, [b"history"] * 20)
        async with river.running() as uplink:
            await river.until(lambda: uplink.progress.get(SOURCE, 0) > 500)
            river.journal.append(SOURCE, [b"live"] * 10)
            await asyncio.sleep(0.1)
        newest, other = sorted(before, key=lambda name: before[name][12:20], reverse=True)
        (tmp_path / "uplink" / newest).write_bytes(before[newest])
        (tmp_path / "uplink" / other).write_bytes(b"rust")
        async with river.running() as uplink:
            await river.drained(uplink)
        stored = [r for each in (await river.stored("readings")).values() for r in each]
        _once(addresses(stored, SOURCE), 2020)

    against("headwater", tmp_path, body)


def test_live_data_do_not_wait_for_a_gap_that_has_to(tmp_path: Path) -> None:
    """A gap met after a restart is crossed when late copies are over: a minute here, longer than the test waits."""

    async def body(port: int) -> None:
        river = River(tmp_path, port)
        river.journal.append(SOURCE, [b"first"] * 10)
        async with river.running() as uplink:
            await river.drained(uplink)
        river.journal.append(SOURCE, [b"lost"] * 10)
        river.journal.retire(SOURCE, 20)
        river.journal.append(SOURCE, [b"waits"] * 10)
        async with river.running() as uplink:
            async with asyncio.timeout(20):
                await river.until(
                    lambda: bool(status := uplink.status().partitions) and status[0].ranges > 1
                )
                river.journal.append(SOURCE, [b"live"] * 10)
                uplink.notify()
                await river.until(lambda: uplink.unsent(SOURCE, 20, 39) == [(20, 29)])
        stored = [r for each in (await river.stored("readings")).values() for r in each]
        assert addresses(stored, SOURCE) == [*range(10), *range(30, 40)]

    against("headwater", tmp_path, body)


def test_retention_that_overtakes_the_backlog_leaves_the_live_lane_alone(tmp_path: Path) -> None:
    async def body(port: int) -> None:
        river = River(tmp_path, port, split_records=100, batch_records_max=20)
        for _ in range(200):
            river.journal.append(SOURCE, [b"history"] * 20)
        async with river.running() as uplink:
            await river.until(lambda: uplink.progress.get(SOURCE, 0) > 0)
            river.journal.append(SOURCE, [b"live"] * 10)
            river.journal.retire(SOURCE, 4000)
            lost = uplink.unsent(SOURCE, 0, 3999)
            async with asyncio.timeout(20):
                await river.until(lambda: uplink.progress[SOURCE] == 4010)
        stored = [r for each in (await river.stored("readings")).values() for r in each]
        order = addresses(stored, SOURCE)
        assert len(order) == len(set(order))
        assert set(range(4000, 4010)) <= set(order)
        missing = set(range(4000)) - set(order)
        assert missing <= {n for first, last in lost for n in range(first, last + 1)}

    against("headwater", tmp_path, body)
