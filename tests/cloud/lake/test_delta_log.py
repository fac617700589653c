"""The Delta log by itself: commits, rivals, lost answers, checkpoints, damage."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest

from headwater.cloud.lake.delta import (
    Add,
    Commit,
    DeltaLog,
    Draft,
    Metadata,
    Overtaken,
    Protocol,
    Remove,
    Schema,
    Txn,
)
from headwater.cloud.lake.delta import checkpoint as checkpoints
from headwater.cloud.lake.delta.names import (
    checkpoint_key,
    last_checkpoint_key,
    parse_checkpoint,
    version_key,
)
from headwater.cloud.lake.offload import in_place
from headwater.core.backoff import Backoff
from headwater.core.clock import Clock, ManualClock
from headwater.core.errors import Corrupt, Refused, Unavailable
from headwater.core.objectstore import ObjectStore
from tests.sim.loop import run
from tests.sim.store import ROUGH, SimulatedBucket, SimulatedStore

METADATA = Metadata(id="t", schema_string=Schema([]).encode(), partition_columns=[])


def log_on(store: ObjectStore, *, seed: int = 0, clock: Clock | None = None) -> DeltaLog:
    return DeltaLog(
        store, "t", clock=clock or ManualClock(), rng=random.Random(seed), offload=in_place
    )


def store_on(bucket: SimulatedBucket, *, seed: int = 0) -> SimulatedStore:
    return SimulatedStore(random.Random(seed), bucket=bucket)


def retries() -> Backoff:
    return Backoff(random.Random(1))


def draft(number: int, *, app: str = "app", new: bool = False) -> Draft:
    add = Add(path=f"f{app}{number}.parquet", size=1, modification_time=0, data_change=True)
    return Draft(
        operation="WRITE",
        adds=(add,),
        txns=(Txn(app_id=app, version=number),),
        metadata=METADATA if new else None,
    )


async def write(log: DeltaLog, count: int, *, first: int = 0) -> None:
    for number in range(first, first + count):
        await log.commit(draft(number, new=not log.snapshot.exists), retries=retries())
        if log.checkpoint_due:
            await log.write_checkpoint()


def test_what_was_committed_is_what_is_read() -> None:
    async def main() -> None:
        bucket = SimulatedBucket()
        log = log_on(store_on(bucket))
        await log.load()
        await write(log, 3)
        read = await log_on(store_on(bucket)).load()
        assert read.version == 2
        assert set(read.files) == {f"fapp{n}.parquet" for n in range(3)}
        assert read.position("app") == 2
        assert read.metadata == METADATA

    run(main())


def test_a_checkpoint_says_the_same_as_the_commits_it_stands_for() -> None:
    async def main() -> None:
        bucket = SimulatedBucket()
        log = log_on(store_on(bucket))
        await log.load()
        await write(log, 120)
        await store_on(bucket).put_if_absent(
            version_key("t", 120),
            Commit(
                removes=(Remove(path="fapp3.parquet", data_change=True, deletion_timestamp=0),)
            ).encode(),
        )
        await log.refresh()
        assert last_checkpoint_key("t") in bucket.objects
        with_checkpoint = await log_on(store_on(bucket)).load()
        for key in [key for key in bucket.objects if "checkpoint" in key]:
            bucket.remove(key)
        without = await log_on(store_on(bucket)).load()
        for left, right in ((with_checkpoint, without), (log.snapshot, without)):
            assert left.version == right.version
            assert left.txns == right.txns
            assert left.metadata == right.metadata
            assert {p: a.size for p, a in left.files.items()} == {
                p: a.size for p, a in right.files.items()
            }

    run(main())


def test_a_reader_replays_from_the_checkpoint_only() -> None:
    async def main() -> None:
        bucket = SimulatedBucket()
        log = log_on(store_on(bucket))
        await log.load()
        await write(log, 110)
        for version in range(100):  # what a log clean-up does
            bucket.remove(version_key("t", version))
        assert (await log_on(store_on(bucket)).load()).version == 109

    run(main())


@pytest.mark.parametrize("hint", [None, b"not json", b'{"version": 0}', b'{"version": 99999}'])
def test_a_lost_or_wrong_hint_is_made_up_for_by_a_listing(hint: bytes | None) -> None:
    async def main() -> None:
        bucket = SimulatedBucket()
        log = log_on(store_on(bucket))
        await log.load()
        await write(log, 110)
        for version in range(100):
            bucket.remove(version_key("t", version))
        if hint is None:
            bucket.remove(last_checkpoint_key("t"))
        else:
            bucket.overwrite(last_checkpoint_key("t"), hint, None)
        assert (await log_on(store_on(bucket)).load()).version == 109

    run(main())


def test_a_version_missing_in_the_middle_is_damage_and_not_the_end() -> None:
    async def main() -> None:
        bucket = SimulatedBucket()
        log = log_on(store_on(bucket))
        await log.load()
        await write(log, 10)
        bucket.remove(version_key("t", 4))
        with pytest.raises(Corrupt, match="version 9 exists but 4 does not"):
            await log_on(store_on(bucket)).load()

    run(main())


def test_a_commit_that_is_no_json_is_damage() -> None:
    async def main() -> None:
        bucket = SimulatedBucket()
        bucket.create(version_key("t", 0), b"\xff{")
        with pytest.raises(Corrupt, match="not a Delta commit"):
            await log_on(store_on(bucket)).load()

    run(main())


def test_a_table_of_a_newer_protocol_is_refused_with_its_version() -> None:
    async def main() -> None:
        bucket = SimulatedBucket()
        protocol = Protocol(min_reader_version=3, min_writer_version=7)
        bucket.create(version_key("t", 0), Commit(protocol=protocol, metadata=METADATA).encode())
        with pytest.raises(Refused, match="reader version 3"):
            await log_on(store_on(bucket)).load()

    run(main())


def test_writers_of_different_identifiers_build_upon_each_other() -> None:
    async def main() -> None:
        bucket = SimulatedBucket()
        first, second = (log_on(store_on(bucket, seed=n), seed=n) for n in range(2))
        await first.load()
        await first.commit(draft(0, new=True), retries=retries())
        await second.load()
        await first.commit(draft(1), retries=retries())
        assert await second.commit(draft(0, app="other"), retries=retries()) == 2
        assert second.conflicts == 1
        assert second.snapshot.position("app") == 1

    run(main())


def test_of_two_writers_of_one_identifier_the_second_is_overtaken() -> None:
    async def main() -> None:
        bucket = SimulatedBucket()
        first, second = (log_on(store_on(bucket, seed=n), seed=n) for n in range(2))
        await first.load()
        await first.commit(draft(0, new=True), retries=retries())
        await second.load()
        await first.commit(draft(1), retries=retries())
        with pytest.raises(Overtaken, match="moved app from 0 to 1"):
            await second.commit(draft(1), retries=retries())

    run(main())


def test_of_two_writers_that_make_the_table_one_is_overtaken() -> None:
    async def main() -> None:
        bucket = SimulatedBucket()
        logs = [log_on(store_on(bucket, seed=n), seed=n) for n in range(2)]
        for log in logs:
            await log.load()
        outcomes = await asyncio.gather(
            *(log.commit(draft(0, new=True), retries=retries()) for log in logs),
            return_exceptions=True,
        )
        assert {type(outcome) for outcome in outcomes} == {int, Overtaken}

    run(main())


def test_a_table_replaced_by_another_is_refused() -> None:
    async def main() -> None:
        bucket = SimulatedBucket()
        log = log_on(store_on(bucket))
        await log.load()
        await write(log, 1)
        other = msgspec.structs.replace(METADATA, id="another")
        bucket.create(version_key("t", 1), Commit(metadata=other).encode())
        with pytest.raises(Refused, match="replaced by another table"):
            await log.commit(draft(1), retries=retries())

    run(main())


@pytest.mark.parametrize("seed", range(30))
def test_on_a_store_that_lies_each_commit_is_there_once(seed: int) -> None:
    async def main() -> None:
        bucket = SimulatedBucket()
        rough = SimulatedStore(random.Random(seed), bucket=bucket, rates=ROUGH)
        log = log_on(rough, seed=seed)
        while True:
            try:
                await log.load()
                break
            except Unavailable:
                await asyncio.sleep(1)
        for number in range(20):
            await log.commit(draft(number, new=number == 0), retries=retries())
        await asyncio.sleep(600)  # late PUTs land
        read = await log_on(store_on(bucket)).load()
        assert read.version == 19
        assert len(read.files) == 20

    run(main())


def test_a_writer_that_slept_looks_before_it_commits() -> None:
    async def main() -> None:
        bucket, clock = SimulatedBucket(), ManualClock()
        sleeper = log_on(store_on(bucket), clock=clock)
        await sleeper.load()
        await sleeper.commit(draft(0, new=True), retries=retries())
        busy = log_on(store_on(bucket, seed=2), seed=2)
        await busy.load()
        for number in range(1, 101):
            await busy.commit(draft(number), retries=retries())
        await busy.write_checkpoint()
        for version in range(100):  # cleaned up: version 1 looks free
            bucket.remove(version_key("t", version))
        clock.advance(3600)
        with pytest.raises(Overtaken):
            await sleeper.commit(draft(1), retries=retries())
        assert version_key("t", 1) not in bucket.objects

    run(main())


def test_checkpoints_get_rarer_as_the_table_grows() -> None:
    async def main() -> None:
        bucket = SimulatedBucket()
        log = log_on(store_on(bucket))
        await log.load()
        for number in range(40):
            many = tuple(
                Add(path=f"{number}-{n}", size=1, modification_time=0, data_change=True)
                for n in range(100)
            )
            await log.commit(
                Draft(operation="WRITE", adds=many, metadata=METADATA if number == 0 else None),
                retries=retries(),
            )
        assert len(log.snapshot.files) == 4000
        assert not log.checkpoint_due
        await log.write_checkpoint()
        await write(log, 190)
        assert not any(parse_checkpoint(k) == (89, 0) for k in bucket.objects)

    run(main())


def test_tombstones_outlive_the_checkpoint_until_a_vacuum_is_safe() -> None:
    remove = Remove(path="x", data_change=True, deletion_timestamp=1_700_000_000_000)
    protocol = Protocol(min_reader_version=1, min_writer_version=2)
    state = Commit(protocol=protocol, metadata=METADATA, removes=(remove,))
    decoded = checkpoints.decode([checkpoints.encode(state)], key="k")
    assert [found.path for found in decoded.removes] == ["x"]
    assert checkpoint_key("t", 7).endswith("/00000000000000000007.checkpoint.parquet")
