"""Topics: made, grown, configured, deleted, and the same after a restart."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping

import pytest

from headwater.cloud.broker.topics import check_config
from headwater.core.errors import Refused
from headwater.core.kafka.connection import KafkaConnection
from headwater.core.kafka.errors import ErrorCode
from headwater.core.kafka.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from headwater.core.kafka.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreatableTopicResult,
    CreateTopicsRequest,
)
from headwater.core.kafka.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from headwater.core.kafka.messages.describe_cluster import DescribeClusterRequest
from headwater.core.kafka.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
)
from headwater.core.kafka.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from headwater.core.kafka.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponseTopic,
)
from tests.sim.store import SimulatedBucket

from .running import Running, batch_of, fetch, over_broker, produce, run, started, values_in


async def create(
    connection: KafkaConnection,
    name: str,
    partitions: int = 1,
    config: Mapping[str, str | None] | None = None,
    **how: bool,
) -> CreatableTopicResult:
    configs = [CreatableTopicConfig(name=k, value=v) for k, v in (config or {}).items()]
    topic = CreatableTopic(
        name=name, num_partitions=partitions, replication_factor=3, configs=configs
    )
    return (await connection.request(CreateTopicsRequest(topics=[topic], **how))).topics[0]


async def describe(
    connection: KafkaConnection, *names: str, create: bool = False, version: int | None = None
) -> list[MetadataResponseTopic]:
    asked = [MetadataRequestTopic(name=name) for name in names]
    request = MetadataRequest(topics=asked, allow_auto_topic_creation=create)
    return list((await connection.request(request, version=version)).topics)


@over_broker
async def test_a_topic_is_made_once_and_described(running: Running) -> None:
    connection = await running.connect()
    made = await create(connection, "a", 3, {"retention.ms": "5000"})
    assert (made.error_code, made.num_partitions, made.replication_factor) == (0, 3, 1)
    assert {c.name: c.value for c in made.configs or ()}["retention.ms"] == "5000"
    again = await create(connection, "a")
    assert again.error_code == ErrorCode.TOPIC_ALREADY_EXISTS
    topic = (await describe(connection, "a"))[0]
    assert topic.topic_id == made.topic_id != uuid.UUID(int=0)
    me = running.broker.node.membership.me.node_id
    assert [(p.partition_index, p.leader_id) for p in topic.partitions] == [
        (0, me),
        (1, me),
        (2, me),
    ]
    assert all(p.leader_epoch == 0 for p in topic.partitions)


@over_broker
async def test_topics_made_at_the_same_time_are_one(running: Running) -> None:
    connections = [await running.connect() for _ in range(4)]
    results = await asyncio.gather(*(create(connection, "same") for connection in connections))
    assert sorted(result.error_code for result in results) == [0, 36, 36, 36]
    topics = await asyncio.gather(*(describe(c, "auto", create=True) for c in connections))
    assert len({topic[0].topic_id for topic in topics}) == 1


@over_broker
async def test_bad_topics_are_refused_with_their_reason(running: Running) -> None:
    connection = await running.connect()
    assert (await create(connection, "no/slash")).error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert (await create(connection, "t", 0)).error_code == ErrorCode.INVALID_PARTITIONS
    assert (await create(connection, "t", 10_001)).error_code == ErrorCode.INVALID_PARTITIONS
    unknown = await create(connection, "t", 1, {"retenion.ms": "5"})
    assert unknown.error_code == ErrorCode.INVALID_CONFIG
    assert "retention.ms" in (unknown.error_message or "")
    compact = await create(connection, "t", 1, {"cleanup.policy": "compact"})
    assert compact.error_code == ErrorCode.INVALID_CONFIG
    checked = await create(connection, "t", 2, validate_only=True)
    assert checked.error_code == 0
    assert (await describe(connection, "t"))[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    twice = CreatableTopic(name="t", num_partitions=1)
    answers = (await connection.request(CreateTopicsRequest(topics=[twice, twice]))).topics
    assert {answer.error_code for answer in answers} == {ErrorCode.INVALID_REQUEST}


@over_broker
async def test_counts_may_be_left_to_the_broker_or_given_by_assignments(running: Running) -> None:
    connection = await running.connect()
    assert (await create(connection, "default", -1)).num_partitions == 1
    assigned = CreatableTopic(
        name="assigned",
        num_partitions=-1,
        assignments=[CreatableReplicaAssignment(partition_index=n) for n in range(4)],
    )
    made = (await connection.request(CreateTopicsRequest(topics=[assigned]))).topics[0]
    assert (made.error_code, made.num_partitions) == (0, 4)


@over_broker
async def test_metadata_makes_topics_only_when_asked_to(running: Running) -> None:
    connection = await running.connect()
    declined = (await describe(connection, "new"))[0]
    assert declined.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    made = (await describe(connection, "new", create=True))[0]
    assert (made.error_code, len(made.partitions)) == (0, 1)
    bad = (await describe(connection, "not/legal", create=True))[0]
    assert bad.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    by_id = MetadataRequestTopic(name=None, topic_id=made.topic_id)
    unknown = MetadataRequestTopic(name=None, topic_id=uuid.uuid4())
    answer = await connection.request(MetadataRequest(topics=[by_id, unknown]))
    assert [t.error_code for t in answer.topics] == [0, ErrorCode.UNKNOWN_TOPIC_ID]
    assert answer.topics[0].name == "new"
    everything = await connection.request(MetadataRequest(topics=None))
    assert [topic.name for topic in everything.topics] == ["new"]
    old = await connection.request(MetadataRequest(topics=[]), version=0)
    assert [topic.name for topic in old.topics] == ["new"]
    none = await connection.request(MetadataRequest(topics=[]), version=1)
    assert none.topics == ()
    assert none.controller_id == running.broker.node.membership.me.node_id


def test_auto_creation_can_be_turned_off() -> None:
    from headwater.cloud.broker.settings import TopicSettings

    async def scenario(running: Running) -> None:
        connection = await running.connect()
        answer = (await describe(connection, "new", create=True))[0]
        assert answer.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    over_broker(scenario, topics=TopicSettings(auto_create=False))()


@over_broker
async def test_partitions_grow_and_never_shrink(running: Running) -> None:
    connection = await running.topic(partitions=2)

    async def grow(count: int, name: str = "t") -> int:
        topics = [CreatePartitionsTopic(name=name, count=count, assignments=None)]
        answer = await connection.request(CreatePartitionsRequest(topics=topics))
        return answer.results[0].error_code

    assert await grow(4) == 0
    assert await grow(3) == ErrorCode.INVALID_PARTITIONS
    assert await grow(9, "nope") == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert len((await describe(connection, "t"))[0].partitions) == 4
    assert (await produce(connection, batch_of(b"v"), partitions=[3]))[0].error_code == 0


async def configs(connection: KafkaConnection, name: str = "t") -> dict[str, tuple[str, int]]:
    asked = DescribeConfigsResource(resource_type=2, resource_name=name, configuration_keys=None)
    answer = await connection.request(DescribeConfigsRequest(resources=[asked]))
    assert answer.results[0].error_code == 0, answer
    return {c.name: (c.value or "", c.config_source) for c in answer.results[0].configs}


async def alter(
    connection: KafkaConnection, *changes: tuple[str, int, str | None], name: str = "t"
) -> int:
    resource = AlterConfigsResource(
        resource_type=2,
        resource_name=name,
        configs=[AlterableConfig(name=n, config_operation=op, value=v) for n, op, v in changes],
    )
    answer = await connection.request(IncrementalAlterConfigsRequest(resources=[resource]))
    return answer.responses[0].error_code


@over_broker
async def test_settings_are_shown_with_their_source_and_can_be_altered(running: Running) -> None:
    connection = await running.topic()
    assert (await configs(connection))["retention.ms"] == (str(7 * 86400 * 1000), 5)
    assert await alter(connection, ("retention.ms", 0, "1000"), ("max.message.bytes", 0, "50")) == 0
    shown = await configs(connection)
    assert shown["retention.ms"] == ("1000", 1)
    assert shown["cleanup.policy"] == ("delete", 5)
    too_large = (await produce(connection, batch_of(b"v")))[0]
    assert too_large.error_code == ErrorCode.MESSAGE_TOO_LARGE
    assert await alter(connection, ("max.message.bytes", 1, None)) == 0
    assert (await produce(connection, batch_of(b"v")))[0].error_code == 0
    assert await alter(connection, ("retention.ms", 0, "soon")) == ErrorCode.INVALID_CONFIG
    assert await alter(connection, ("retention.ms", 2, "1")) == ErrorCode.INVALID_CONFIG
    unknown = await alter(connection, ("retention.ms", 0, "1"), name="nope")
    assert unknown == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_topics_settings_and_ids_survive_the_node() -> None:
    async def body() -> None:
        bucket = SimulatedBucket()
        async with started(bucket=bucket) as running:
            connection = await running.topic(partitions=2, retention_ms="1234")
            before = (await describe(connection, "t"))[0]
            cluster = running.broker.node.shards.cluster
            running.broker.kill()
        async with started(bucket=bucket) as running:
            connection = await running.connect()
            assert (await describe(connection, "t"))[0] == before
            assert (await configs(connection))["retention.ms"] == ("1234", 1)
            assert running.broker.node.shards.cluster == cluster
            described = await connection.request(DescribeClusterRequest())
            assert described.cluster_id == cluster.cluster_id

    run(body())


def test_a_topic_made_again_goes_on_at_the_old_offsets_with_a_new_id() -> None:
    async def body() -> None:
        bucket = SimulatedBucket()
        async with started(bucket=bucket) as running:
            connection = await running.topic()
            old = (await describe(connection, "t"))[0].topic_id
            await produce(
                connection, batch_of(b"a", b"b", producer_id=5, producer_epoch=0, base_sequence=0)
            )
            gone = (
                await connection.request(DeleteTopicsRequest(topics=[DeleteTopicState(name="t")]))
            ).responses
            assert gone[0].error_code == 0
            assert (await describe(connection, "t"))[
                0
            ].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            assert (await fetch(connection, 0))[
                0
            ].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            again = DeleteTopicsRequest(topics=[DeleteTopicState(topic_id=old)])
            assert (await connection.request(again)).responses[
                0
            ].error_code == ErrorCode.UNKNOWN_TOPIC_ID
            running.broker.kill()
        async with started(bucket=bucket) as running:
            connection = await running.topic()
            assert (await describe(connection, "t"))[0].topic_id != old
            assert (await fetch(connection, 0))[0].error_code == ErrorCode.OFFSET_OUT_OF_RANGE
            part = (await produce(connection, batch_of(b"c")))[0]
            assert (part.base_offset, part.log_start_offset) == (2, 2)
            assert values_in((await fetch(connection, 2))[0]) == [b"c"]

    run(body())


@pytest.mark.parametrize(
    "config",
    [
        {"retention.ms": "-2"},
        {"retention.ms": "1.5"},
        {"max.message.bytes": "-1"},
        {"retention.bytes": str(2**63)},
        {"compression.type": "zstd"},
        {"x": "1"},
    ],
)
def test_settings_that_cannot_be_kept_are_refused(config: dict[str, str | None]) -> None:
    with pytest.raises(Refused):
        check_config(config)


def test_unset_values_fall_back_to_the_default() -> None:
    assert check_config({"retention.ms": None, "retention.bytes": "-1"}) == {
        "retention.bytes": "-1"
    }
