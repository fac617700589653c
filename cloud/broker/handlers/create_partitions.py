"""CreatePartitions (37): more partitions; never fewer. Versions 0 to 3."""

from __future__ import annotations

from ....core.errors import HeadwaterError, Unavailable
from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
    CreatePartitionsTopicResult,
)
from ..answer import Answer
from ..events import PartitionsAdded
from ..node import Asker, Node


def handle(node: Node, asker: Asker, request: CreatePartitionsRequest) -> Answer:
    del asker
    return _grow_all(node, request)


async def _grow_all(node: Node, request: CreatePartitionsRequest) -> CreatePartitionsResponse:
    results = []
    for topic in request.topics:
        error, message = _check(node, topic)
        if error is ErrorCode.NONE and not request.validate_only:
            error, message = await _grow(node, topic)
        results.append(
            CreatePartitionsTopicResult(name=topic.name, error_code=error, error_message=message)
        )
    return CreatePartitionsResponse(results=results)


def _check(node: Node, asked: CreatePartitionsTopic) -> tuple[ErrorCode, str | None]:
    topic = node.shards.topics.get(asked.name)
    if topic is None:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None
    most = node.settings.topics.partitions_max
    if not topic.partitions < asked.count <= most:
        message = (
            f"{asked.name} has {topic.partitions} partitions, {most} at most: not {asked.count}"
        )
        return ErrorCode.INVALID_PARTITIONS, message
    return ErrorCode.NONE, None


async def _grow(node: Node, asked: CreatePartitionsTopic) -> tuple[ErrorCode, str | None]:
    shard = node.shards.controller
    if shard is None:
        return ErrorCode.NOT_CONTROLLER, None
    try:
        await shard.propose(PartitionsAdded(topic=asked.name, partitions=asked.count))
    except Unavailable as error:
        return ErrorCode.REQUEST_TIMED_OUT, str(error)
    except HeadwaterError as error:
        return ErrorCode.NOT_CONTROLLER, str(error)
    return ErrorCode.NONE, None
