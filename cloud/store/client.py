"""The six calls of boto3's S3 client that we make, typed. Tests may pass anything of this shape."""

from __future__ import annotations

from types import TracebackType
from typing import NotRequired, Protocol, TypedDict


class Body(Protocol):
    def read(self) -> bytes: ...
    def __enter__(self) -> Body: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> object: ...


class Moment(Protocol):
    """A datetime, of which only this is needed."""

    def timestamp(self) -> float: ...


class PutAnswer(TypedDict):
    ETag: str


class GetAnswer(TypedDict):
    Body: Body
    ETag: str


class HeadAnswer(TypedDict):
    ContentLength: int
    ETag: str
    LastModified: Moment


class ListedObject(TypedDict):
    Key: str
    Size: int
    ETag: str
    LastModified: Moment


class ListAnswer(TypedDict):
    Contents: NotRequired[list[ListedObject]]


class S3Client(Protocol):
    def put_object(
        self, *, Bucket: str, Key: str, Body: bytes, IfNoneMatch: str = ..., IfMatch: str = ...
    ) -> PutAnswer: ...
    def get_object(self, *, Bucket: str, Key: str, Range: str = ...) -> GetAnswer: ...
    def head_object(self, *, Bucket: str, Key: str) -> HeadAnswer: ...
    def delete_object(self, *, Bucket: str, Key: str) -> object: ...
    def list_objects_v2(
        self, *, Bucket: str, Prefix: str, StartAfter: str, MaxKeys: int
    ) -> ListAnswer: ...
    def close(self) -> None: ...
