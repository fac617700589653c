"""CreateTopics (19). Versions 2 to 7.

A count of -1 is the broker's default. Replication is the store's business: any factor is accepted and 1 is reported.
Replica assignments are accepted for their number of partitions. An unknown configuration is refused (topics.py).
"""

from __future__ import annotations

import uuid

from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from ..answer import Answer
from ..creation import DEFAULT_COUNT, Creation, NewTopic, check_new, create
from ..node import Asker, Node
from ..topics import CONFIG_NAMES, ConfigSource, Topic


def handle(node: Node, asker: Asker, request: CreateTopicsRequest) -> Answer:
    del asker
    return _create_all(node, request)


async def _create_all(node: Node, request: CreateTopicsRequest) -> CreateTopicsResponse:
    names = [topic.name for topic in request.topics]
    results = []
    for topic in request.topics:
        if names.count(topic.name) > 1:
            creation = Creation(ErrorCode.INVALID_REQUEST, "the topic is named twice")
        else:
            new = _new(topic)
            creation = check_new(node, new) if request.validate_only else await create(node, new)
        results.append(_result(node, topic.name, creation))
    return CreateTopicsResponse(topics=results)


def _new(topic: CreatableTopic) -> NewTopic:
    count = len(topic.assignments) if topic.assignments else topic.num_partitions
    return NewTopic(
        topic.name,
        count or DEFAULT_COUNT if topic.assignments else count,
        {c.name: c.value for c in topic.configs},
    )


def _result(node: Node, name: str, creation: Creation) -> CreatableTopicResult:
    topic = creation.topic
    if creation.error is not ErrorCode.NONE or topic is None:
        return CreatableTopicResult(
            name=name, error_code=creation.error, error_message=creation.message
        )
    return CreatableTopicResult(
        name=name,
        topic_id=uuid.UUID(hex=topic.topic_id),
        error_message=None,
        num_partitions=topic.partitions,
        replication_factor=1,
        configs=[_config(node, topic, key) for key in CONFIG_NAMES],
    )


def _config(node: Node, topic: Topic, key: str) -> CreatableTopicConfigs:
    own = topic.config.get(key)
    return CreatableTopicConfigs(
        name=key,
        value=node.defaults.value(key) if own is None else own,
        config_source=ConfigSource.DEFAULT if own is None else ConfigSource.TOPIC,
    )
