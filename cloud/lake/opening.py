"""A lake opened for reading: nothing is created, probed or locked; read-only mounts and credentials are enough.

Which tables there are is found without listing their data: in a directory by looking, in a bucket by skipping from
the first key of one table to the first key behind it.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from ...core.clock import SystemClock
from ...core.errors import Misconfigured, Missing, Refused, Unavailable
from ...core.objectstore import ObjectInfo, ObjectStore, StoredObject
from .delta import DeltaLog, Snapshot
from .delta.names import LOG_FOLDER, log_prefix

_S3 = "s3://"
_FILE = "file://"
_Page = list[ObjectInfo]

# Tables whose logs are read at the same time.
_AT_ONCE = 8


async def open_for_reading(location: str) -> ObjectStore:
    """Raises Refused where there is no such directory, Misconfigured for what is no location."""
    if location.startswith(_S3):
        bucket, _, prefix = location.removeprefix(_S3).partition("/")
        if not bucket:
            raise Misconfigured(f"{location!r} names no bucket: s3://bucket/prefix")
        from ..store.s3 import connect

        return await asyncio.to_thread(connect, bucket, prefix.rstrip("/"))
    return _open_directory(location.removeprefix(_FILE))


def _open_directory(location: str) -> DirectoryReader:
    if "://" in location or not location:
        raise Misconfigured(f"{location!r} is neither a directory nor s3://bucket/prefix")
    path = Path(location)
    if not path.is_dir():
        raise Refused(f"there is no lake at {path}", hint="--lake DIR|s3://bucket/prefix")
    return DirectoryReader(path)


async def load_tables(store: ObjectStore) -> dict[str, Snapshot]:
    """The present state of every table, by name. Raises Unavailable, Corrupt, Refused."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def load(name: str) -> Snapshot:
        async with gate:
            log = DeltaLog(store, name, clock=SystemClock(), rng=random.Random(0))
            return await log.load()

    names = await table_names(store)
    snapshots = await asyncio.gather(*(load(name) for name in names))
    return {name: found for name, found in zip(names, snapshots, strict=True) if found.exists}


async def table_names(store: ObjectStore) -> list[str]:
    if isinstance(store, DirectoryReader):
        return store.tables()
    names: list[str] = []
    after = ""
    while page := await store.list("", after=after, limit=1):
        name, slash, _ = page[0].key.partition("/")
        # Behind all keys of this folder, in the order of bytes (where "a.b/" comes before "a/") and in that of
        # folders (after it), which some servers have.
        after = f"{name}/~" if slash else page[0].key
        if slash and await store.list(log_prefix(name), limit=1):
            names.append(name)
    return names


class DirectoryReader(ObjectStore):
    """The reading half of an object store over a directory that somebody else writes."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    @property
    def location(self) -> str:
        return str(self._root)

    def tables(self) -> list[str]:
        return sorted(found.parent.name for found in self._root.glob(f"*/{LOG_FOLDER}"))

    async def get(self, key: str, *, start: int = 0, size: int | None = None) -> StoredObject:
        try:
            data = (self._root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise Missing(f"{self._root / key}: no such file") from None
        except OSError as error:
            raise Unavailable(f"{self._root / key}: {error.strerror or error}") from error
        return StoredObject(data[start : None if size is None else start + size], "")

    async def head(self, key: str) -> ObjectInfo | None:
        path = self._root / key
        return self._info(path) if path.is_file() else None

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> _Page:
        folder = self._root / prefix.rpartition("/")[0]
        found = [path for path in folder.rglob("*") if path.is_file()]
        infos = sorted(self._info(path) for path in found)
        return [i for i in infos if i.key.startswith(prefix) and i.key > after][:limit]

    def _info(self, path: Path) -> ObjectInfo:
        stat = path.stat()
        key = path.relative_to(self._root).as_posix()
        return ObjectInfo(key, stat.st_size, "", stat.st_mtime_ns // 1_000_000)

    async def put_if_absent(self, key: str, data: bytes) -> str:
        raise self._refusal(key)

    async def put(self, key: str, data: bytes) -> str:
        raise self._refusal(key)

    async def replace(self, key: str, data: bytes, *, etag: str) -> str:
        raise self._refusal(key)

    async def delete(self, key: str) -> None:
        raise self._refusal(key)

    async def close(self) -> None:
        return

    def _refusal(self, key: str) -> Refused:
        return Refused(f"{self._root / key}: opened for reading")
