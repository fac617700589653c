"""DescribeProducers (61, KIP-664): each producer's last sequence at a partition. Version 0.

An uplink that lost its connection asks this to resume exactly where the log stands. So the answer waits until everything
submitted for the partition before the question is decided, and until it is certain that no other node owns the shard: a
sequence that is told is durable, and one that is not told will not appear later.
"""

from __future__ import annotations

from ....core.errors import Closed, HeadwaterError
from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    PartitionResponse,
    ProducerState,
    TopicResponse,
)
from ....core.record import TopicPartition
from ..answer import Answer
from ..node import Asker, Node

# Below the request time-out of common clients (30 s): they should hear that the store is slow, not hear nothing.
_SETTLE_SECONDS = 20.0


def handle(node: Node, asker: Asker, request: DescribeProducersRequest) -> Answer:
    del asker
    return _describe(node, request)


async def _describe(node: Node, request: DescribeProducersRequest) -> DescribeProducersResponse:
    return DescribeProducersResponse(
        topics=[
            TopicResponse(
                name=topic.name,
                partitions=[
                    await _answer(node, TopicPartition(topic.name, index))
                    for index in topic.partition_indexes
                ],
            )
            for topic in request.topics
        ]
    )


async def _answer(node: Node, tp: TopicPartition) -> PartitionResponse:
    shard = node.shards.of(tp)
    if not node.shards.has(tp):
        return _failed(tp, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None)
    if shard is None:
        return _failed(tp, ErrorCode.NOT_LEADER_OR_FOLLOWER, None)
    try:
        await shard.settled(tp, timeout_s=_SETTLE_SECONDS)
        await shard.confirm()
    except Closed as error:
        return _failed(tp, ErrorCode.NOT_LEADER_OR_FOLLOWER, str(error))
    except HeadwaterError as error:
        return _failed(tp, ErrorCode.REQUEST_TIMED_OUT, str(error))
    return PartitionResponse(
        partition_index=tp.partition,
        active_producers=[
            ProducerState(
                producer_id=producer_id,
                producer_epoch=producer.epoch,
                last_sequence=producer.last_sequence,
                last_timestamp=producer.last_timestamp,
                coordinator_epoch=-1,
            )
            for producer_id, producer in shard.producers(tp).items()
        ],
    )


def _failed(tp: TopicPartition, error: ErrorCode, message: str | None) -> PartitionResponse:
    return PartitionResponse(partition_index=tp.partition, error_code=error, error_message=message)
