"""DeleteTopics (20). Versions 1 to 6; 6 by name or by id.

First the topic's deletion is in the log, then its records are trimmed and its producers and committed offsets forgotten. A
node that dies in between leaves records that nobody can name; creation and the retention loop trim them.
"""

from __future__ import annotations

import uuid

from ....core.errors import HeadwaterError, Unavailable
from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)
from ....core.kafka.primitives import ZERO_UUID
from ..answer import Answer
from ..creation import retire
from ..events import OffsetsForgotten, TopicDeleted
from ..node import Asker, Node
from ..topics import Topic


def handle(node: Node, asker: Asker, request: DeleteTopicsRequest) -> Answer:
    named = [DeleteTopicState(name=name) for name in request.topic_names]
    return _delete_all(node, [*request.topics, *named])


async def _delete_all(node: Node, asked: list[DeleteTopicState]) -> DeleteTopicsResponse:
    return DeleteTopicsResponse(responses=[await _delete(node, topic) for topic in asked])


async def _delete(node: Node, asked: DeleteTopicState) -> DeletableTopicResult:
    by_id = asked.topic_id != ZERO_UUID
    named = node.shards.topics.get(asked.name or "")
    topic = node.shards.topic_by_id(asked.topic_id) if by_id else named
    if topic is None:
        unknown = ErrorCode.UNKNOWN_TOPIC_ID if by_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return DeletableTopicResult(
            name=asked.name, topic_id=asked.topic_id, error_code=unknown, error_message=None
        )
    error, message = await _carry_out(node, topic)
    return DeletableTopicResult(
        name=topic.name,
        topic_id=uuid.UUID(hex=topic.topic_id),
        error_code=error,
        error_message=message,
    )


async def _carry_out(node: Node, topic: Topic) -> tuple[ErrorCode, str | None]:
    shard = node.shards.controller
    if shard is None:
        return ErrorCode.NOT_CONTROLLER, None
    try:
        await shard.propose(TopicDeleted(topic=topic.name, topic_id=topic.topic_id))
        commits = retire(node, topic.name, topic.partitions)
        for owned in node.shards.owned():
            commits += [
                owned.propose(OffsetsForgotten(group=group, partitions=partitions))
                for group, stored in owned.state.groups.items()
                if (partitions := [(topic.name, n) for n in stored.offsets.get(topic.name, ())])
            ]
        for commit in commits:
            await commit
    except Unavailable as error:
        return ErrorCode.REQUEST_TIMED_OUT, str(error)
    except HeadwaterError as error:
        return ErrorCode.NOT_CONTROLLER, str(error)
    return ErrorCode.NONE, None
