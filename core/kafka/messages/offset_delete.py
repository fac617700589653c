"""OffsetDelete (47): forget a group's committed offsets, partition by partition (KIP-496).

Versions: 0 alone, never flexible.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..primitives import int16, int32, string
from ..schema import Request, Response


class OffsetDeleteResponsePartition(msgspec.Struct, frozen=True, kw_only=True):
    partition_index: int32 = 0
    error_code: int16 = 0


class OffsetDeleteResponseTopic(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    partitions: Sequence[OffsetDeleteResponsePartition] = ()


class OffsetDeleteResponse(Response, frozen=True, kw_only=True):
    KEY = 47
    VERSIONS = (0, 0)
    FLEXIBLE = 1

    error_code: int16 = 0
    throttle_time_ms: int32 = 0
    topics: Sequence[OffsetDeleteResponseTopic] = ()


class OffsetDeleteRequestPartition(msgspec.Struct, frozen=True, kw_only=True):
    partition_index: int32 = 0


class OffsetDeleteRequestTopic(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    partitions: Sequence[OffsetDeleteRequestPartition] = ()


class OffsetDeleteRequest(Request[OffsetDeleteResponse], frozen=True, kw_only=True):
    KEY = 47
    VERSIONS = (0, 0)
    FLEXIBLE = 1
    RESPONSE = OffsetDeleteResponse

    group_id: string = ""
    topics: Sequence[OffsetDeleteRequestTopic] = ()
