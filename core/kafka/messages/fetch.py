"""Fetch (1): read record batches, waiting for at least min_bytes or max_wait_ms.

Versions: 4 record batch v2; 5 log start offset; 7 fetch sessions (session id 0, epoch -1: none); 9 leader
epoch; 11 rack; 12 flexible, last fetched epoch, diverging epoch and current leader as tagged fields. 13 and
later name topics by id and are not implemented. Records may end in a batch that is cut short; the first batch
is whole even above the limits (KIP-74).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from ..primitives import int8, int16, int32, int64, record_set, since, string, tagged
from ..schema import Request, Response


class EpochEndOffset(msgspec.Struct, frozen=True, kw_only=True):
    epoch: int32 = -1
    end_offset: int64 = -1


class LeaderIdAndEpoch(msgspec.Struct, frozen=True, kw_only=True):
    leader_id: int32 = -1
    leader_epoch: int32 = -1


class SnapshotId(msgspec.Struct, frozen=True, kw_only=True):
    end_offset: int64 = -1
    epoch: int32 = -1


class AbortedTransaction(msgspec.Struct, frozen=True, kw_only=True):
    producer_id: int64 = 0
    first_offset: int64 = 0


class PartitionData(msgspec.Struct, frozen=True, kw_only=True):
    partition_index: int32 = 0
    error_code: int16 = 0
    high_watermark: int64 = 0
    last_stable_offset: int64 = -1
    log_start_offset: Annotated[int64, since(5)] = -1
    diverging_epoch: Annotated[EpochEndOffset, tagged(0, since=12)] = EpochEndOffset()
    current_leader: Annotated[LeaderIdAndEpoch, tagged(1, since=12)] = LeaderIdAndEpoch()
    snapshot_id: Annotated[SnapshotId, tagged(2, since=12)] = SnapshotId()
    aborted_transactions: Sequence[AbortedTransaction] | None = None
    preferred_read_replica: Annotated[int32, since(11)] = -1
    records: record_set | None = None


class FetchableTopicResponse(msgspec.Struct, frozen=True, kw_only=True):
    topic: string = ""
    partitions: Sequence[PartitionData] = ()


class FetchResponse(Response, frozen=True, kw_only=True):
    KEY = 1
    VERSIONS = (4, 12)
    FLEXIBLE = 12

    throttle_time_ms: int32 = 0
    error_code: Annotated[int16, since(7)] = 0
    session_id: Annotated[int32, since(7)] = 0
    responses: Sequence[FetchableTopicResponse] = ()


class FetchPartition(msgspec.Struct, frozen=True, kw_only=True):
    partition: int32 = 0
    current_leader_epoch: Annotated[int32, since(9)] = -1
    fetch_offset: int64 = 0
    last_fetched_epoch: Annotated[int32, since(12)] = -1
    log_start_offset: Annotated[int64, since(5)] = -1
    partition_max_bytes: int32 = 0


class FetchTopic(msgspec.Struct, frozen=True, kw_only=True):
    topic: string = ""
    partitions: Sequence[FetchPartition] = ()


class ForgottenTopic(msgspec.Struct, frozen=True, kw_only=True):
    topic: string = ""
    partitions: Sequence[int32] = ()


class FetchRequest(Request[FetchResponse], frozen=True, kw_only=True):
    KEY = 1
    VERSIONS = (4, 12)
    FLEXIBLE = 12
    RESPONSE = FetchResponse

    cluster_id: Annotated[string | None, tagged(0, since=12)] = None
    replica_id: int32 = -1
    max_wait_ms: int32 = 0
    min_bytes: int32 = 0
    max_bytes: int32 = 2147483647
    isolation_level: int8 = 0
    session_id: Annotated[int32, since(7)] = 0
    session_epoch: Annotated[int32, since(7)] = -1
    topics: Sequence[FetchTopic] = ()
    forgotten_topics_data: Annotated[Sequence[ForgottenTopic], since(7)] = ()
    rack_id: Annotated[string, since(11)] = ""
