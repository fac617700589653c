"""OffsetForLeaderEpoch (23): whether a log was cut back since an epoch. Versions 2 to 4. Never: see epochs.py."""

from __future__ import annotations

from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
)
from ....core.record import TopicPartition
from ..answer import Answer
from ..epochs import LEADER_EPOCH, check_epoch
from ..node import Asker, Node


def handle(node: Node, asker: Asker, request: OffsetForLeaderEpochRequest) -> Answer:
    del asker
    return OffsetForLeaderEpochResponse(
        topics=[
            OffsetForLeaderTopicResult(
                topic=topic.topic,
                partitions=[
                    _answer(node, TopicPartition(topic.topic, asked.partition), asked)
                    for asked in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def _answer(node: Node, tp: TopicPartition, asked: OffsetForLeaderPartition) -> EpochEndOffset:
    shard = node.shards.of(tp)
    if not node.shards.has(tp):
        error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    elif shard is None or shard.closed_reason is not None:
        error = ErrorCode.NOT_LEADER_OR_FOLLOWER
    else:
        error = check_epoch(asked.current_leader_epoch)
    if error is not ErrorCode.NONE or shard is None:
        return EpochEndOffset(error_code=error, partition=tp.partition)
    if asked.leader_epoch != LEADER_EPOCH:  # never was here: -1, which is Kafka's "no such epoch"
        return EpochEndOffset(partition=tp.partition)
    return EpochEndOffset(
        partition=tp.partition, leader_epoch=LEADER_EPOCH, end_offset=shard.bounds(tp).end
    )
