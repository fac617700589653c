"""Where the cloud keeps everything: a directory or an S3 bucket, opened by its location.

`open_store` trusts nobody: several servers that speak S3 answer 200 to a PUT whose condition does not hold, and on
such a store two writers would both be acknowledged. So it tries the conditions on a key of its own and refuses to go on.
"""

from __future__ import annotations

import asyncio
import random

from ...core.errors import AlreadyExists, Misconfigured, Missing, Unavailable, Unknown
from ...core.objectstore import ObjectStore
from ...core.objectstore.directory import DirectoryStore

__all__ = ["check_conditions", "open_store"]

_S3 = "s3://"
_FILE = "file://"
_ATTEMPTS = 5  # a store may be busy while a whole site starts
_PAUSE_S = 0.5


async def open_store(location: str, *, rng: random.Random | None = None) -> ObjectStore:
    """`DIR`, `file://DIR` or `s3://bucket/prefix`. Raises Misconfigured, Unavailable."""
    rng = rng or random.SystemRandom()
    store = await _make(location, rng)
    try:
        await check_conditions(store, rng)
    except BaseException:
        await store.close()
        raise
    return store


async def _make(location: str, rng: random.Random) -> ObjectStore:
    if location.startswith(_S3):
        bucket, _, prefix = location.removeprefix(_S3).partition("/")
        if not bucket:
            raise Misconfigured(f"{location!r} names no bucket: s3://bucket/prefix")
        try:
            from .s3 import connect
        except ImportError as error:
            raise Misconfigured(
                f"{location}: {error}", hint="pip install 'headwater[cloud]'"
            ) from error
        return await asyncio.to_thread(connect, bucket, prefix)
    path = location.removeprefix(_FILE)
    if "://" in path or not path:
        raise Misconfigured(f"{location!r} is neither a directory nor s3://bucket/prefix")
    return await asyncio.to_thread(lambda: DirectoryStore(path, rng=rng))


async def check_conditions(store: ObjectStore, rng: random.Random) -> None:
    """Raises Misconfigured where the store accepts a PUT whose condition does not hold; Unavailable."""
    for attempt in range(_ATTEMPTS):
        key = f"_probe/{rng.getrandbits(128):032x}"  # a lost answer costs a new key, never a wrong verdict
        try:
            await _probe(store, key)
        except (Unavailable, Unknown) as error:
            if attempt == _ATTEMPTS - 1:
                raise Unavailable(f"{store.location}: {error}") from error
            await asyncio.sleep(_PAUSE_S * 2**attempt)
        else:
            return


async def _probe(store: ObjectStore, key: str) -> None:
    first = await store.put_if_absent(key, b"first")
    try:
        await _must_refuse_create(store, key)
        second = await store.replace(key, b"second", etag=first)
        await _must_refuse_stale(store, key, first)
        kept = await store.get(key)
        if kept.data != b"second" or kept.etag != second:
            raise Misconfigured(f"{store.location}: a refused PUT changed the object all the same")
    finally:
        await store.delete(key)


async def _must_refuse_create(store: ObjectStore, key: str) -> None:
    try:
        await store.put_if_absent(key, b"stolen")
    except AlreadyExists:
        return
    raise Misconfigured(
        f"{store.location}: this store ignores If-None-Match; two writers would both believe they won"
    )


async def _must_refuse_stale(store: ObjectStore, key: str, stale: str) -> None:
    try:
        await store.replace(key, b"stolen", etag=stale)
    except (AlreadyExists, Missing):
        return
    raise Misconfigured(
        f"{store.location}: this store ignores If-Match; two writers would overwrite each other"
    )
