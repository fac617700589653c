"""OffsetFetch (9): how far a group had read; -1 where it never committed.

Versions: 2 null topics = all, an error for the whole; 3 throttle time; 5 leader epoch; 6 flexible; 7
require_stable; 8 several groups at once, in `groups`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from ..primitives import boolean, int16, int32, int64, nullable_since, since, string, until
from ..schema import Request, Response


class OffsetFetchResponsePartition(msgspec.Struct, frozen=True, kw_only=True):
    partition_index: Annotated[int32, until(7)] = 0
    committed_offset: Annotated[int64, until(7)] = 0
    committed_leader_epoch: Annotated[int32, since(5), until(7)] = -1
    metadata: Annotated[string | None, until(7)] = None
    error_code: Annotated[int16, until(7)] = 0


class OffsetFetchResponseTopic(msgspec.Struct, frozen=True, kw_only=True):
    name: Annotated[string, until(7)] = ""
    partitions: Annotated[Sequence[OffsetFetchResponsePartition], until(7)] = ()


class OffsetFetchResponsePartitions(msgspec.Struct, frozen=True, kw_only=True):
    partition_index: int32 = 0
    committed_offset: int64 = 0
    committed_leader_epoch: int32 = -1
    metadata: string | None = None
    error_code: int16 = 0


class OffsetFetchResponseTopics(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    partitions: Sequence[OffsetFetchResponsePartitions] = ()


class OffsetFetchResponseGroup(msgspec.Struct, frozen=True, kw_only=True):
    group_id: string = ""
    topics: Sequence[OffsetFetchResponseTopics] = ()
    error_code: int16 = 0


class OffsetFetchResponse(Response, frozen=True, kw_only=True):
    KEY = 9
    VERSIONS = (1, 8)
    FLEXIBLE = 6

    throttle_time_ms: Annotated[int32, since(3)] = 0
    topics: Annotated[Sequence[OffsetFetchResponseTopic], until(7)] = ()
    error_code: Annotated[int16, since(2), until(7)] = 0
    groups: Annotated[Sequence[OffsetFetchResponseGroup], since(8)] = ()


class OffsetFetchRequestTopic(msgspec.Struct, frozen=True, kw_only=True):
    name: Annotated[string, until(7)] = ""
    partition_indexes: Annotated[Sequence[int32], until(7)] = ()


class OffsetFetchRequestTopics(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    partition_indexes: Sequence[int32] = ()


class OffsetFetchRequestGroup(msgspec.Struct, frozen=True, kw_only=True):
    group_id: string = ""
    topics: Sequence[OffsetFetchRequestTopics] | None = None


class OffsetFetchRequest(Request[OffsetFetchResponse], frozen=True, kw_only=True):
    KEY = 9
    VERSIONS = (1, 8)
    FLEXIBLE = 6
    RESPONSE = OffsetFetchResponse

    group_id: Annotated[string, until(7)] = ""
    topics: Annotated[Sequence[OffsetFetchRequestTopic] | None, nullable_since(2), until(7)] = ()
    groups: Annotated[Sequence[OffsetFetchRequestGroup], since(8)] = ()
    require_stable: Annotated[boolean, since(7)] = False
