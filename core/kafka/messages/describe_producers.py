"""DescribeProducers (61): the producers that a partition's leader remembers, each with its last sequence number
(KIP-664).

The uplink resumes exactly after `last_sequence`; -1 where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..primitives import int16, int32, int64, string
from ..schema import Request, Response


class ProducerState(msgspec.Struct, frozen=True, kw_only=True):
    producer_id: int64 = 0
    producer_epoch: int32 = 0
    last_sequence: int32 = -1
    last_timestamp: int64 = -1
    coordinator_epoch: int32 = 0
    current_txn_start_offset: int64 = -1


class PartitionResponse(msgspec.Struct, frozen=True, kw_only=True):
    partition_index: int32 = 0
    error_code: int16 = 0
    error_message: string | None = None
    active_producers: Sequence[ProducerState] = ()


class TopicResponse(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    partitions: Sequence[PartitionResponse] = ()


class DescribeProducersResponse(Response, frozen=True, kw_only=True):
    KEY = 61
    VERSIONS = (0, 0)
    FLEXIBLE = 0

    throttle_time_ms: int32 = 0
    topics: Sequence[TopicResponse] = ()


class TopicRequest(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    partition_indexes: Sequence[int32] = ()


class DescribeProducersRequest(Request[DescribeProducersResponse], frozen=True, kw_only=True):
    KEY = 61
    VERSIONS = (0, 0)
    FLEXIBLE = 0
    RESPONSE = DescribeProducersResponse

    topics: Sequence[TopicRequest] = ()
