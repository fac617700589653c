"""What a caller of ShardWriter and its journal may rely on, with the store behaving."""

from __future__ import annotations

import asyncio

import pytest

from headwater.core.errors import (
    Closed,
    Corrupt,
    Missing,
    OffsetOutOfRange,
    Refused,
    Unavailable,
    Unknown,
)
from headwater.core.journal.objects import Batch, Drop, ObjectJournalSettings, Trim
from headwater.core.journal.objects.keys import checkpoint_key, wal_key
from headwater.core.journal.reading import Arrival, Position
from headwater.core.units import ByteSize, Duration
from tests.sim.store import Fault

from .shards import (
    ALERTS,
    READINGS,
    SHARD,
    History,
    Site,
    batch,
    event,
    fill,
    retire_all,
    simulated,
    values,
)

WAL = f"wal/{SHARD:05d}/"


def test_submissions_of_one_interval_share_an_object() -> None:
    async def story(site: Site) -> None:
        writer = await site.open()
        first = writer.submit([batch(writer, b"a", b"b")])
        second = writer.submit([batch(writer, b"c"), batch(writer, b"x", partition=ALERTS)])

        assert writer.next_offset(READINGS) == 3
        assert READINGS not in writer.journal.partitions(), "not durable yet"
        assert (await first).seq == (await second).seq == 2
        assert writer.journal.bounds(READINGS) == (0, 3)
        assert values(await writer.journal.read(READINGS, 0, bytes_max=10_000)) == [
            b"a",
            b"b",
            b"c",
        ]

    simulated(story)


def test_a_full_object_does_not_wait_for_the_interval() -> None:
    async def story(site: Site) -> None:
        settings = ObjectJournalSettings(
            flush_interval=Duration(3600.0), flush_bytes=ByteSize(2000)
        )
        writer = await site.open(settings=settings)
        futures = [writer.submit([batch(writer, bytes(500))]) for _ in range(4)]

        async with asyncio.timeout(60):
            await asyncio.gather(*futures[:3])
        assert not futures[3].done()
        await writer.flush()
        assert futures[3].done()

    simulated(story)


def test_an_idle_shard_writes_nothing() -> None:
    async def story(site: Site) -> None:
        writer = await site.open()
        await fill(writer, 3)
        await writer.checkpoint()
        before = len(site.bucket.trace)
        await asyncio.sleep(24 * 3600)
        await writer.checkpoint()

        assert len(site.bucket.trace) == before

    simulated(story)


def test_a_client_that_goes_away_does_not_take_its_commit_with_it() -> None:
    async def story(site: Site) -> None:
        writer = await site.open()
        gone = writer.submit([batch(writer, b"left behind")])
        stays = writer.submit([batch(writer, b"waited for")])
        gone.cancel()

        await stays
        assert values(await writer.journal.read(READINGS, 0, bytes_max=10_000)) == [
            b"left behind",
            b"waited for",
        ]

    simulated(story)


def test_a_batch_that_does_not_follow_is_refused_and_changes_nothing() -> None:
    async def story(site: Site) -> None:
        writer = await site.open()
        good = batch(writer, b"a")
        await writer.submit([good])
        with pytest.raises(Refused):
            writer.submit([event(), good])
        with pytest.raises(Refused):
            writer.submit([Batch(READINGS, b"short")])
        with pytest.raises(Refused):
            writer.submit([Trim(READINGS, 2)])
        with pytest.raises(Refused):
            writer.submit([])

        assert (await writer.submit([batch(writer, b"b")])).seq == 3

    simulated(story)


def test_pending_bytes_are_bounded_and_room_returns() -> None:
    async def story(site: Site) -> None:
        settings = ObjectJournalSettings(
            flush_interval=Duration(1.0),
            flush_bytes=ByteSize(4000),
            pending_bytes_max=ByteSize(4000),
        )
        writer = await site.open(settings=settings)
        futures = [writer.submit([batch(writer, bytes(1500))]) for _ in range(2)]
        offset = writer.next_offset(READINGS)
        with pytest.raises(Unavailable):
            writer.submit([batch(writer, bytes(1500))])

        assert writer.next_offset(READINGS) == offset
        async with asyncio.timeout(60):
            await writer.room()
        assert all(future.done() for future in futures)
        await writer.submit([batch(writer, bytes(1500))])

    simulated(story)


def test_closing_writes_what_was_submitted_and_refuses_more() -> None:
    async def story(site: Site) -> None:
        writer = await site.open()
        future = writer.submit([batch(writer, b"last")])
        await writer.close()

        assert future.result().seq == 2
        with pytest.raises(Closed):
            writer.submit([event()])
        assert await writer.wait_closed() == "closed by its owner"

    simulated(story)


def test_a_killed_writer_says_that_the_object_in_flight_may_be_in_the_log() -> None:
    async def story(site: Site) -> None:
        writer = await site.open()
        in_flight = writer.submit([event()])
        await asyncio.sleep(0.0501)
        waiting = writer.submit([event()])
        writer.kill()

        with pytest.raises(Unknown):
            await in_flight
        with pytest.raises(Closed):
            await waiting

    simulated(story)


