"""What is particular to the directory: crashes, other processes, file systems without links."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from headwater.core.errors import AlreadyExists, Refused, Unavailable
from headwater.core.objectstore.directory import DirectoryStore

_COUNT = """
import asyncio, random, sys
from headwater.core.errors import AlreadyExists
from headwater.core.objectstore.directory import DirectoryStore

async def main():
    store = DirectoryStore(sys.argv[1], rng=random.Random())
    left, created = 40, 0
    for number in range(40):
        try:
            await store.put_if_absent(f"slot/{number}", sys.argv[2].encode())
            created += 1
        except AlreadyExists:
            pass
    while left:
        held = await store.get("counter")
        try:
            await store.replace("counter", b"%d" % (int(held.data) + 1), etag=held.etag)
            left -= 1
        except AlreadyExists:
            pass
    print(created)
    await store.close()

asyncio.run(main())
"""


def with_store(root: Path, body: Callable[[DirectoryStore], Awaitable[None]]) -> None:
    async def main() -> None:
        store = DirectoryStore(root, rng=random.Random(1))
        try:
            await body(store)
        finally:
            await store.close()

    asyncio.run(main())


def test_two_processes_lose_no_update_and_share_no_slot(tmp_path: Path) -> None:
    async def begin(store: DirectoryStore) -> None:
        await store.put_if_absent("counter", b"0")

    with_store(tmp_path, begin)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _COUNT, str(tmp_path), name], stdout=subprocess.PIPE, text=True
        )
        for name in ("a", "b")
    ]
    created = [int(process.communicate(timeout=60)[0]) for process in processes]

    async def check(store: DirectoryStore) -> None:
        assert (await store.get("counter")).data == b"80"
        assert sum(created) == 40

    with_store(tmp_path, check)


def test_a_replaced_object_never_has_an_etag_it_had_before(tmp_path: Path) -> None:
    async def body(store: DirectoryStore) -> None:
        etags = {await store.put("k", b"x")}
        for number in range(50):  # inodes are used again at once, and clocks are coarse
            etags.add(await store.put("k", bytes([number])))
        assert len(etags) == 51

    with_store(tmp_path, body)


def test_what_a_crash_left_behind_is_not_listed_and_goes_when_it_is_old(tmp_path: Path) -> None:
    temporary = tmp_path / ".headwater" / "tmp"
    temporary.mkdir(parents=True)
    young, old = temporary / "young", temporary / "old"
    young.write_bytes(b"half")
    old.write_bytes(b"half")
    os.utime(old, (1, 1))

    async def body(store: DirectoryStore) -> None:
        assert await store.list("") == []

    with_store(tmp_path, body)
    assert young.exists()
    assert not old.exists()


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_without_hard_links_creation_is_still_exclusive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)

    async def body(store: DirectoryStore) -> None:
        await store.put_if_absent("k", b"first")
        with pytest.raises(AlreadyExists):
            await store.put_if_absent("k", b"second")
        assert (await store.get("k")).data == b"first"
        assert not list((tmp_path / ".headwater" / "tmp").iterdir())

    with_store(tmp_path, body)


def test_a_full_disk_is_unavailable_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    async def body(store: DirectoryStore) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(Unavailable, match="no space left"):
                await store.put_if_absent("k", b"x")
            with pytest.raises(Unavailable, match="no space left"):
                await store.put("k", b"x")
        assert await store.list("") == []
        assert not list((tmp_path / ".headwater" / "tmp").iterdir())
        await store.put_if_absent("k", b"x")

    with_store(tmp_path, body)


def test_everything_is_synced_before_the_answer_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    link, fsync = os.link, os.fsync

    def linked(source: Path, target: Path) -> None:
        calls.append("link")
        link(source, target)

    def synced(handle: int) -> None:
        path = os.readlink(f"/proc/self/fd/{handle}")
        calls.append(f"sync {Path(path).relative_to(tmp_path).parts[:1]}")
        fsync(handle)

    monkeypatch.setattr(os, "link", linked)
    monkeypatch.setattr(os, "fsync", synced)

    async def body(store: DirectoryStore) -> None:
        await store.put_if_absent("wal/1", b"x")

    with_store(tmp_path, body)
    assert calls == ["sync ('.headwater',)", "sync ()", "link", "sync ('wal',)"]


def test_a_path_that_is_no_directory_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Refused, match="file"):
        DirectoryStore(tmp_path / "file", rng=random.Random(1))
