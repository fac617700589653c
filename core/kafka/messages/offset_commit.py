"""OffsetCommit (8): how far a group has read.

Versions: 3 throttle time; 5 no more retention time; 6 leader epoch; 7 static members; 8 flexible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from ..primitives import int16, int32, int64, since, string, until
from ..schema import Request, Response


class OffsetCommitResponsePartition(msgspec.Struct, frozen=True, kw_only=True):
    partition_index: int32 = 0
    error_code: int16 = 0


class OffsetCommitResponseTopic(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    partitions: Sequence[OffsetCommitResponsePartition] = ()


class OffsetCommitResponse(Response, frozen=True, kw_only=True):
    KEY = 8
    VERSIONS = (2, 8)
    FLEXIBLE = 8

    throttle_time_ms: Annotated[int32, since(3)] = 0
    topics: Sequence[OffsetCommitResponseTopic] = ()


class OffsetCommitRequestPartition(msgspec.Struct, frozen=True, kw_only=True):
    partition_index: int32 = 0
    committed_offset: int64 = 0
    committed_leader_epoch: Annotated[int32, since(6)] = -1
    committed_metadata: string | None = None


class OffsetCommitRequestTopic(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    partitions: Sequence[OffsetCommitRequestPartition] = ()


class OffsetCommitRequest(Request[OffsetCommitResponse], frozen=True, kw_only=True):
    KEY = 8
    VERSIONS = (2, 8)
    FLEXIBLE = 8
    RESPONSE = OffsetCommitResponse

    group_id: string = ""
    generation_id_or_member_epoch: int32 = -1
    member_id: string = ""
    group_instance_id: Annotated[string | None, since(7)] = None
    retention_time_ms: Annotated[int64, until(4)] = -1
    topics: Sequence[OffsetCommitRequestTopic] = ()