def test_state_that_fails_to_apply_closes_the_writer() -> None:
    async def story(site: Site) -> None:
        writer = await site.open()
        future = writer.submit([event("not json")])

        with pytest.raises(Unknown):
            await future
        assert "JSONDecodeError" in await writer.wait_closed()

    simulated(story)


def test_a_new_owner_has_state_index_and_order_of_the_old_one() -> None:
    async def story(site: Site) -> None:
        history = History()
        old = await site.open(history=history)
        for number in range(10):
            old.submit([event(f"[{number},0]"), batch(old, str(number).encode())])
            if number in {3, 6}:
                await old.flush()
                await old.checkpoint()
        await old.close()

        again = History()
        new = await site.open(history=again)
        assert again.log == history.log
        assert new.next_offset(READINGS) == 10
        assert values(await new.journal.read(READINGS, 0, bytes_max=10_000)) == [
            str(number).encode() for number in range(10)
        ]

    simulated(story)


def test_checkpoints_are_written_beside_the_commits_and_replay_begins_there() -> None:
    async def story(site: Site) -> None:
        settings = ObjectJournalSettings(flush_interval=Duration(0.01), checkpoint_objects=5)
        writer = await site.open(settings=settings)
        await fill(writer, 20)
        await asyncio.sleep(1)
        assert len(site.keys("checkpoint/")) >= 2

        del site.bucket.objects[wal_key(SHARD, 2)]  # nobody needs it to open the shard
        assert (await site.open()).journal.bounds(READINGS) == (0, 20)

    simulated(story)


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before() -> None:
    async def story(site: Site) -> None:
        history = History()
        writer = await site.open(history=history)
        for number in range(3):
            await writer.submit([event(f"[{number},0]")])
            await writer.checkpoint()
        newest = checkpoint_key(SHARD, 2)
        site.bucket.objects[newest] = (b"torn" + site.bucket.objects[newest][0], "x")

        again = History()
        await site.open(history=again)
        assert again.log == history.log

    simulated(story)


def test_collection_deletes_what_no_partition_needs_and_never_a_fence() -> None:
    async def story(site: Site) -> None:
        await (await site.open()).close()
        writer = await site.open()  # slots 1 and 2 are fences
        await writer.submit([batch(writer, b"old"), batch(writer, b"kept", partition=ALERTS)])
        await fill(writer, 3)
        await retire_all(writer)

        assert site.keys(WAL)[:3] == [wal_key(SHARD, seq) for seq in (1, 2, 3)]
        assert wal_key(SHARD, 4) not in site.keys(WAL)
        assert values(await writer.journal.read(ALERTS, 0, bytes_max=1000)) == [b"kept"]
        with pytest.raises(OffsetOutOfRange):
            await writer.journal.read(READINGS, 0, bytes_max=1000)

    simulated(story)


def test_what_a_crash_left_between_boundary_and_deletion_is_found_later() -> None:
    async def story(site: Site) -> None:
        store = site.store()
        writer = await site.open(store)
        await fill(writer, 4)
        for _ in range(20):
            store.script("delete", "", Fault.SLOW_DOWN)
        await retire_all(writer)
        assert wal_key(SHARD, 3) in site.keys(WAL), "the deletions failed"
        writer.kill()

        after = await site.open()
        await after.submit([event()])
        await after.checkpoint()
        await after.submit([event()])
        await after.checkpoint()
        await after.collect()
        assert wal_key(SHARD, 3) not in site.keys(WAL)

    simulated(story)


def test_a_dropped_partition_begins_again_at_zero_even_within_one_object() -> None:
    async def story(site: Site) -> None:
        writer = await site.open()
        await fill(writer, 1)
        first = batch(writer, b"first life")
        assert writer.submit([first, Drop(READINGS)])
        second = batch(writer, b"second life")
        await writer.submit([second])

        for one in (writer, await site.open()):
            assert one.journal.bounds(READINGS) == (0, 1)
            assert values(await one.journal.read(READINGS, 0, bytes_max=1000)) == [b"second life"]
            arrivals, _ = await one.journal.read_arrivals(Position(0, 0), bytes_max=10_000)
            assert values([arrival.batch for arrival in arrivals]) == [b"second life"]

    simulated(story)


def test_arrivals_resume_where_they_stopped_and_come_in_commit_order() -> None:
    async def story(site: Site) -> None:
        writer = await site.open()
        expected: list[Arrival] = []
        for number in range(6):
            partition = (READINGS, ALERTS)[number % 2]
            one = batch(writer, str(number).encode(), partition=partition)
            await writer.submit([one])
            expected.append(Arrival(partition, one.data))

        found: list[Arrival] = []
        position = Position(0, 0)
        while True:
            arrivals, position = await writer.journal.read_arrivals(position, bytes_max=1)
            if not arrivals:
                break
            assert len(arrivals) == 1
            found += arrivals
        assert found == expected

    simulated(story)


