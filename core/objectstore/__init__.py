"""An object store with create-if-absent: the one primitive under the cloud journal and the lake's table log.

Contract (each store passes tests/contracts/test_object_store.py):
  put_if_absent  creates the whole object or nothing; of any number of racing callers exactly one succeeds
  get after put  sees what was put (read-after-write, list-after-write)
  errors         AlreadyExists / Missing are certain; Unavailable means certainly not applied; Unknown means the answer
                 was lost or ambiguous (time-out, connection cut, 409, 500): the PUT may have happened or may yet happen
A store never retries by itself: only its caller knows whether repeating is safe.
Keys are relative, `/`-separated, without `.` or `..` parts. Listing is in lexicographic order of keys.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class ObjectInfo(NamedTuple):
    key: str
    size: int
    etag: str
    modified_ms: int


class StoredObject(NamedTuple):
    data: bytes
    etag: str


class ObjectStore(Protocol):
    @property
    def location(self) -> str:
        """For messages: the directory or s3:// address."""

    async def put_if_absent(self, key: str, data: bytes) -> str:
        """Returns the etag. Raises AlreadyExists, Unavailable, Unknown."""

    async def put(self, key: str, data: bytes) -> str:
        """Overwrite; only for hints and caches that may be lost. Raises Unavailable, Unknown."""

    async def replace(self, key: str, data: bytes, *, etag: str) -> str:
        """If-Match. Raises AlreadyExists when another has changed it, Missing, Unavailable, Unknown."""

    async def get(self, key: str, *, start: int = 0, size: int | None = None) -> StoredObject:
        """A range of the object. Raises Missing, Unavailable."""

    async def head(self, key: str) -> ObjectInfo | None:
        """None where there is no such key. Raises Unavailable."""

    async def delete(self, key: str) -> None:
        """No error where there is no such key. Raises Unavailable, Unknown."""

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> list[ObjectInfo]:
        """Up to `limit` objects whose key starts with `prefix` and is greater than `after`."""

    async def close(self) -> None: ...


def join(prefix: str, key: str) -> str:
    return f"{prefix.rstrip('/')}/{key}" if prefix else key
