"""What an S3 answer means, and what `open_store` refuses to open."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import botocore.exceptions as boto_errors
import pytest

from headwater.cloud.store import check_conditions, open_store
from headwater.cloud.store.s3 import S3Store, connect
from headwater.core.errors import (
    AlreadyExists,
    HeadwaterError,
    Misconfigured,
    Missing,
    Refused,
    Unavailable,
    Unknown,
)
from tests.sim.store import Fault, SimulatedBucket, SimulatedStore


class _Failing:
    """An S3 client whose every call fails the same way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def _fail(self, **_: object) -> NoReturn:
        raise self._error

    put_object = get_object = head_object = delete_object = list_objects_v2 = _fail

    def close(self) -> None:
        return


def answer(status: int, code: str = "") -> Exception:
    return boto_errors.ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "op",
    )


def outcome(error: Exception, call: Callable[[S3Store], Any]) -> type[HeadwaterError]:
    async def main() -> type[HeadwaterError]:
        store = S3Store(_Failing(error), "bucket", "p")
        try:
            await call(store)
        except HeadwaterError as raised:
            return type(raised)
        finally:
            await store.close()
        raise AssertionError("no error")

    return asyncio.run(main())


URL = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("error", "write", "read"),
    [
        (answer(412, "PreconditionFailed"), AlreadyExists, AlreadyExists),
        (answer(409, "ConditionalRequestConflict"), Unknown, Unavailable),
        (answer(500, "InternalError"), Unknown, Unavailable),
        (answer(502), Unknown, Unavailable),
        (answer(504), Unknown, Unavailable),
        (answer(400, "RequestTimeout"), Unknown, Unavailable),
        (answer(503, "SlowDown"), Unavailable, Unavailable),
        (answer(429), Unavailable, Unavailable),
        (answer(404, "NoSuchKey"), Missing, Missing),
        (answer(404, "NoSuchBucket"), Misconfigured, Misconfigured),
        (answer(403, "AccessDenied"), Misconfigured, Misconfigured),
        (answer(400, "InvalidArgument"), Refused, Refused),
        (boto_errors.EndpointConnectionError(endpoint_url=URL), Unavailable, Unavailable),
        (boto_errors.ConnectTimeoutError(endpoint_url=URL), Unavailable, Unavailable),
        (boto_errors.ReadTimeoutError(endpoint_url=URL), Unknown, Unavailable),
        (boto_errors.ConnectionClosedError(endpoint_url=URL), Unknown, Unavailable),
        (ConnectionResetError("cut"), Unknown, Unavailable),
        (boto_errors.NoCredentialsError(), Misconfigured, Misconfigured),
    ],
    ids=str,
)
def test_an_answer_says_what_happened_to_the_data(
    error: Exception, write: type[HeadwaterError], read: type[HeadwaterError]
) -> None:
    assert outcome(error, lambda store: store.put_if_absent("k", b"")) is write
    assert outcome(error, lambda store: store.put("k", b"")) is write
    assert outcome(error, lambda store: store.get("k")) is read


def test_a_call_is_one_request_on_the_wire() -> None:
    """A server that cuts every connection after the request: repeated by the SDK, a lost yes would become a no."""
    requests = 0

    async def main() -> None:
        nonlocal requests

        async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal requests
            await reader.readuntil(b"\r\n\r\n")
            requests += 1
            writer.close()

        server = await asyncio.start_server(cut, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        store = connect("bucket", endpoint_url=f"http://127.0.0.1:{port}")
        with pytest.raises(Unknown):
            await store.put_if_absent("k", b"data")
        await store.close()
        server.close()
        await server.wait_closed()

    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("AWS_ACCESS_KEY_ID", "test")
        environ.setenv("AWS_SECRET_ACCESS_KEY", "test")
        asyncio.run(main())
    assert requests == 1


class _Ignoring(SimulatedBucket):
    """A server of the kind that answers 200 to everything."""

    def __init__(self, *, create: bool, replace: bool) -> None:
        super().__init__()
        self._create, self._replace = create, replace

    def create(self, key: str, data: bytes) -> str:
        return self.overwrite(key, data, None) if self._create else super().create(key, data)

    def overwrite(self, key: str, data: bytes, etag: str | None) -> str:
        return super().overwrite(key, data, None if self._replace else etag)


@pytest.mark.parametrize(
    ("create", "replace", "named"), [(True, False, "If-None-Match"), (False, True, "If-Match")]
)
def test_a_store_that_ignores_conditions_is_refused_by_name(
    create: bool, replace: bool, named: str
) -> None:
    bucket = _Ignoring(create=create, replace=replace)
    store = SimulatedStore(random.Random(1), bucket=bucket, latency_s=0)

    with pytest.raises(Misconfigured, match=named):
        asyncio.run(check_conditions(store, random.Random(2)))
    assert bucket.objects == {}, "the probe was removed"


def test_a_lost_answer_while_probing_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.cloud.store._PAUSE_S", 0.0)
    store = SimulatedStore(random.Random(1), latency_s=0)
    store.script("put_if_absent", "_probe/", Fault.DROP)
    store.script("put_if_absent", "_probe/", Fault.SLOW_DOWN)

    asyncio.run(check_conditions(store, random.Random(2)))


def test_a_directory_opens_by_its_path(tmp_path: Path) -> None:
    async def main() -> None:
        for location in (str(tmp_path / "a"), f"file://{tmp_path}/b"):
            store = await open_store(location)
            assert await store.list("") == []
            await store.close()

    asyncio.run(main())


@pytest.mark.parametrize("location", ["", "s3://", "s3:///prefix", "gs://bucket", "file://"])
def test_a_location_that_names_no_place_is_refused(location: str) -> None:
    with pytest.raises(Misconfigured):
        asyncio.run(open_store(location))
