"""OffsetDelete (47): forget committed offsets of single partitions. Version 0.

Refused while the group's members read the topic, since their next commit would bring the offset back, and for groups
that are not consumers' as long as they have members. A partition without a committed offset is no error.
"""

from __future__ import annotations

from ....core.errors import HeadwaterError, Unavailable
from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)
from ....core.record import TopicPartition
from ...groups.subscription import CONSUMER, subscribes
from ..answer import Answer
from ..events import OffsetsForgotten
from ..node import Asker, Node


def handle(node: Node, asker: Asker, request: OffsetDeleteRequest) -> Answer:
    del asker
    return _delete(node, request)


async def _delete(node: Node, request: OffsetDeleteRequest) -> OffsetDeleteResponse:
    error = _check_group(node, request.group_id)
    if error is not ErrorCode.NONE:
        return OffsetDeleteResponse(error_code=error)
    asked = [
        TopicPartition(topic.name, p.partition_index)
        for topic in request.topics
        for p in topic.partitions
    ]
    errors = {tp: _check(node, request.group_id, tp) for tp in asked}
    forgotten = [(tp.topic, tp.partition) for tp in asked if errors[tp] is ErrorCode.NONE]
    shard = node.shards.of_group(request.group_id)
    try:
        if shard is not None and forgotten:
            await shard.propose(OffsetsForgotten(group=request.group_id, partitions=forgotten))
    except Unavailable:
        return OffsetDeleteResponse(error_code=ErrorCode.COORDINATOR_NOT_AVAILABLE)
    except HeadwaterError:
        return OffsetDeleteResponse(error_code=ErrorCode.NOT_COORDINATOR)
    return OffsetDeleteResponse(
        topics=[
            OffsetDeleteResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetDeleteResponsePartition(
                        partition_index=p.partition_index,
                        error_code=errors[TopicPartition(topic.name, p.partition_index)],
                    )
                    for p in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def _check_group(node: Node, group_id: str) -> ErrorCode:
    shard = node.shards.of_group(group_id)
    if shard is None or not node.coordinates(group_id):
        return ErrorCode.NOT_COORDINATOR
    group = node.groups.coordinator.group(group_id)
    if group is None:
        known = group_id in shard.state.groups
        return ErrorCode.NONE if known else ErrorCode.GROUP_ID_NOT_FOUND
    if group.members and group.protocol_type != CONSUMER:
        return ErrorCode.NON_EMPTY_GROUP
    return ErrorCode.NONE


def _check(node: Node, group_id: str, tp: TopicPartition) -> ErrorCode:
    if not node.shards.has(tp):
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    group = node.groups.coordinator.group(group_id)
    # every strategy that a member knows carries the same subscription; before one is elected, any is asked
    for member in group.members.values() if group is not None else ():
        if any(subscribes(protocol.metadata, tp.topic) for protocol in member.protocols):
            return ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
    return ErrorCode.NONE
