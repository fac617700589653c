"""Metadata (3): brokers, and the leaders of partitions.

Versions: 1 controller, rack, null topics = all (in 0: an empty list = all); 2 cluster id; 3 throttle time; 4
auto-creation can be declined; 5 offline replicas; 7 leader epoch; 8 authorized operations; 9 flexible; 10 topic
ids; 12 a topic may be asked for by its id, with a null name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from ..primitives import (
    ZERO_UUID,
    boolean,
    int16,
    int32,
    nullable_since,
    since,
    string,
    until,
    uuid,
)
from ..schema import Request, Response


class MetadataResponseBroker(msgspec.Struct, frozen=True, kw_only=True):
    node_id: int32 = 0
    host: string = ""
    port: int32 = 0
    rack: Annotated[string | None, since(1)] = None


class MetadataResponsePartition(msgspec.Struct, frozen=True, kw_only=True):
    error_code: int16 = 0
    partition_index: int32 = 0
    leader_id: int32 = 0
    leader_epoch: Annotated[int32, since(7)] = -1
    replica_nodes: Sequence[int32] = ()
    isr_nodes: Sequence[int32] = ()
    offline_replicas: Annotated[Sequence[int32], since(5)] = ()


class MetadataResponseTopic(msgspec.Struct, frozen=True, kw_only=True):
    error_code: int16 = 0
    name: Annotated[string | None, nullable_since(12)] = ""
    topic_id: Annotated[uuid, since(10)] = ZERO_UUID
    is_internal: Annotated[boolean, since(1)] = False
    partitions: Sequence[MetadataResponsePartition] = ()
    topic_authorized_operations: Annotated[int32, since(8)] = -2147483648


class MetadataResponse(Response, frozen=True, kw_only=True):
    KEY = 3
    VERSIONS = (0, 12)
    FLEXIBLE = 9

    throttle_time_ms: Annotated[int32, since(3)] = 0
    brokers: Sequence[MetadataResponseBroker] = ()
    cluster_id: Annotated[string | None, since(2)] = None
    controller_id: Annotated[int32, since(1)] = -1
    topics: Sequence[MetadataResponseTopic] = ()
    cluster_authorized_operations: Annotated[int32, since(8), until(10)] = -2147483648


class MetadataRequestTopic(msgspec.Struct, frozen=True, kw_only=True):
    topic_id: Annotated[uuid, since(10)] = ZERO_UUID
    name: Annotated[string | None, nullable_since(10)] = ""


class MetadataRequest(Request[MetadataResponse], frozen=True, kw_only=True):
    KEY = 3
    VERSIONS = (0, 12)
    FLEXIBLE = 9
    RESPONSE = MetadataResponse

    topics: Annotated[Sequence[MetadataRequestTopic] | None, nullable_since(1)] = ()
    allow_auto_topic_creation: Annotated[boolean, since(4)] = True
    include_cluster_authorized_operations: Annotated[boolean, since(8), until(10)] = False
    include_topic_authorized_operations: Annotated[boolean, since(8)] = False
