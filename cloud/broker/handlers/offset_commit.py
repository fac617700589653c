"""OffsetCommit (8): how far a group has read; answered when it is in the log.

Versions 2 to 8. A retention time (up to 4) is not looked at: how long offsets are kept is the broker's setting. One
request is one event, so its partitions are committed together.
"""

from __future__ import annotations

from ....core.errors import HeadwaterError, Unavailable
from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from ....core.record import TopicPartition
from ..answer import Answer
from ..events import CommittedOffset, OffsetsCommitted
from ..node import Asker, Node


def handle(node: Node, asker: Asker, request: OffsetCommitRequest) -> Answer:
    del asker
    error = ErrorCode.NOT_COORDINATOR
    if node.coordinates(request.group_id):
        error = node.groups.coordinator.check_commit(
            request.group_id,
            request.member_id,
            request.group_instance_id,
            request.generation_id_or_member_epoch,
        )
    if error is not ErrorCode.NONE:
        return _response(node, request, error)
    return _commit(node, request)


async def _commit(node: Node, request: OffsetCommitRequest) -> OffsetCommitResponse:
    offsets = [
        CommittedOffset(
            topic.name,
            p.partition_index,
            p.committed_offset,
            p.committed_leader_epoch,
            p.committed_metadata or "",
        )
        for topic in request.topics
        for p in topic.partitions
        if _check(node, TopicPartition(topic.name, p.partition_index), p) is ErrorCode.NONE
    ]
    shard = node.shards.of_group(request.group_id)
    error = ErrorCode.NONE
    try:
        if shard is not None and offsets:
            now_ms = node.clock.wall_ms()
            await shard.propose(
                OffsetsCommitted(group=request.group_id, offsets=offsets, at_ms=now_ms)
            )
    except Unavailable:
        error = ErrorCode.COORDINATOR_NOT_AVAILABLE
    except HeadwaterError:
        error = ErrorCode.NOT_COORDINATOR
    return _response(node, request, error)


def _check(node: Node, tp: TopicPartition, asked: OffsetCommitRequestPartition) -> ErrorCode:
    if not node.shards.has(tp):
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    most = node.groups.coordinator.settings.offset_metadata_bytes_max
    if len(asked.committed_metadata or "") > most:
        return ErrorCode.OFFSET_METADATA_TOO_LARGE
    return ErrorCode.NONE


def _response(node: Node, request: OffsetCommitRequest, error: ErrorCode) -> OffsetCommitResponse:
    """`error` for all partitions; without one each partition's own."""
    return OffsetCommitResponse(
        topics=[
            OffsetCommitResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetCommitResponsePartition(
                        partition_index=p.partition_index,
                        error_code=error
                        or _check(node, TopicPartition(topic.name, p.partition_index), p),
                    )
                    for p in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )
