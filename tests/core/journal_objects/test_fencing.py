"""Stories of data loss that others had, each told once, with every pause where it hurts most."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from headwater.core.errors import Closed, Corrupt, Unknown
from headwater.core.journal.objects.keys import wal_key
from tests.sim.store import Fault

from .shards import (
    READINGS,
    SETTINGS,
    SHARD,
    GatedStore,
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


def test_a_put_whose_answer_was_lost_is_acknowledged_and_in_the_log_once() -> None:
    async def story(site: Site) -> None:
        store = site.store()
        writer = await site.open(store)
        store.script("put_if_absent", WAL, Fault.DROP)

        result = await writer.submit([batch(writer, b"once")])

        assert result.seq == 2
        assert site.keys(WAL) == [wal_key(SHARD, 1), wal_key(SHARD, 2)]
        assert writer.closed_reason is None

    simulated(story)


def test_a_put_that_lands_after_its_slot_was_seen_free_changes_nothing() -> None:
    async def story(site: Site) -> None:
        store = site.store()
        writer = await site.open(store)
        store.script("put_if_absent", WAL, Fault.LATE)

        result = await writer.submit([batch(writer, b"late")])
        held = site.bucket.objects[wal_key(SHARD, result.seq)]
        await asyncio.sleep(1000)

        assert site.bucket.objects[wal_key(SHARD, result.seq)] == held
        assert len(site.keys(WAL)) == 2

    simulated(story)


@pytest.mark.parametrize("fault", [Fault.CONFLICT, Fault.ERROR, Fault.SLOW_DOWN])
def test_an_undecided_put_is_repeated_into_the_same_slot(fault: Fault) -> None:
    async def story(site: Site) -> None:
        store = site.store()
        writer = await site.open(store)
        for _ in range(5):
            store.script("put_if_absent", WAL, fault)

        assert (await writer.submit([event()])).seq == 2
        assert (await writer.submit([event()])).seq == 3

    simulated(story)


def test_a_stalled_writer_learns_that_it_was_fenced_and_acknowledges_nothing() -> None:
    async def story(site: Site) -> None:
        store = GatedStore(site.bucket, wal_key(SHARD, 2))
        old = await site.open(store)
        future = old.submit([batch(old, b"from the dead")])
        await store.reached.wait()
        new = await site.open()
        store.open.set()

        with pytest.raises(Closed):
            await future
        assert "fenced" in await old.wait_closed()
        with pytest.raises(Closed):
            old.submit([event()])
        assert new.epoch == old.epoch + 1
        assert READINGS not in new.journal.partitions()

    simulated(story)


def test_a_writer_stalled_across_collection_cannot_win_a_slot_that_was_used() -> None:
    async def story(site: Site) -> None:
        store = GatedStore(site.bucket, wal_key(SHARD, 2))
        old = await site.open(store)
        future = old.submit([batch(old, b"from the dead")])
        await store.reached.wait()
        new = await site.open()
        await fill(new, 5)
        await retire_all(new)
        assert site.keys(WAL)[:2] == [wal_key(SHARD, 1), wal_key(SHARD, 2)], "the fences stand"
        assert wal_key(SHARD, 3) not in site.keys(WAL), "the data is gone"
        store.open.set()

        with pytest.raises(Closed):
            await future

    simulated(story)


def test_even_where_somebody_deleted_the_fences_the_boundary_stops_a_stalled_writer() -> None:
    """A bucket's lifecycle rule can do what we never do; the look at the boundary is the belt beside the braces."""

    async def story(site: Site) -> None:
        store = GatedStore(site.bucket, wal_key(SHARD, 2))
        old = await site.open(store)
        future = old.submit([batch(old, b"from the dead")])
        await store.reached.wait()
        new = await site.open()
        await fill(new, 5)
        await retire_all(new)
        await asyncio.sleep(SETTINGS.boundary_check_interval + 1)
        for key in site.keys(WAL)[:2]:
            del site.bucket.objects[key]
        store.open.set()

        with pytest.raises(Unknown):
            await future
        assert "below the boundary" in await old.wait_closed()

    simulated(story)


def test_an_opener_stalled_across_collection_does_not_take_a_slot_that_was_used() -> None:
    """The one slot where a fence does not protect: the opener's own, which may have held data since."""

    async def story(site: Site) -> None:
        owner = await site.open()
        store = GatedStore(site.bucket, wal_key(SHARD, 2))
        opening = asyncio.ensure_future(site.open(store))
        await store.reached.wait()
        await fill(owner, 5)
        await retire_all(owner)
        assert wal_key(SHARD, 2) not in site.keys(WAL)
        store.open.set()

        with pytest.raises(Closed):
            await opening
        await owner.submit([batch(owner, b"still the owner")])
        after = await site.open()
        assert values(await after.journal.read(READINGS, 5, bytes_max=1000)) == [b"still the owner"]

    simulated(story)


def test_of_two_openers_at_once_one_gives_up_and_the_other_serves() -> None:
    async def story(site: Site) -> None:
        store = GatedStore(site.bucket, WAL)
        slow = asyncio.ensure_future(site.open(store))
        await store.reached.wait()
        quick = await site.open()
        store.open.set()

        with pytest.raises(Closed):
            await slow
        await quick.submit([event()])

    simulated(story)


