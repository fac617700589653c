"""Metadata (3): live nodes, topics, and who leads each partition.

Versions 0 to 12. In 0 an empty list means all topics, from 1 null does; from 4 a client can decline auto-creation; from 10
topic ids; in 12 a topic may be asked for by id alone. A topic made here is waited for, so the first answer names its
leaders and clients need no second round. Leader epochs are constant (epochs.py).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from ....core.kafka.primitives import ZERO_UUID
from ....core.record import GAPS_STREAM, TopicPartition
from ..answer import Answer
from ..creation import create_automatically
from ..epochs import LEADER_EPOCH
from ..node import Asker, Node
from ..shards import CONTROLLER
from ..topics import Topic


def handle(node: Node, asker: Asker, request: MetadataRequest) -> Answer:
    wants_all = request.topics is None or (asker.version == 0 and not request.topics)
    if wants_all:
        topics = [_describe(node, topic) for topic in node.shards.topics.values()]
        return _response(node, asker, topics)
    asked = request.topics or ()
    may_create = request.allow_auto_topic_creation and node.settings.topics.auto_create
    if may_create and any(t.name and t.name not in node.shards.topics for t in asked):
        return _create_and_answer(node, asker, asked)
    return _response(node, asker, [_answer(node, topic) for topic in asked])


async def _create_and_answer(
    node: Node, asker: Asker, asked: Sequence[MetadataRequestTopic]
) -> MetadataResponse:
    names = {t.name for t in asked if t.name and t.name not in node.shards.topics}
    made = await asyncio.gather(*(create_automatically(node, name) for name in names))
    failed = {
        name: creation.error for name, creation in zip(names, made, strict=True) if creation.error
    }
    return _response(node, asker, [_answer(node, topic, failed) for topic in asked])


def _answer(
    node: Node, asked: MetadataRequestTopic, failed: dict[str, ErrorCode] | None = None
) -> MetadataResponseTopic:
    if asked.name is None:
        topic = node.shards.topic_by_id(asked.topic_id)
        if topic is None:
            return MetadataResponseTopic(
                error_code=ErrorCode.UNKNOWN_TOPIC_ID, name=None, topic_id=asked.topic_id
            )
        return _describe(node, topic)
    topic = node.shards.topics.get(asked.name)
    if topic is None:
        error = (failed or {}).get(asked.name, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return MetadataResponseTopic(error_code=error, name=asked.name, topic_id=ZERO_UUID)
    return _describe(node, topic)


def _describe(node: Node, topic: Topic) -> MetadataResponseTopic:
    cluster = node.shards.cluster
    return MetadataResponseTopic(
        name=topic.name,
        topic_id=uuid.UUID(hex=topic.topic_id),
        is_internal=topic.name == GAPS_STREAM,
        partitions=[
            _partition(node, number, cluster.shard_of(TopicPartition(topic.name, number)))
            for number in range(topic.partitions)
        ],
    )


def _partition(node: Node, number: int, shard: int) -> MetadataResponsePartition:
    leader = node.membership.owner(shard).node_id
    return MetadataResponsePartition(
        partition_index=number,
        leader_id=leader,
        leader_epoch=LEADER_EPOCH,
        replica_nodes=(leader,),
        isr_nodes=(leader,),
    )


def _response(node: Node, asker: Asker, topics: list[MetadataResponseTopic]) -> MetadataResponse:
    return MetadataResponse(
        brokers=[
            MetadataResponseBroker(node_id=member.node_id, host=host, port=port)
            for member in node.membership.live()
            for host, port in [member.address(asker)]
        ],
        cluster_id=node.shards.cluster.cluster_id,
        controller_id=node.membership.owner(CONTROLLER).node_id,
        topics=topics,
    )
