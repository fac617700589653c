"""Streams on a cluster, as `headwater streams` shows and changes them; on Headwater's cluster or Apache Kafka alike.

Knows only the Kafka protocol. Every answer is a list of lines for a person; an error of the cluster is Refused (or
Unavailable where it may pass) with the stream's name in it.
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from ..core.errors import HeadwaterError, Missing, Refused, Unavailable
from ..core.kafka.client import KafkaClient
from ..core.kafka.errors import ErrorCode
from ..core.kafka.messages import (
    CreateTopicsRequest,
    DeleteTopicsRequest,
    DescribeConfigsRequest,
    ListOffsetsRequest,
)
from ..core.kafka.messages.create_topics import CreatableTopic, CreatableTopicConfig
from ..core.kafka.messages.delete_topics import DeleteTopicState
from ..core.kafka.messages.describe_configs import DescribeConfigsResource
from ..core.kafka.messages.list_offsets import ListOffsetsPartition, ListOffsetsTopic
from ..core.kafka.messages.metadata import MetadataResponseTopic
from ..core.record import TopicPartition, check_name
from .reaching import client_of
from .sink.settings import SinkSettings

EARLIEST, LATEST = -2, -1
TOPIC_RESOURCE = 2
CLIENT_REPLICA = -1
BROKER_DEFAULT = -1
DEFAULT_CONFIG = 5  # a value that nobody set is not worth a line


class Streams:
    def __init__(self, client: KafkaClient) -> None:
        self._client = client

    @classmethod
    @asynccontextmanager
    async def connect(cls, settings: SinkSettings) -> AsyncIterator[Streams]:
        """On the cluster that the sink reads, reached as it reaches it."""
        client = client_of(settings, client_id="headwater-streams")
        try:
            yield cls(client)
        finally:
            await client.close()

    async def list(self) -> builtins.list[str]:
        metadata = await self._client.metadata(None)
        lines = [f"{'stream':32} {'partitions':>10} {'records':>14}"]
        for topic in sorted(metadata.topics, key=lambda topic: topic.name or ""):
            bounds = await self._bounds(topic)
            held = sum(end - start for start, end in bounds.values())
            lines.append(f"{topic.name:32} {len(topic.partitions):>10} {held:>14,}")
        return lines

    async def describe(self, name: str) -> builtins.list[str]:
        (topic,) = (await self._client.metadata([name])).topics
        _raise_for(topic.error_code, name, None)
        lines = [f"{name}: {len(topic.partitions)} partitions"]
        lines.append(f"{'partition':>9} {'leader':>8} {'start':>14} {'end':>14}")
        leaders = {partition.partition_index: partition.leader_id for partition in topic.partitions}
        for partition, (start, end) in sorted((await self._bounds(topic)).items()):
            lines.append(f"{partition:>9} {leaders[partition]:>8} {start:>14,} {end:>14,}")
        lines += [f"{key} = {value}" for key, value in await self._configs(name)]
        return lines

    async def create(
        self, name: str, *, partitions: int, configs: Sequence[str]
    ) -> builtins.list[str]:
        check_name(name, what="stream")
        topic = CreatableTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=BROKER_DEFAULT,
            configs=[_config(text) for text in configs],
        )
        response = await self._client.request_to(
            await self._controller(), CreateTopicsRequest(topics=[topic])
        )
        for result in response.topics:
            _raise_for(result.error_code, name, result.error_message)
        return [f"created {name} with {partitions} partitions"]

    async def delete(self, name: str) -> builtins.list[str]:
        request = DeleteTopicsRequest(
            topics=[DeleteTopicState(name=name)], topic_names=[name], timeout_ms=30_000
        )
        response = await self._client.request_to(await self._controller(), request)
        for result in response.responses:
            _raise_for(result.error_code, name, result.error_message)
        return [f"deleted {name}"]

    async def _controller(self) -> int | None:
        """Changes go to the controller; a cluster without one takes them anywhere."""
        controller = (await self._client.metadata()).controller_id
        return controller if controller >= 0 else None

    async def _bounds(self, topic: MetadataResponseTopic) -> dict[int, tuple[int, int]]:
        """Partition to (start, end), from each partition's leader."""
        bounds: dict[int, tuple[int, int]] = {}
        for partition in topic.partitions:
            target = TopicPartition(topic.name or "", partition.partition_index)
            start, end = [await self._offset(target, time) for time in (EARLIEST, LATEST)]
            bounds[partition.partition_index] = (start, end)
        return bounds

    async def _offset(self, target: TopicPartition, time: int) -> int:
        asked = ListOffsetsPartition(partition_index=target.partition, timestamp=time)
        request = ListOffsetsRequest(
            replica_id=CLIENT_REPLICA,
            topics=[ListOffsetsTopic(name=target.topic, partitions=[asked])],
        )
        response = await self._client.request_to(target, request)
        (answer,) = response.topics[0].partitions
        _raise_for(answer.error_code, str(target), None)
        return answer.offset

    async def _configs(self, name: str) -> builtins.list[tuple[str, str | None]]:
        resource = DescribeConfigsResource(
            resource_type=TOPIC_RESOURCE, resource_name=name, configuration_keys=None
        )
        response = await self._client.request_to(None, DescribeConfigsRequest(resources=[resource]))
        return sorted(
            (config.name, config.value)
            for result in response.results
            for config in result.configs
            if config.config_source != DEFAULT_CONFIG
        )


def _config(text: str) -> CreatableTopicConfig:
    key, equals, value = text.partition("=")
    if not equals:
        raise Refused(f"{text!r} is not KEY=VALUE", hint="--set retention.ms=86400000")
    return CreatableTopicConfig(name=key, value=value)


def _raise_for(code: int, name: str, message: str | None) -> None:
    error = ErrorCode.of(code)
    if error is ErrorCode.NONE:
        return
    kind: type[HeadwaterError] = Refused
    if error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
        kind = Missing
    elif error.retriable:
        kind = Unavailable
    raise kind(f"{name}: {error.name}{f' ({message})' if message else ''}")
