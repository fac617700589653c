"""OffsetForLeaderEpoch (23): where an epoch's log ended, so that a reader notices a log that was cut back
(KIP-320).

Versions: 3 replica id; 4 flexible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from ..primitives import int16, int32, int64, since, string
from ..schema import Request, Response


class EpochEndOffset(msgspec.Struct, frozen=True, kw_only=True):
    error_code: int16 = 0
    partition: int32 = 0
    leader_epoch: int32 = -1
    end_offset: int64 = -1


class OffsetForLeaderTopicResult(msgspec.Struct, frozen=True, kw_only=True):
    topic: string = ""
    partitions: Sequence[EpochEndOffset] = ()


class OffsetForLeaderEpochResponse(Response, frozen=True, kw_only=True):
    KEY = 23
    VERSIONS = (2, 4)
    FLEXIBLE = 4

    throttle_time_ms: int32 = 0
    topics: Sequence[OffsetForLeaderTopicResult] = ()


class OffsetForLeaderPartition(msgspec.Struct, frozen=True, kw_only=True):
    partition: int32 = 0
    current_leader_epoch: int32 = -1
    leader_epoch: int32 = 0


class OffsetForLeaderTopic(msgspec.Struct, frozen=True, kw_only=True):
    topic: string = ""
    partitions: Sequence[OffsetForLeaderPartition] = ()


class OffsetForLeaderEpochRequest(Request[OffsetForLeaderEpochResponse], frozen=True, kw_only=True):
    KEY = 23
    VERSIONS = (2, 4)
    FLEXIBLE = 4
    RESPONSE = OffsetForLeaderEpochResponse

    replica_id: Annotated[int32, since(3)] = -2
    topics: Sequence[OffsetForLeaderTopic] = ()
