"""The sink in simulated time: exactly once through crashes, lies of the store, rivals and other writers."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest

from headwater.cloud.lake.delta import Commit, Metadata, Protocol, Txn
from headwater.cloud.lake.delta.names import version_key
from headwater.cloud.lake.positions import kafka_app_id
from headwater.cloud.lake.verify import verify_lake
from headwater.core.batch import encode_batch
from headwater.core.objectstore import ObjectStore
from headwater.core.record import Record, TopicPartition
from headwater.core.units import ByteSize
from tests.sim.loop import run
from tests.sim.store import ROUGH, Fault, SimulatedBucket, SimulatedStore

from .lake import (
    QUICK,
    MortalStore,
    Row,
    Running,
    holds,
    rows,
    sink_on,
    snapshot,
    until,
)
from .log import NOON, MemoryLog, MemorySource, addressed

TELEMETRY = TopicPartition("telemetry", 0)


def payload(number: int) -> bytes:
    return b'{"t":%d,"n%d":1}' % (number, number % 7)


def fill(log: MemoryLog, *, first: int = 0, count: int = 40, per_batch: int = 5) -> None:
    for base in range(first, first + count, per_batch):
        batch = [addressed(payload(n), n) for n in range(base, base + per_batch)]
        log.append("telemetry", batch)


def expected(count: int, *, edge: str = "edge-1", stream: str = "telemetry") -> list[Row]:
    return [(edge, stream, 0, n) for n in range(count)]


async def check(store: ObjectStore, wanted: list[Row]) -> None:
    assert await rows(store) == sorted(wanted)
    report = await verify_lake(store)
    assert report.complete, report.text()


def quiet(bucket: SimulatedBucket) -> SimulatedStore:
    return SimulatedStore(random.Random(0), bucket=bucket)


def test_all_records_arrive_and_a_restart_adds_nothing() -> None:
    async def main() -> None:
        log, store = MemoryLog(), SimulatedStore(random.Random(1))
        fill(log)
        for seed in range(3):
            running = Running(sink_on(store, MemorySource(log), seed=seed))
            await until(lambda: holds(store, expected(40)))
            await asyncio.sleep(5)
            await running.stop()
        await check(store, expected(40))

    run(main())


def test_sigterm_commits_what_was_fetched() -> None:
    async def main() -> None:
        log, store = MemoryLog(), SimulatedStore(random.Random(1))
        fill(log)
        slow = msgspec.structs.replace(QUICK, interval=type(QUICK.interval)(3600))
        source = MemorySource(log)
        running = Running(sink_on(store, source, settings=slow))
        await until(lambda: _true(source.fetches >= 2))
        assert await rows(store) == []
        await running.stop()
        await check(store, expected(40))

    run(main())


async def has_table(store: ObjectStore, name: str) -> bool:
    return (await snapshot(store, name)).exists


async def says(running: Running, reason: str) -> bool:
    return any(reason in found for found in running.sink.reasons_not_ready())


async def _true(claim: bool) -> bool:
    return claim


@pytest.mark.parametrize("applied", [False, True])
def test_a_crash_at_every_call_of_the_store_leaves_each_record_once(applied: bool) -> None:
    """Die at call 1, restart, die at call 2, … until a life ends without dying."""

    async def life(dies_at: int) -> bool:
        log, bucket = MemoryLog(), SimulatedBucket()
        fill(log, count=30)
        source = MemorySource(log, batches_max=2, pause_s=0.5)
        several = msgspec.structs.replace(QUICK, commit_bytes=ByteSize(1))
        mortal = MortalStore(quiet(bucket), dies_at=dies_at, applied=applied)
        running = Running(sink_on(mortal, source, seed=dies_at, settings=several))
        dying = asyncio.ensure_future(mortal.died.wait())
        done = asyncio.ensure_future(until(lambda: holds(quiet(bucket), expected(30))))
        await asyncio.wait({dying, done}, return_when=asyncio.FIRST_COMPLETED)
        await running.kill()
        survived = not mortal.died.is_set()
        done.cancel()
        dying.cancel()
        again = Running(sink_on(quiet(bucket), MemorySource(log), seed=dies_at + 1000))
        fill(log, first=30, count=10)
        await until(lambda: holds(quiet(bucket), expected(40)))
        await again.stop()
        await check(quiet(bucket), expected(40))
        return survived

    dies_at = 1
    while not run(life(dies_at)):
        dies_at += 1
    assert dies_at > 8, "the store was hardly called"


@pytest.mark.parametrize("seed", range(25))
def test_a_store_that_drops_delays_and_errs_costs_time_only(seed: int) -> None:
    async def main() -> None:
        log, bucket = MemoryLog(), SimulatedBucket()
        fill(log)
        rough = SimulatedStore(random.Random(seed), bucket=bucket, rates=ROUGH)
        source = MemorySource(log, batches_max=2)
        running = Running(sink_on(rough, source, seed=seed))
        for life in range(3):
            await asyncio.sleep(random.Random(seed * 10 + life).random() * 20)
            await running.kill()
            running = Running(sink_on(rough, source, seed=seed * 100 + life))
        await until(lambda: holds(quiet(bucket), expected(40)), within_s=7200)
        await running.stop()
        await asyncio.sleep(300)  # whatever is still on its way lands
        await check(quiet(bucket), expected(40))

    run(main())


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.LATE, Fault.ERROR, Fault.CONFLICT])
def test_a_lost_answer_to_a_commit_is_resolved_by_reading_the_log(fault: Fault) -> None:
    async def main() -> None:
        log, bucket = MemoryLog(), SimulatedBucket()
        fill(log)
        store = SimulatedStore(random.Random(3), bucket=bucket)
        store.script("put_if_absent", "telemetry/_delta_log/", fault)
        store.script("put_if_absent", "telemetry/data/", fault)
        running = Running(sink_on(store, MemorySource(log)))
        await until(lambda: holds(quiet(bucket), expected(40)))
        await running.stop()
        await asyncio.sleep(300)
        await check(quiet(bucket), expected(40))
        names = [key for key in bucket.objects if key.endswith(".json")]
        assert names == [version_key("telemetry", 0)], "one commit, whatever the store said"

    run(main())


@pytest.mark.parametrize("seed", range(8))
def test_two_racing_sinks_fence_each_other(seed: int) -> None:
    async def main() -> None:
        log, bucket = MemoryLog(), SimulatedBucket()
        fill(log, count=20)
        pair = [
            Running(
                sink_on(
                    SimulatedStore(random.Random(seed * 2 + n), bucket=bucket, name=f"sink-{n}"),
                    MemorySource(log, batches_max=1 + n),
                    seed=seed * 2 + n,
                )
            )
            for n in range(2)
        ]
        for base in range(20, 60, 10):
            await asyncio.sleep(3)
            fill(log, first=base, count=10)
        await until(lambda: holds(quiet(bucket), expected(60)))
        for running in pair:
            await running.stop()
        await check(quiet(bucket), expected(60))

    run(main())


def test_records_sent_twice_are_dropped_and_counted() -> None:
    async def main() -> None:
        log, store = MemoryLog(), SimulatedStore(random.Random(1))
        fill(log, count=20)
        fill(log, first=10, count=20)  # an edge that lost its cursor
        running = Running(sink_on(store, MemorySource(log, batches_max=3)))
        await until(lambda: holds(store, expected(30)))
        await asyncio.sleep(5)
        await running.stop()
        await check(store, expected(30))
        report = await verify_lake(store)
        assert [table.duplicates for table in report.tables] == [10]
        assert [proof.position for proof in report.partitions] == [40]

    run(main())


def test_a_wiped_edge_begins_again_under_another_log() -> None:
    async def main() -> None:
        log, store = MemoryLog(), SimulatedStore(random.Random(1))
        fill(log, count=10)
        fresh = [addressed(payload(n), n) for n in range(5)]
        fresh = [
            record._replace(headers=(record.headers[0], ("hw.log", b"f" * 16))) for record in fresh
        ]
        log.append("telemetry", fresh)
        running = Running(sink_on(store, MemorySource(log)))
        await until(lambda: holds(store, expected(15)))
        await running.stop()
        await check(store, expected(10) + expected(5))

    run(main())


def test_new_streams_and_partitions_are_followed_and_internal_topics_are_not() -> None:
    async def main() -> None:
        log, store = MemoryLog(), SimulatedStore(random.Random(1))
        fill(log, count=5)
        log.append("__consumer_offsets", [Record(NOON, b"k", b"v")])
        running = Running(sink_on(store, MemorySource(log)))
        await until(lambda: holds(store, expected(5)))
        log.append("plain", [Record(NOON, b"k", b"1"), Record(NOON, b"k", b"2")])
        log.append("telemetry", [addressed(b"{}", 0, partition=7)], partition=3)
        wanted = [
            *expected(5),
            ("edge-1", "telemetry", 7, 0),
            ("", "plain", 0, 0),
            ("", "plain", 0, 1),
        ]
        await until(lambda: holds(store, wanted))
        await running.stop()
        await check(store, wanted)

    run(main())


def test_offsets_retired_before_they_were_read_are_written_down() -> None:
    async def main() -> None:
        log, store = MemoryLog(), SimulatedStore(random.Random(1))
        for n in range(10):
            log.append("plain", [Record(NOON, b"k", b"%d" % n)])
        source = MemorySource(log)
        running = Running(sink_on(store, source))
        await until(lambda: holds(store, expected(10)))
        await running.kill()
        for n in range(10, 30):
            log.append("plain", [Record(NOON, b"k", b"%d" % n)])
        log.trim(TopicPartition("plain", 0), 20)
        running = Running(sink_on(store, source))
        await until(lambda: holds(store, expected(20)))
        await running.stop()
        report = await verify_lake(store)
        assert report.complete, report.text()
        assert [proof.lost for proof in report.partitions] == [10]
        assert len(await rows(store)) == 20

    run(main())


def test_memory_is_bounded_and_fetching_goes_on_after_a_commit() -> None:
    async def main() -> None:
        log, store = MemoryLog(), SimulatedStore(random.Random(1))
        fill(log, count=200)
        tight = msgspec.structs.replace(
            QUICK, memory_bytes=ByteSize(2000), interval=type(QUICK.interval)(3600)
        )
        running = Running(sink_on(store, MemorySource(log, batches_max=2), settings=tight))
        await until(lambda: holds(store, expected(180)))
        await running.stop()
        await check(store, expected(200))
        assert (await snapshot(store)).version > 5

    run(main())


# ---- other writers


async def foreign_commit(store: ObjectStore, commit: Commit) -> None:
    version = (await snapshot(store)).version + 1
    await store.put_if_absent(version_key("telemetry", version), commit.encode())


def _started(log: MemoryLog, store: ObjectStore) -> Running:
    fill(log, count=10)
    return Running(sink_on(store, MemorySource(log)))


def test_a_commit_of_another_that_touches_nothing_of_ours_is_built_upon() -> None:
    async def main() -> None:
        log, store = MemoryLog(), SimulatedStore(random.Random(1))
        running = _started(log, store)
        await until(lambda: holds(store, expected(10)))
        await foreign_commit(store, Commit(txns=(Txn(app_id="somebody", version=7),)))
        fill(log, first=10, count=10)
        await until(lambda: holds(store, expected(20)))
        assert running.sink.reasons_not_ready() == []
        await running.stop()
        await check(store, expected(20))
        assert (await snapshot(store)).position("somebody") == 7

    run(main())


def test_columns_added_by_another_are_kept() -> None:
    async def main() -> None:
        log, store = MemoryLog(), SimulatedStore(random.Random(1))
        running = _started(log, store)
        await until(lambda: holds(store, expected(10)))
        held = (await snapshot(store)).metadata
        assert held is not None
        schema = msgspec.json.decode(held.schema_string)
        schema["fields"].append(
            {"name": "site", "type": "string", "nullable": True, "metadata": {}}
        )
        schema["fields"].append(
            {"name": "nested", "type": {"type": "array", "elementType": "long", "containsNull": True},
             "nullable": True, "metadata": {}}
        )  # fmt: skip
        changed = msgspec.structs.replace(held, schema_string=msgspec.json.encode(schema).decode())
        await foreign_commit(store, Commit(metadata=changed))
        log.append("telemetry", [addressed(b'{"site":"x","fresh":1}', 10)])
        await until(lambda: holds(store, expected(11)))
        await running.stop()
        await check(store, expected(11))
        names = [field.name for field in (await snapshot(store)).schema.fields]
        assert {"site", "nested", "site_payload", "fresh"} <= set(names)

    run(main())


def test_a_table_that_another_upgraded_is_left_alone_and_the_reason_shown() -> None:
    async def main() -> None:
        log, store = MemoryLog(), SimulatedStore(random.Random(1))
        running = _started(log, store)
        await until(lambda: holds(store, expected(10)))
        newer = Protocol(min_reader_version=1, min_writer_version=7, writer_features=["x"])
        await foreign_commit(store, Commit(protocol=newer))
        fill(log, first=10, count=10)
        await until(lambda: says(running, "writer version 7"))
        assert await rows(store) == expected(10)
        back = Protocol(min_reader_version=1, min_writer_version=2)
        await foreign_commit(store, Commit(protocol=back))
        await until(lambda: holds(store, expected(20)))
        await running.stop()
        await check(store, expected(20))

    run(main())


def test_positions_moved_by_another_are_obeyed() -> None:
    async def main() -> None:
        log, store = MemoryLog(), SimulatedStore(random.Random(1))
        running = _started(log, store)
        await until(lambda: holds(store, expected(10)))
        await foreign_commit(
            store, Commit(txns=(Txn(app_id=kafka_app_id("cluster-1", TELEMETRY), version=15),))
        )
        fill(log, first=10, count=10)
        await until(lambda: holds(store, expected(15)))
        await running.stop()
        found = [offset for *_, offset in await rows(store)]
        assert found == [*range(10), *range(15, 20)]
        assert not (await verify_lake(store)).complete

    run(main())


def test_a_table_that_no_sink_made_is_refused() -> None:
    async def main() -> None:
        log, store = MemoryLog(), SimulatedStore(random.Random(1))
        metadata = Metadata(
            id="x", schema_string='{"type":"struct","fields":[]}', partition_columns=[]
        )
        protocol = Protocol(min_reader_version=1, min_writer_version=2)
        key = version_key("telemetry", 0)
        await store.put_if_absent(key, Commit(protocol=protocol, metadata=metadata).encode())
        fill(log, count=5)
        log.append("plain", [Record(NOON, b"k", b"1")])
        running = Running(sink_on(store, MemorySource(log)))
        await until(lambda: says(running, "not made by a sink"))
        await until(lambda: has_table(store, "plain"))  # the other stream goes on
        await running.stop()

    run(main())


def test_a_batch_whose_bytes_are_damaged_blocks_its_stream_until_it_can_be_read() -> None:
    async def main() -> None:
        log, store = MemoryLog(), SimulatedStore(random.Random(1))
        fill(log, count=10)
        whole = log.batches[TELEMETRY][1]
        log.batches[TELEMETRY][1] = whole[:-1] + bytes([whole[-1] ^ 1])
        running = Running(sink_on(store, MemorySource(log)))
        await until(lambda: says(running, "CRC"))
        log.batches[TELEMETRY][1] = whole
        await until(lambda: holds(store, expected(10)))
        await running.stop()
        await check(store, expected(10))

    run(main())


def test_a_file_already_there_from_a_crash_is_taken_and_not_written_twice() -> None:
    async def main() -> None:
        log, bucket = MemoryLog(), SimulatedBucket()
        fill(log, count=10)
        store = quiet(bucket)
        for _ in range(3):
            mortal = MortalStore(store, dies_at=5, applied=False)  # the commit's PUT
            running = Running(sink_on(mortal, MemorySource(log)))
            await mortal.died.wait()
            await running.kill()
        running = Running(sink_on(store, MemorySource(log)))
        await until(lambda: holds(store, expected(10)))
        await running.stop()
        files = [key for key in bucket.objects if key.endswith(".parquet")]
        assert files == [f"telemetry/{next(iter((await snapshot(store)).files))}"]

    run(main())


def test_a_thousand_commits_leave_checkpoints_and_one_costs_no_more() -> None:
    async def main() -> None:
        log, bucket = MemoryLog(), SimulatedBucket()
        store = quiet(bucket)
        log.create("telemetry")
        running = Running(sink_on(store, MemorySource(log)))
        for n in range(300):
            log.append_bytes(
                TELEMETRY, encode_batch([addressed(b"{}", n)], base_offset=log.ends[TELEMETRY])
            )
            await asyncio.sleep(2)
        await until(lambda: holds(store, expected(300)))
        await running.stop()
        await check(store, expected(300))
        checkpoints = sorted(key for key in bucket.objects if "checkpoint.parquet" in key)
        assert 3 <= len(checkpoints) <= 8
        puts = [entry for entry in bucket.trace if entry[2] == "put_if_absent"]
        reads = (await snapshot(store)).version
        assert len(puts) <= 2 * reads + len(checkpoints) + 4

    run(main())
