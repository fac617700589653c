"""ListOffsets (2): the offset for a time; -1 is the end, -2 the start, -3 the record of the largest timestamp
(from 7).

Versions: 1 one offset for each partition; 2 isolation level, throttle time; 4 leader epoch; 6 flexible; 7 max
timestamp (KIP-734).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from ..primitives import int8, int16, int32, int64, since, string
from ..schema import Request, Response


class ListOffsetsPartitionResponse(msgspec.Struct, frozen=True, kw_only=True):
    partition_index: int32 = 0
    error_code: int16 = 0
    timestamp: int64 = -1
    offset: int64 = -1
    leader_epoch: Annotated[int32, since(4)] = -1


class ListOffsetsTopicResponse(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    partitions: Sequence[ListOffsetsPartitionResponse] = ()


class ListOffsetsResponse(Response, frozen=True, kw_only=True):
    KEY = 2
    VERSIONS = (1, 7)
    FLEXIBLE = 6

    throttle_time_ms: Annotated[int32, since(2)] = 0
    topics: Sequence[ListOffsetsTopicResponse] = ()


class ListOffsetsPartition(msgspec.Struct, frozen=True, kw_only=True):
    partition_index: int32 = 0
    current_leader_epoch: Annotated[int32, since(4)] = -1
    timestamp: int64 = 0


class ListOffsetsTopic(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    partitions: Sequence[ListOffsetsPartition] = ()


class ListOffsetsRequest(Request[ListOffsetsResponse], frozen=True, kw_only=True):
    KEY = 2
    VERSIONS = (1, 7)
    FLEXIBLE = 6
    RESPONSE = ListOffsetsResponse

    replica_id: int32 = 0
    isolation_level: Annotated[int8, since(2)] = 0
    topics: Sequence[ListOffsetsTopic] = ()
