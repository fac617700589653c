"""Produce (0): append record batches.

Versions: 3 record batch v2 and transactional id; 5 log start offset; 7 zstd; 8 record errors and a message; 9
flexible; 10 the new leader as tagged fields (KIP-951); 11 another error code. Versions 0 to 2 are advertised
because librdkafka turns compression off otherwise (KAFKA-18659), and rejected. With acks = 0 there is no
response at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from ..primitives import int16, int32, int64, record_set, since, string, tagged
from ..schema import Request, Response


class BatchIndexAndErrorMessage(msgspec.Struct, frozen=True, kw_only=True):
    batch_index: int32 = 0
    batch_index_error_message: string | None = None


class LeaderIdAndEpoch(msgspec.Struct, frozen=True, kw_only=True):
    leader_id: int32 = -1
    leader_epoch: int32 = -1


class PartitionProduceResponse(msgspec.Struct, frozen=True, kw_only=True):
    index: int32 = 0
    error_code: int16 = 0
    base_offset: int64 = 0
    log_append_time_ms: int64 = -1
    log_start_offset: Annotated[int64, since(5)] = -1
    record_errors: Annotated[Sequence[BatchIndexAndErrorMessage], since(8)] = ()
    error_message: Annotated[string | None, since(8)] = None
    current_leader: Annotated[LeaderIdAndEpoch, tagged(0, since=10)] = LeaderIdAndEpoch()


class TopicProduceResponse(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    partition_responses: Sequence[PartitionProduceResponse] = ()


class NodeEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    node_id: int32 = 0
    host: string = ""
    port: int32 = 0
    rack: string | None = None


class ProduceResponse(Response, frozen=True, kw_only=True):
    KEY = 0
    VERSIONS = (3, 11)
    FLEXIBLE = 9

    responses: Sequence[TopicProduceResponse] = ()
    throttle_time_ms: int32 = 0
    node_endpoints: Annotated[Sequence[NodeEndpoint], tagged(0, since=10)] = ()


class PartitionProduceData(msgspec.Struct, frozen=True, kw_only=True):
    index: int32 = 0
    records: record_set | None = None


class TopicProduceData(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    partition_data: Sequence[PartitionProduceData] = ()


class ProduceRequest(Request[ProduceResponse], frozen=True, kw_only=True):
    KEY = 0
    VERSIONS = (3, 11)
    FLEXIBLE = 9
    RESPONSE = ProduceResponse

    transactional_id: string | None = None
    acks: int16 = 0
    timeout_ms: int32 = 0
    topic_data: Sequence[TopicProduceData] = ()
