"""What every object store promises: one body, all stores."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from headwater.core.errors import AlreadyExists, Missing, Refused
from headwater.core.objectstore import ObjectStore
from tests.seaweed import seaweed  # noqa: F401

from .stores import ALL, ATOMIC, opened

Body = Callable[[ObjectStore], Awaitable[None]]
Run = Callable[[str, Body], None]


@pytest.fixture
def against(tmp_path: Path, request: pytest.FixtureRequest) -> Run:
    def run(kind: str, body: Body) -> None:
        async def main() -> None:
            async with opened(kind, tmp_path / "store", request) as store:
                await body(store)

        asyncio.run(main())

    return run


@pytest.mark.parametrize("kind", ALL)
def test_an_object_is_created_once_and_read_back(kind: str, against: Run) -> None:
    async def body(store: ObjectStore) -> None:
        etag = await store.put_if_absent("wal/00000/1", b"first")
        with pytest.raises(AlreadyExists):
            await store.put_if_absent("wal/00000/1", b"second")

        assert await store.get("wal/00000/1") == (b"first", etag)
        info = await store.head("wal/00000/1")
        assert info is not None
        assert (info.key, info.size, info.etag) == ("wal/00000/1", 5, etag)

    against(kind, body)


@pytest.mark.parametrize("kind", ALL)
def test_an_empty_object_is_an_object(kind: str, against: Run) -> None:
    async def body(store: ObjectStore) -> None:
        await store.put_if_absent("empty", b"")
        assert (await store.get("empty")).data == b""
        with pytest.raises(AlreadyExists):
            await store.put_if_absent("empty", b"x")

    against(kind, body)


@pytest.mark.parametrize("kind", ALL)
def test_what_is_not_there_is_missing(kind: str, against: Run) -> None:
    async def body(store: ObjectStore) -> None:
        assert await store.head("no/such") is None
        with pytest.raises(Missing):
            await store.get("no/such")
        with pytest.raises(Missing):
            await store.get("no/such", start=5, size=2)
        with pytest.raises(Missing):
            await store.replace("no/such", b"x", etag='"00000000000000000000000000000000"')
        await store.delete("no/such")

    against(kind, body)


@pytest.mark.parametrize("kind", ALL)
def test_a_range_is_those_bytes_and_beyond_the_end_is_nothing(kind: str, against: Run) -> None:
    async def body(store: ObjectStore) -> None:
        etag = await store.put_if_absent("k", b"0123456789")
        for start, size, expected in (
            (0, 4, b"0123"), (3, 4, b"3456"), (8, 100, b"89"), (7, None, b"789"),
            (10, 5, b""), (50, 5, b""), (3, 0, b""),
        ):  # fmt: skip
            assert await store.get("k", start=start, size=size) == (expected, etag), (start, size)

    against(kind, body)


@pytest.mark.parametrize("kind", ALL)
def test_a_stale_etag_replaces_nothing(kind: str, against: Run) -> None:
    async def body(store: ObjectStore) -> None:
        first = await store.put_if_absent("pointer", b"1")
        second = await store.replace("pointer", b"2", etag=first)
        with pytest.raises(AlreadyExists):
            await store.replace("pointer", b"3", etag=first)
        assert second != first
        assert await store.get("pointer") == (b"2", second)

        third = await store.put("pointer", b"4")
        with pytest.raises(AlreadyExists):
            await store.replace("pointer", b"5", etag=second)
        assert await store.get("pointer") == (b"4", third)

    against(kind, body)


@pytest.mark.parametrize("kind", ALL)
def test_a_deleted_key_is_free_again(kind: str, against: Run) -> None:
    async def body(store: ObjectStore) -> None:
        await store.put_if_absent("k", b"1")
        await store.delete("k")
        assert await store.head("k") is None
        assert await store.list("") == []
        await store.put_if_absent("k", b"2")
        assert (await store.get("k")).data == b"2"

    against(kind, body)


@pytest.mark.parametrize("kind", ALL)
def test_listing_is_in_key_order_in_pages_below_a_prefix(kind: str, against: Run) -> None:
    async def body(store: ObjectStore) -> None:
        keys = [f"wal/{shard:05d}/{seq:020d}" for shard in (0, 1) for seq in range(5)]
        for key in reversed([*keys, "boundary/00000", "walrus"]):
            await store.put_if_absent(key, b"x")

        first = await store.list("wal/00000/", limit=3)
        rest = await store.list("wal/00000/", after=first[-1].key, limit=3)

        assert [info.key for info in first + rest] == keys[:5]
        assert [info.key for info in await store.list("wal/")] == keys
        assert [info.key for info in await store.list("wal/0000")] == keys
        assert len(await store.list("")) == 12
        assert await store.list("nothing/") == []

    against(kind, body)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    "key", ["", "/", "a//b", "../a", "a/./b", "/a", "a/", ".headwater/lock", "a\0b"]
)
def test_a_key_that_is_no_plain_path_is_refused(kind: str, key: str, against: Run) -> None:
    async def body(store: ObjectStore) -> None:
        with pytest.raises(Refused):
            await store.put_if_absent(key, b"x")
        with pytest.raises(Refused):
            await store.get(key)

    if kind != "seaweed" or key == "":  # the check is one function; one round over HTTP is enough
        against(kind, body)


@pytest.mark.parametrize("kind", ATOMIC)
def test_of_racing_creators_exactly_one_succeeds(kind: str, against: Run) -> None:
    async def body(store: ObjectStore) -> None:
        async def create(key: str, who: bytes) -> bytes | None:
            try:
                await store.put_if_absent(key, who)
            except AlreadyExists:
                return None
            return who

        for round_number in range(10):
            key = f"race/{round_number}"
            won = await asyncio.gather(create(key, b"a"), create(key, b"b"))
            winners = [who for who in won if who is not None]
            assert len(winners) == 1
            assert (await store.get(key)).data == winners[0]

    against(kind, body)


@pytest.mark.parametrize("kind", ATOMIC)
def test_racing_compare_and_swaps_lose_no_increment(kind: str, against: Run) -> None:
    async def body(store: ObjectStore) -> None:
        await store.put_if_absent("counter", b"0")

        async def increment(times: int) -> None:
            while times:
                held = await store.get("counter")
                try:
                    await store.replace("counter", str(int(held.data) + 1).encode(), etag=held.etag)
                except AlreadyExists:
                    continue
                times -= 1

        await asyncio.gather(increment(10), increment(10))
        assert (await store.get("counter")).data == b"20"

    against(kind, body)
