"""The uplink against real brokers on loopback: Headwater's cloud, and Apache Kafka where its jars are."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from headwater.core.clock import SystemClock
from headwater.core.disk import SystemDisk
from headwater.core.journal.files import FileJournal, FileJournalSettings
from headwater.core.record import LOG_HEADER, Record, TopicPartition
from headwater.core.units import ByteSize
from headwater.edge.uplink.metrics import UplinkMetrics
from tests.cloud.broker.running import run, started

from .against import APACHE, BROKERS, against
from .river import River, addresses


@pytest.mark.parametrize("kind", BROKERS)
def test_breaking_connections_and_restarts_lose_and_repeat_nothing(
    kind: str, tmp_path: Path
) -> None:
    sources = [TopicPartition("readings", n) for n in range(6)] + [TopicPartition("alarms", 0)]

    async def body(port: int) -> None:
        river = River(tmp_path, port, chance=0.15, partitions=4, batch_records_max=20)
        for life in range(4):
            for turn in range(40):
                for source in sources:
                    river.journal.append(source, [b"%d.%d" % (life, turn)] * 3)
            async with river.running() as uplink:
                if life < 3:
                    await asyncio.sleep(
                        river.rng.random() * 0.3
                    )  # then it is killed, wherever it is
                else:
                    await river.drained(uplink)
        readings, alarms = await river.stored("readings"), await river.stored("alarms")
        everything = [r for stored in (readings, alarms) for each in stored.values() for r in each]
        for source in sources:
            assert addresses(everything, source) == list(range(480)), source
        assert len(everything) == 480 * len(sources)
        assert river.broken >= 3, "the test broke nothing"

    against(kind, tmp_path, body)


@pytest.mark.parametrize("kind", BROKERS)
def test_a_record_too_large_is_declared_and_the_rest_arrives(kind: str, tmp_path: Path) -> None:
    source = TopicPartition("pictures", 0)

    async def body(port: int) -> None:
        river = River(tmp_path, port, compression="none", request_bytes_max=ByteSize(16 << 20))
        river.journal.append(source, [b"a", b"b"])
        river.journal.append(source, [b"c", b"x" * 12_000_000, b"d"])
        river.journal.append(source, [b"e"])
        async with river.running() as uplink:
            await river.drained(uplink)
            assert uplink.totals.refused == 1
        stored = [r for each in (await river.stored("pictures")).values() for r in each]
        assert addresses(stored, source) == [0, 1, 2, 4, 5]
        assert [(p, first, last) for p, first, last, _ in river.refused] == [(source, 3, 3)]

    against(kind, tmp_path, body)


@pytest.mark.parametrize("kind", BROKERS)
def test_a_gap_is_crossed_and_what_follows_arrives_once(kind: str, tmp_path: Path) -> None:
    source = TopicPartition("readings", 0)

    async def body(port: int) -> None:
        river = River(tmp_path, port)
        river.journal.append(source, [b"a"] * 10)
        async with river.running() as uplink:
            await river.drained(uplink)
            river.journal.append(source, [b"lost"] * 10)
            river.journal.append(source, [b"kept"] * 10)
            river.journal.retire(source, 20)
            await river.drained(uplink)
            river.journal.append(source, [b"more"] * 5)
            await river.drained(uplink)
        stored = [r for each in (await river.stored("readings")).values() for r in each]
        assert addresses(stored, source) == [*range(10), *range(20, 35)]

    against(kind, tmp_path, body)


@pytest.mark.parametrize(
    ("kind", "partitions"),
    [("headwater", 0), ("headwater", 2), pytest.param("apache", 2, marks=APACHE)],
)
def test_a_topic_that_was_deleted_is_made_anew_and_what_follows_arrives(
    kind: str, partitions: int, tmp_path: Path
) -> None:
    sources = [TopicPartition("readings", n) for n in range(3)]

    async def body(port: int) -> None:
        river = River(tmp_path, port, partitions=3)
        for source in sources:
            river.journal.append(source, [b"before"] * 5)
        async with river.running() as uplink:
            await river.drained(uplink)
            await river.recreate("readings", partitions=partitions)
            for source in sources:
                river.journal.append(source, [b"after"] * 5)
            await river.drained(uplink)
            await river.until(lambda: all(uplink.progress[source] == 10 for source in sources))
        stored = await river.stored("readings")
        everything = [record for each in stored.values() for record in each]
        assert len(stored) == (partitions or 3)
        for source in sources:
            assert addresses(everything, source) == [*range(5, 10)]

    against(kind, tmp_path, body)


def test_a_backlog_of_many_partitions_is_read_in_arrival_order(tmp_path: Path) -> None:
    sources = [TopicPartition("readings", n) for n in range(40)]

    async def body(port: int) -> None:
        river = River(tmp_path, port, partitions=8)
        for _ in range(50):
            for source in sources:
                river.journal.append(source, [b"value"] * 4)
        async with river.running() as uplink:
            await river.drained(uplink)
            assert uplink.status().memory_bytes == 0
        stored = [r for each in (await river.stored("readings")).values() for r in each]
        for source in sources:
            assert addresses(stored, source) == list(range(200))
        assert river.journal.arrival_reads > 0
        assert river.journal.partition_reads <= len(sources), "2,000 commits, not read one by one"

    against("headwater", tmp_path, body)


@pytest.mark.parametrize("kind", BROKERS)
@pytest.mark.parametrize("rust", [b"rust", None])
def test_with_both_cursor_files_damaged_or_gone_what_the_cloud_has_is_found_there(
    rust: bytes | None, kind: str, tmp_path: Path
) -> None:
    source = TopicPartition("readings", 0)

    async def body(port: int) -> None:
        river = River(tmp_path, port)
        for _ in range(2):
            river.journal.append(source, [b"value"] * 30)
            async with river.running() as uplink:
                await river.drained(uplink)
        for name in ("cursor-0", "cursor-1"):
            (tmp_path / "uplink" / name).unlink()
            if rust is not None:
                (tmp_path / "uplink" / name).write_bytes(rust)
        river.is_first = False
        river.journal.append(source, [b"value"] * 30)
        async with river.running() as uplink:
            await river.drained(uplink)
        stored = [r for each in (await river.stored("readings")).values() for r in each]
        assert addresses(stored, source) == list(range(90))

    against(kind, tmp_path, body)


def test_another_cluster_gets_all_that_is_held_and_the_first_resumes_where_it_stood(
    tmp_path: Path,
) -> None:
    source = TopicPartition("readings", 0)

    async def body(first: int) -> None:
        river = River(tmp_path, first)
        river.journal.append(source, [b"value"] * 10)
        async with river.running() as uplink:
            await river.drained(uplink)
        async with started() as other:
            river.port = other.broker.port
            river.journal.append(source, [b"value"] * 10)
            async with river.running() as uplink:
                await river.drained(uplink)
            stored = [r for each in (await river.stored("readings")).values() for r in each]
            assert addresses(stored, source) == list(range(20))
        river.port = first
        async with river.running() as uplink:
            await river.drained(uplink)
        stored = [r for each in (await river.stored("readings")).values() for r in each]
        assert addresses(stored, source) == list(range(20))

    against("headwater", tmp_path, body)


def test_while_no_broker_answers_the_status_says_so_and_nothing_is_held_in_memory(
    tmp_path: Path,
) -> None:
    source = TopicPartition("readings", 0)

    async def body() -> None:
        async with started() as running:
            port = running.broker.port
        river = River(tmp_path, port)
        river.journal.append(source, [b"value"] * 10)
        async with river.running() as uplink:
            async with asyncio.timeout(10):
                await river.until(lambda: bool(uplink.status().last_error))
            status = uplink.status()
            assert str(port) in status.last_error
            assert status.backlog_records == 10
            assert status.seconds_to_empty is None
            assert status.memory_bytes == 0
            assert uplink.progress.get(source, 0) == 0

    run(body())


def test_metrics_tell_the_backlog(tmp_path: Path) -> None:
    river = River(tmp_path, 1)
    river.journal.append(TopicPartition("readings", 0), [b"value"] * 10)
    registry = CollectorRegistry()

    async def body() -> None:
        UplinkMetrics(river.uplink(), registry)

    run(body())
    labels = {"stream": "readings", "partition": "0"}
    assert registry.get_sample_value("headwater_uplink_backlog_records", labels) == 10
    assert registry.get_sample_value("headwater_uplink_connected") == 0


def test_the_edges_own_journal_goes_up_whole(tmp_path: Path) -> None:
    sources = [TopicPartition("readings", n) for n in range(12)]

    async def body(port: int) -> None:
        river = River(tmp_path, port, partitions=3)
        journal = FileJournal.open(
            str(tmp_path / "journal"),
            disk=SystemDisk(),
            clock=SystemClock(),
            settings=FileJournalSettings(),
            rng=random.Random(1),
        )
        with contextlib.closing(journal):
            for turn in range(30):
                for source in sources:
                    journal.append(source, Record(1_700_000_000_000 + turn, b"k", b"v" * turn))
                commit = journal.seal()
                assert commit is not None
                commit.write()
                journal.complete(commit)
            async with river.running(journal) as uplink:
                await river.drained(uplink)
        stored = [r for each in (await river.stored("readings")).values() for r in each]
        for source in sources:
            assert addresses(stored, source) == list(range(30))
        assert {dict(r.headers)[LOG_HEADER] for r in stored} == {journal.log_id.encode()}

    against("headwater", tmp_path, body)
