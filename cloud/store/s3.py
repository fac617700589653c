"""An object store in an S3 bucket, through boto3 with its retries off.

Why off: every SDK tried repeats a conditional PUT whose answer was lost, gets 412 for its own first attempt, and reports
a PUT that succeeded as refused. Here one call is one request, and the table below says what each answer means.

    412                                                    AlreadyExists   certain
    404 NoSuchKey                                          Missing         certain
    409, 500, 502, 504, no answer, connection cut          Unknown for writes, Unavailable for reads
    503, 429, no connection, no TLS session                Unavailable     nothing happened
    401, 403, no bucket, no credentials                    Misconfigured
    any other 4xx                                          Refused

Calls run in a bounded pool of threads; a cancelled call goes on in its thread, so to its caller it is Unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import boto3
import botocore.exceptions as boto_errors
from botocore.config import Config

from ...core.errors import (
    AlreadyExists,
    HeadwaterError,
    Misconfigured,
    Missing,
    Refused,
    Unavailable,
    Unknown,
)
from ...core.objectstore import ObjectInfo, ObjectStore, StoredObject, join
from ...core.objectstore.directory import check_key
from .client import S3Client

T = TypeVar("T")
_Page = list[ObjectInfo]  # inside the class `list` is the method

_THREADS = (
    16  # also the connections: S3 answers in 60 to 200 ms, so this is about 100 requests a second
)
_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 20  # S3's own p99.9 is under 300 ms; a PUT of 8 MiB on a slow link takes seconds
_FALLBACK_REGION = "us-east-1"  # what endpoints other than Amazon's expect

_NOT_SENT = (
    boto_errors.EndpointConnectionError,
    boto_errors.ConnectTimeoutError,
    boto_errors.ProxyConnectionError,
    boto_errors.SSLError,
)
_NOT_CONFIGURED = (
    boto_errors.NoCredentialsError,
    boto_errors.PartialCredentialsError,
    boto_errors.CredentialRetrievalError,
    boto_errors.InvalidEndpointConfigurationError,
)
_THROTTLED = {"SlowDown", "ServiceUnavailable", "RequestLimitExceeded", "ThrottlingException"}
_UNDECIDED = {408, 409, 500, 502, 504}


class S3Store(ObjectStore):
    """`client` is made by `connect`; tests may pass their own."""

    def __init__(self, client: S3Client, bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix.strip("/")
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3")

    @property
    def location(self) -> str:
        return f"s3://{join(self._bucket, self._prefix) if self._prefix else self._bucket}"

    async def put_if_absent(self, key: str, data: bytes) -> str:
        name = self._name(key)

        def request() -> str:
            return self._client.put_object(
                Bucket=self._bucket, Key=name, Body=data, IfNoneMatch="*"
            )["ETag"]

        return await self._write(key, request)

    async def put(self, key: str, data: bytes) -> str:
        name = self._name(key)

        def request() -> str:
            return self._client.put_object(Bucket=self._bucket, Key=name, Body=data)["ETag"]

        return await self._write(key, request)

    async def replace(self, key: str, data: bytes, *, etag: str) -> str:
        name = self._name(key)

        def request() -> str:
            return self._client.put_object(Bucket=self._bucket, Key=name, Body=data, IfMatch=etag)[
                "ETag"
            ]

        try:
            return await self._write(key, request)
        except AlreadyExists as error:
            if await self.head(key) is None:  # some servers answer 412 where Amazon answers 404
                raise Missing(f"{self.location}/{key}: no such object") from error
            raise

    async def get(self, key: str, *, start: int = 0, size: int | None = None) -> StoredObject:
        if size is not None and size <= 0:
            return await self._beyond_end(key)
        name = self._name(key)
        span = f"bytes={start}-" if size is None else f"bytes={start}-{start + size - 1}"

        def request() -> StoredObject:
            if start or size is not None:
                answer = self._client.get_object(Bucket=self._bucket, Key=name, Range=span)
            else:
                answer = self._client.get_object(Bucket=self._bucket, Key=name)
            with answer["Body"] as body:
                return StoredObject(body.read(), answer["ETag"])

        try:
            return await self._read(key, request)
        except _BeyondEnd:
            return await self._beyond_end(key)

    async def head(self, key: str) -> ObjectInfo | None:
        name = self._name(key)

        def request() -> ObjectInfo:
            answer = self._client.head_object(Bucket=self._bucket, Key=name)
            modified_ms = round(answer["LastModified"].timestamp() * 1000)
            return ObjectInfo(key, answer["ContentLength"], answer["ETag"], modified_ms)

        try:
            return await self._read(key, request)
        except Missing:
            return None

    async def delete(self, key: str) -> None:
        name = self._name(key)

        def request() -> None:
            self._client.delete_object(Bucket=self._bucket, Key=name)

        try:
            await self._write(key, request)
        except Missing:
            return

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> list[ObjectInfo]:
        found: list[ObjectInfo] = []
        while len(found) < limit:
            page = await self._read(prefix, self._page(prefix, after, limit - len(found)))
            found += page
            if not page:
                break
            after = page[-1].key
        return sorted(
            found
        )  # directory buckets do not keep the order of keys; a page of ours is one folder

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown, wait=True)
        self._client.close()

    def _page(self, prefix: str, after: str, limit: int) -> Callable[[], _Page]:
        start_after = join(self._prefix, after) if after else ""
        name = join(self._prefix, prefix) if prefix or self._prefix else ""

        def request() -> _Page:
            answer = self._client.list_objects_v2(
                Bucket=self._bucket, Prefix=name, StartAfter=start_after, MaxKeys=min(limit, 1000)
            )
            skip = len(self._prefix) + 1 if self._prefix else 0
            return [
                ObjectInfo(
                    item["Key"][skip:],
                    item["Size"],
                    item["ETag"],
                    round(item["LastModified"].timestamp() * 1000),
                )
                for item in answer.get("Contents", [])
            ]

        return request

    async def _beyond_end(self, key: str) -> StoredObject:
        """An empty range: S3 answers 416, a file answers nothing. We answer nothing."""
        info = await self.head(key)
        if info is None:
            raise Missing(f"{self.location}/{key}: no such object")
        return StoredObject(b"", info.etag)

    def _name(self, key: str) -> str:
        return join(self._prefix, check_key(key))

    async def _write(self, key: str, request: Callable[[], T]) -> T:
        return await self._send(key, request, lost=Unknown)

    async def _read(self, key: str, request: Callable[[], T]) -> T:
        return await self._send(key, request, lost=Unavailable)

    async def _send(self, key: str, request: Callable[[], T], *, lost: type[HeadwaterError]) -> T:
        loop = asyncio.get_running_loop()
        where = f"{self.location}/{key}"
        try:
            return await loop.run_in_executor(self._threads, request)
        except boto_errors.ClientError as error:
            raise _meaning(error, where, lost) from error
        except _NOT_SENT as error:
            raise Unavailable(f"{where}: {error}") from error
        except _NOT_CONFIGURED as error:
            raise Misconfigured(f"{where}: {error}") from error
        except boto_errors.ParamValidationError as error:
            raise Refused(f"{where}: {error}") from error
        except (boto_errors.BotoCoreError, OSError) as error:
            raise lost(f"{where}: {error}") from error


class _BeyondEnd(Refused):
    """416: the range starts at or after the end of the object."""


def _meaning(
    error: boto_errors.ClientError, where: str, lost: type[HeadwaterError]
) -> HeadwaterError:
    """The table at the head of this file."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = error.response.get("Error", {}).get("Code", "")
    message = f"{where}: {status} {code}"
    if status == 412:
        return AlreadyExists(f"{message}: the condition on the key does not hold")
    if code == "NoSuchBucket":
        return Misconfigured(f"{message}: no such bucket")
    if status == 404:
        return Missing(message)
    if status == 416:
        return _BeyondEnd(message)
    if status in _UNDECIDED or code == "RequestTimeout":
        return lost(message)
    if status in {429, 503} or code in _THROTTLED:
        return Unavailable(message)
    if status in {401, 403}:
        return Misconfigured(
            f"{message}: not allowed", hint="check the AWS_ variables and the bucket's policy"
        )
    if 400 <= status < 500:
        return Refused(message)
    return lost(message)


def connect(bucket: str, prefix: str = "", *, endpoint_url: str | None = None) -> S3Store:
    """Endpoint, region and credentials by the usual AWS variables (`AWS_ENDPOINT_URL` among them). Blocks: reads files."""
    session = boto3.Session()
    config = Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        max_pool_connections=_THREADS,
        # objects carry their own CRC; many servers do not know Amazon's checksum trailers
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="headwater",
    )
    try:
        client = session.client(
            "s3",
            region_name=session.region_name or _FALLBACK_REGION,
            endpoint_url=endpoint_url,
            config=config,
        )
    except (boto_errors.BotoCoreError, ValueError) as error:
        raise Misconfigured(f"s3://{bucket}: {error}") from error
    return S3Store(client, bucket, prefix)
