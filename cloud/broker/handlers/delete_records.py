"""DeleteRecords (21): move the log start offset; -1 is the end. Versions 0 to 2."""

from __future__ import annotations

from ....core.errors import HeadwaterError, Unavailable
from ....core.journal.objects import Trim
from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.delete_records import (
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)
from ....core.record import TopicPartition
from ..answer import Answer
from ..node import Asker, Node

_TO_THE_END = -1


def handle(node: Node, asker: Asker, request: DeleteRecordsRequest) -> Answer:
    del asker
    return _delete_all(node, request)


async def _delete_all(node: Node, request: DeleteRecordsRequest) -> DeleteRecordsResponse:
    return DeleteRecordsResponse(
        topics=[
            DeleteRecordsTopicResult(
                name=topic.name,
                partitions=[
                    await _delete(node, TopicPartition(topic.name, p.partition_index), p.offset)
                    for p in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


async def _delete(node: Node, tp: TopicPartition, offset: int) -> DeleteRecordsPartitionResult:
    shard = node.shards.of(tp)
    error, low = ErrorCode.NONE, -1
    if not node.shards.has(tp):
        error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    elif shard is None:
        error = ErrorCode.NOT_LEADER_OR_FOLLOWER
    else:
        bounds = shard.bounds(tp)
        start = bounds.end if offset == _TO_THE_END else offset
        if not 0 <= start <= bounds.end:
            error = ErrorCode.OFFSET_OUT_OF_RANGE
        else:
            try:
                if start > bounds.start:
                    await shard.propose(trims=[Trim(tp, start)])
                low = shard.bounds(tp).start
            except Unavailable:
                error = ErrorCode.REQUEST_TIMED_OUT
            except HeadwaterError:
                error = ErrorCode.NOT_LEADER_OR_FOLLOWER
    return DeleteRecordsPartitionResult(
        partition_index=tp.partition, low_watermark=low, error_code=error
    )
