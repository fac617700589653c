"""CreatePartitions (37): more partitions for a topic; `count` is the new total.

Versions: 2 flexible; 3 another error code.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..primitives import boolean, int16, int32, string
from ..schema import Request, Response


class CreatePartitionsTopicResult(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    error_code: int16 = 0
    error_message: string | None = None


class CreatePartitionsResponse(Response, frozen=True, kw_only=True):
    KEY = 37
    VERSIONS = (0, 3)
    FLEXIBLE = 2

    throttle_time_ms: int32 = 0
    results: Sequence[CreatePartitionsTopicResult] = ()


class CreatePartitionsAssignment(msgspec.Struct, frozen=True, kw_only=True):
    broker_ids: Sequence[int32] = ()


class CreatePartitionsTopic(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    count: int32 = 0
    assignments: Sequence[CreatePartitionsAssignment] | None = None


class CreatePartitionsRequest(Request[CreatePartitionsResponse], frozen=True, kw_only=True):
    KEY = 37
    VERSIONS = (0, 3)
    FLEXIBLE = 2
    RESPONSE = CreatePartitionsResponse

    topics: Sequence[CreatePartitionsTopic] = ()
    timeout_ms: int32 = 0
    validate_only: boolean = False
