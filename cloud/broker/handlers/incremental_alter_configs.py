"""IncrementalAlterConfigs (44): set (0) or delete (1) overrides of a topic. Versions 0 and 1.

Append and subtract are for lists, of which there are none. All changes to one topic are one event.
"""

from __future__ import annotations

from ....core.errors import HeadwaterError, Refused, Unavailable
from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.incremental_alter_configs import (
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from ..answer import Answer
from ..events import TopicConfigured
from ..node import Asker, Node
from ..topics import check_config
from .describe_configs import TOPIC

_SET, _DELETE = 0, 1


def handle(node: Node, asker: Asker, request: IncrementalAlterConfigsRequest) -> Answer:
    del asker
    return _alter_all(node, request)


async def _alter_all(
    node: Node, request: IncrementalAlterConfigsRequest
) -> IncrementalAlterConfigsResponse:
    responses = []
    for resource in request.resources:
        error, message = await _alter(node, resource, validate_only=request.validate_only)
        responses.append(
            AlterConfigsResourceResponse(
                error_code=error,
                error_message=message,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
        )
    return IncrementalAlterConfigsResponse(responses=responses)


async def _alter(
    node: Node, resource: AlterConfigsResource, *, validate_only: bool
) -> tuple[ErrorCode, str | None]:
    if resource.resource_type != TOPIC:
        return ErrorCode.INVALID_REQUEST, "only topics' settings can be altered"
    topic = node.shards.topics.get(resource.resource_name)
    if topic is None:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None
    config: dict[str, str | None] = dict(topic.config)
    for change in resource.configs:
        if change.config_operation not in {_SET, _DELETE}:
            return ErrorCode.INVALID_CONFIG, f"{change.name} is not a list"
        config[change.name] = change.value if change.config_operation == _SET else None
    try:
        checked = check_config(config)
    except Refused as error:
        return ErrorCode.INVALID_CONFIG, str(error)
    shard = node.shards.controller
    if shard is None:
        return ErrorCode.NOT_CONTROLLER, None
    try:
        if not validate_only:
            await shard.propose(TopicConfigured(topic=topic.name, config=checked))
    except Unavailable as error:
        return ErrorCode.REQUEST_TIMED_OUT, str(error)
    except HeadwaterError as error:
        return ErrorCode.NOT_CONTROLLER, str(error)
    return ErrorCode.NONE, None