def test_a_takeover_outruns_an_owner_that_keeps_committing() -> None:
    async def story(site: Site) -> None:
        old = await site.open()
        store = GatedStore(site.bucket, wal_key(SHARD, 2))
        opening = asyncio.ensure_future(site.open(store))
        await store.reached.wait()
        await fill(old, 3)
        store.open.set()
        new = await opening

        assert new.journal.bounds(READINGS) == (0, 3)
        with pytest.raises(Closed):
            await old.submit([event()])

    simulated(story)


def test_a_late_checkpoint_of_a_fenced_writer_leaves_the_shard_readable() -> None:
    """Its ordinal is the newest and its slot is old: neither opening nor collection may trust the ordinal alone."""

    async def story(site: Site) -> None:
        store = GatedStore(site.bucket, "checkpoint/")
        old = await site.open(store)
        await fill(old, 3)
        late = asyncio.ensure_future(old.checkpoint())
        await store.reached.wait()
        history = History()
        new = await site.open(history=history)
        await fill(new, 3)
        await retire_all(new)
        store.open.set()
        await late  # lands under the next free ordinal

        await old.collect()
        with contextlib.suppress(Closed):
            await old.submit([event("[1,1]")])
        again = History()
        after = await site.open(history=again)
        await retire_all(after)
        await fill(after, 1)
        last = await site.open()

        assert again.log[: len(history.log)] == history.log
        assert last.journal.bounds(READINGS) == (6, 7)

    simulated(story)


def test_two_late_checkpoints_do_not_let_a_fenced_writer_move_the_boundary_apart() -> None:
    async def story(site: Site) -> None:
        store = GatedStore(site.bucket, "checkpoint/")
        old = await site.open(store)
        await fill(old, 2)
        first = asyncio.ensure_future(old.checkpoint())
        await store.reached.wait()
        await fill(old, 1)
        new = await site.open()
        await fill(new, 3)
        await retire_all(new)
        store.open.set()
        await first
        await (
            old.checkpoint()
        )  # now the fenced writer knows two, both newer by ordinal, older by slot
        await old.collect()

        after = await site.open()
        assert after.journal.bounds(READINGS) == (6, 6)

    simulated(story)


def test_a_fenced_writer_that_collects_leaves_alone_what_it_has_never_seen() -> None:
    async def story(site: Site) -> None:
        old = await site.open()
        for _ in range(2):
            await fill(old, 2)
            await old.checkpoint()
        new = await site.open()
        for _ in range(3):  # the boundary is now past slots that the old writer does not know
            await fill(new, 2)
            await new.checkpoint()
        await new.collect()

        await old.collect()

        assert len(await new.journal.read(READINGS, 0, bytes_max=10_000)) == 10
        after = await site.open()
        assert len(await after.journal.read(READINGS, 0, bytes_max=10_000)) == 10

    simulated(story)


def test_tail_current_is_false_for_a_fenced_writer_and_closes_it() -> None:
    async def story(site: Site) -> None:
        old = await site.open()
        assert await old.tail_current()
        await site.open()

        assert not await old.tail_current()
        assert old.closed_reason is not None
        with pytest.raises(Closed):
            await old.tail_current()

    simulated(story)


def test_tail_current_waits_for_a_commit_in_flight_to_tell_whose_the_slot_is() -> None:
    async def story(site: Site) -> None:
        store = site.store()
        writer = await site.open(store)
        store.script("put_if_absent", WAL, Fault.DROP)
        future = writer.submit([event()])
        await asyncio.sleep((SETTINGS.flush_interval or 0) + 0.021)  # by now the PUT has landed

        assert await writer.tail_current()
        assert future.done()

    simulated(story)


@pytest.mark.parametrize("where", [0, 20, 100, -1])
def test_a_flipped_byte_in_the_log_is_found_at_opening(where: int) -> None:
    async def story(site: Site) -> None:
        await fill(await site.open(), 2)
        data, etag = site.bucket.objects[wal_key(SHARD, 2)]
        damaged = bytearray(data)
        damaged[where] ^= 1
        site.bucket.objects[wal_key(SHARD, 2)] = (bytes(damaged), etag)

        with pytest.raises(Corrupt):
            await site.open()

    simulated(story)


def test_an_object_of_another_log_breaks_the_chain() -> None:
    async def story(site: Site) -> None:
        await fill(await site.open(), 2)
        other = Site()
        await other.open()
        await fill(await other.open(), 1)  # its slot 3 has another predecessor
        site.bucket.objects[wal_key(SHARD, 3)] = other.bucket.objects[wal_key(SHARD, 3)]

        with pytest.raises(Corrupt, match="does not follow"):
            await site.open()

    simulated(story)


def test_an_object_lost_from_the_middle_is_reported_not_covered_by_the_fence() -> None:
    async def story(site: Site) -> None:
        await fill(await site.open(), 6)
        del site.bucket.objects[
            wal_key(SHARD, 3)
        ]  # where probing looks, so it takes the hole for the tail

        for _ in range(2):  # the second time there is our own fence in its place
            with pytest.raises(Corrupt):
                await site.open()

    simulated(story)