def test_the_first_batch_comes_whole_and_the_limit_holds_after_it() -> None:
    async def story(site: Site) -> None:
        writer = await site.open()
        await fill(writer, 5)
        size = len((await writer.journal.read(READINGS, 0, bytes_max=1))[0])

        assert len(await writer.journal.read(READINGS, 0, bytes_max=1)) == 1
        assert len(await writer.journal.read(READINGS, 1, bytes_max=2 * size)) == 2
        assert await writer.journal.read(READINGS, 5, bytes_max=1000) == []
        with pytest.raises(OffsetOutOfRange):
            await writer.journal.read(READINGS, 6, bytes_max=1000)
        with pytest.raises(Missing):
            await writer.journal.read(ALERTS, 0, bytes_max=1000)

    simulated(story)


def test_readers_of_the_same_old_object_share_one_get() -> None:
    async def story(site: Site) -> None:
        writer = await site.open()
        await fill(writer, 1)
        await writer.checkpoint()
        await fill(writer, 1)
        store = site.store()
        reader = await site.open(store)
        gets: list[str] = []
        plain = store.get

        async def counted(key: str, *, start: int = 0, size: int | None = None) -> object:
            gets.append(key)
            return await plain(key, start=start, size=size)

        store.get = counted  # type: ignore[assignment]
        await asyncio.gather(*(reader.journal.read(READINGS, 0, bytes_max=1) for _ in range(10)))

        assert gets == [wal_key(SHARD, 2)]

    simulated(story)


def test_a_large_old_object_is_read_by_range_and_its_crc_is_checked() -> None:
    async def story(site: Site) -> None:
        writer = await site.open()
        await writer.submit([batch(writer, b"good" * 50), batch(writer, b"!", partition=ALERTS)])
        await writer.checkpoint()
        settings = ObjectJournalSettings(
            read_whole_bytes=ByteSize(0), flush_interval=Duration(0.01)
        )
        reader = await site.open(settings=settings)
        assert values(await reader.journal.read(READINGS, 0, bytes_max=1)) == [b"good" * 50]

        key = wal_key(SHARD, 2)
        data, etag = site.bucket.objects[key]
        site.bucket.objects[key] = (data[:-1] + b"?", etag)
        with pytest.raises(Corrupt):
            await reader.journal.read(ALERTS, 0, bytes_max=1)

    simulated(story)


def test_offset_for_time_finds_the_first_record_at_or_after_it() -> None:
    async def story(site: Site) -> None:
        writer = await site.open()
        for at in (1000, 3000, 2000, 4000):  # device clocks step back
            await writer.submit([batch(writer, b"a", b"b", at=at)])
        journal = writer.journal

        async def offset(timestamp_ms: int) -> int | None:
            found = await journal.offset_for_time(READINGS, timestamp_ms)
            return None if found is None else found.offset

        assert [await offset(t) for t in (0, 1001, 1002, 3001, 3002, 4001, 4002)] == [
            0, 1, 2, 3, 6, 7, None,
        ]  # fmt: skip
        await writer.submit([Trim(READINGS, 4)])
        assert [await offset(t) for t in (0, 2001, 2002)] == [4, 5, 6]

    simulated(story)


def test_retention_says_where_the_log_should_start_by_size_and_by_age() -> None:
    async def story(site: Site) -> None:
        writer = await site.open()
        for number in range(4):
            await writer.submit([batch(writer, bytes(100), at=1000 * number)])
        journal = writer.journal
        held = journal.bytes_held(READINGS)

        assert journal.start_for_retention(READINGS) == 0
        assert journal.start_for_retention(READINGS, bytes_max=held) == 0
        assert journal.start_for_retention(READINGS, bytes_max=held // 2) == 2
        assert journal.start_for_retention(READINGS, oldest_ms=1000) == 1
        assert journal.start_for_retention(READINGS, oldest_ms=10**6) == 4

    simulated(story)


def test_a_checkpoint_that_fails_is_named_and_stops_no_commit() -> None:
    async def story(site: Site) -> None:
        settings = ObjectJournalSettings(flush_interval=Duration(0.01), checkpoint_objects=3)
        store = site.store()
        writer = await site.open(store, settings=settings)
        store.script("put_if_absent", "checkpoint/", Fault.SLOW_DOWN)
        await fill(writer, 3)
        await asyncio.sleep(1)
        assert "503" in (writer.housekeeping_problem or "")

        await fill(writer, 3)
        await asyncio.sleep(1)
        assert writer.housekeeping_problem is None
        assert len(site.keys("checkpoint/")) == 1

    simulated(story)


@pytest.mark.parametrize(
    "wrong",
    [
        {"pending_bytes_max": ByteSize(10)},
        {"retry_cap": Duration(0.001)},
        {"checkpoint_objects": 0},
    ],
)
def test_limits_that_contradict_one_another_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        ObjectJournalSettings(**wrong)  # type: ignore[arg-type]
