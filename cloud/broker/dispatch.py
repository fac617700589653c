"""Which handler answers which API. A table, so that what is implemented can be read in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...core.kafka.messages import (
    ApiVersionsRequest,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteGroupsRequest,
    DeleteRecordsRequest,
    DeleteTopicsRequest,
    DescribeClusterRequest,
    DescribeConfigsRequest,
    DescribeGroupsRequest,
    DescribeProducersRequest,
    FetchRequest,
    FindCoordinatorRequest,
    HeartbeatRequest,
    IncrementalAlterConfigsRequest,
    InitProducerIdRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    ListGroupsRequest,
    ListOffsetsRequest,
    MetadataRequest,
    OffsetCommitRequest,
    OffsetDeleteRequest,
    OffsetFetchRequest,
    OffsetForLeaderEpochRequest,
    ProduceRequest,
    SyncGroupRequest,
)
from ...core.kafka.schema import Message
from .answer import Answer
from .handlers import (
    api_versions,
    create_partitions,
    create_topics,
    delete_groups,
    delete_records,
    delete_topics,
    describe_cluster,
    describe_configs,
    describe_groups,
    describe_producers,
    fetch,
    find_coordinator,
    heartbeat,
    incremental_alter_configs,
    init_producer_id,
    join_group,
    leave_group,
    list_groups,
    list_offsets,
    metadata,
    offset_commit,
    offset_delete,
    offset_fetch,
    offset_for_leader_epoch,
    produce,
    sync_group,
)
from .node import Asker, Node

# Each handler takes its own request class; the table's keys say which, so the call through it cannot be typed further.
Handler = Callable[[Node, Asker, Any], Answer]

HANDLERS: dict[type[Message], Handler] = {
    ApiVersionsRequest: api_versions.handle,
    CreatePartitionsRequest: create_partitions.handle,
    CreateTopicsRequest: create_topics.handle,
    DeleteGroupsRequest: delete_groups.handle,
    DeleteRecordsRequest: delete_records.handle,
    DeleteTopicsRequest: delete_topics.handle,
    DescribeClusterRequest: describe_cluster.handle,
    DescribeConfigsRequest: describe_configs.handle,
    DescribeGroupsRequest: describe_groups.handle,
    DescribeProducersRequest: describe_producers.handle,
    FetchRequest: fetch.handle,
    FindCoordinatorRequest: find_coordinator.handle,
    HeartbeatRequest: heartbeat.handle,
    IncrementalAlterConfigsRequest: incremental_alter_configs.handle,
    InitProducerIdRequest: init_producer_id.handle,
    JoinGroupRequest: join_group.handle,
    LeaveGroupRequest: leave_group.handle,
    ListGroupsRequest: list_groups.handle,
    ListOffsetsRequest: list_offsets.handle,
    MetadataRequest: metadata.handle,
    OffsetCommitRequest: offset_commit.handle,
    OffsetDeleteRequest: offset_delete.handle,
    OffsetFetchRequest: offset_fetch.handle,
    OffsetForLeaderEpochRequest: offset_for_leader_epoch.handle,
    ProduceRequest: produce.handle,
    SyncGroupRequest: sync_group.handle,
}


_NAMES = {kind: kind.__name__.removesuffix("Request") for kind in HANDLERS}


def api_name(kind: type[Message]) -> str:
    """Kafka's name of the API, for metrics."""
    return _NAMES[kind]
