"""DeleteRecords (21): retire everything before an offset; -1 is the end of the log.

Versions: 2 flexible.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..primitives import int16, int32, int64, string
from ..schema import Request, Response


class DeleteRecordsPartitionResult(msgspec.Struct, frozen=True, kw_only=True):
    partition_index: int32 = 0
    low_watermark: int64 = 0
    error_code: int16 = 0


class DeleteRecordsTopicResult(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    partitions: Sequence[DeleteRecordsPartitionResult] = ()


class DeleteRecordsResponse(Response, frozen=True, kw_only=True):
    KEY = 21
    VERSIONS = (0, 2)
    FLEXIBLE = 2

    throttle_time_ms: int32 = 0
    topics: Sequence[DeleteRecordsTopicResult] = ()


class DeleteRecordsPartition(msgspec.Struct, frozen=True, kw_only=True):
    partition_index: int32 = 0
    offset: int64 = 0


class DeleteRecordsTopic(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    partitions: Sequence[DeleteRecordsPartition] = ()


class DeleteRecordsRequest(Request[DeleteRecordsResponse], frozen=True, kw_only=True):
    KEY = 21
    VERSIONS = (0, 2)
    FLEXIBLE = 2
    RESPONSE = DeleteRecordsResponse

    topics: Sequence[DeleteRecordsTopic] = ()
    timeout_ms: int32 = 0
