"""DescribeConfigs (32): what holds for a topic, and where it was set. Versions 1 to 4.

Topics (resource type 2) alone; a broker (4) answers with the defaults that topics without an override have.
"""

from __future__ import annotations

from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)
from ..answer import Answer
from ..node import Asker, Node
from ..topics import CONFIG_NAMES, ConfigSource, config_type

TOPIC, BROKER = 2, 4


def handle(node: Node, asker: Asker, request: DescribeConfigsRequest) -> Answer:
    del asker
    return DescribeConfigsResponse(
        results=[
            _describe(node, resource, synonyms=request.include_synonyms)
            for resource in request.resources
        ]
    )


def _describe(
    node: Node, resource: DescribeConfigsResource, *, synonyms: bool
) -> DescribeConfigsResult:
    overrides: dict[str, str] = {}
    error, message = ErrorCode.NONE, None
    if resource.resource_type == TOPIC:
        topic = node.shards.topics.get(resource.resource_name)
        if topic is None:
            error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        else:
            overrides = topic.config
    elif resource.resource_type != BROKER:
        error, message = ErrorCode.INVALID_REQUEST, "only topics and brokers have settings"
    wanted = resource.configuration_keys
    names = [n for n in CONFIG_NAMES if wanted is None or not wanted or n in wanted]
    return DescribeConfigsResult(
        error_code=error,
        error_message=message,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
        configs=[_entry(node, name, overrides.get(name), synonyms=synonyms) for name in names]
        if error is ErrorCode.NONE
        else (),
    )


def _entry(
    node: Node, name: str, override: str | None, *, synonyms: bool
) -> DescribeConfigsResourceResult:
    default = node.defaults.value(name)
    levels = [DescribeConfigsSynonym(name=name, value=default, source=ConfigSource.DEFAULT)]
    if override is not None:
        levels.insert(
            0, DescribeConfigsSynonym(name=name, value=override, source=ConfigSource.TOPIC)
        )
    return DescribeConfigsResourceResult(
        name=name,
        value=levels[0].value,
        config_source=levels[0].source,
        synonyms=levels if synonyms else (),
        config_type=config_type(name),
        documentation=None,
    )
