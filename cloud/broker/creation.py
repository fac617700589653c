"""Making a topic: checked, drawn an id, put into the controller shard's log, and waited for.

Two requests that name the same new topic at once share one creation. A name that was deleted before goes on at the old
offsets (topics.py); what is left of the old records is trimmed in the same commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from ...core.errors import HeadwaterError, Refused, Unavailable
from ...core.journal.objects import Trim
from ...core.kafka.errors import ErrorCode
from ...core.record import TopicPartition, check_name
from .events import PartitionRetired, TopicCreated
from .inflight import Commit
from .node import Node
from .topics import Topic, check_config

DEFAULT_COUNT = -1


class Creation(NamedTuple):
    """`topic` where it is there now, whoever made it."""

    error: ErrorCode
    message: str | None = None
    topic: Topic | None = None


class NewTopic(NamedTuple):
    name: str
    partitions: int
    config: Mapping[str, str | None]


def check_new(node: Node, new: NewTopic) -> Creation:
    """What can be said without the log: for validate_only, and before anything is written."""
    settings = node.settings.topics
    try:
        check_name(new.name, what="topic")
    except Refused as error:
        return Creation(ErrorCode.INVALID_TOPIC_EXCEPTION, str(error))
    try:
        config = check_config(new.config)
    except Refused as error:
        return Creation(ErrorCode.INVALID_CONFIG, str(error))
    if (existing := node.shards.topics.get(new.name)) is not None:
        message = f"topic {new.name!r} exists"
        return Creation(ErrorCode.TOPIC_ALREADY_EXISTS, message, existing)
    count = settings.partitions if new.partitions == DEFAULT_COUNT else new.partitions
    if not 1 <= count <= settings.partitions_max:
        message = f"partitions must be 1 to {settings.partitions_max}, not {count}"
        return Creation(ErrorCode.INVALID_PARTITIONS, message)
    return Creation(ErrorCode.NONE, topic=Topic(new.name, node.draw_id().hex, count, config))


async def create(node: Node, new: NewTopic) -> Creation:
    while (other := node.creating.get(new.name)) is not None:
        await asyncio.wait([other])
    checked = check_new(node, new)
    if checked.error is not ErrorCode.NONE or checked.topic is None:
        return checked
    turn = node.creating[new.name] = asyncio.get_running_loop().create_future()
    try:
        return await _commit(node, checked.topic)
    finally:
        del node.creating[new.name]
        turn.set_result(None)


async def create_automatically(node: Node, name: str) -> Creation:
    """For Metadata: the broker's own number of partitions, if the setting allows."""
    if not node.settings.topics.auto_create:
        return Creation(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    creation = await create(node, NewTopic(name, DEFAULT_COUNT, {}))
    if creation.topic is not None:
        return Creation(ErrorCode.NONE, topic=creation.topic)
    return creation


async def _commit(node: Node, topic: Topic) -> Creation:
    shard = node.shards.controller
    if shard is None:
        return Creation(ErrorCode.NOT_CONTROLLER)
    event = TopicCreated(
        topic=topic.name,
        topic_id=topic.topic_id,
        partitions=topic.partitions,
        config=topic.config,
        at_ms=node.clock.wall_ms(),
    )
    try:
        for commit in retire(node, topic.name, topic.partitions):
            await commit
        await shard.propose(event)
    except Unavailable as error:
        return Creation(ErrorCode.REQUEST_TIMED_OUT, str(error))
    except HeadwaterError as error:
        return Creation(ErrorCode.NOT_CONTROLLER, str(error))
    return Creation(ErrorCode.NONE, topic=node.shards.topics.get(topic.name))


def retire(node: Node, name: str, partitions: int) -> list[Commit]:
    """Take away what deleted partitions still hold, each in its own shard. Raises Closed, Unavailable."""
    commits = []
    for number in range(partitions):
        tp = TopicPartition(name, number)
        shard = node.shards.of(tp)
        if shard is None:
            continue
        end = shard.writer.next_offset(tp)
        if shard.bounds(tp).start < end or shard.producers(tp):
            event = PartitionRetired(topic=name, partition=number)
            commits.append(shard.propose(event, trims=[Trim(tp, end)]))
    return commits
