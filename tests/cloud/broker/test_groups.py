"""Group APIs over the wire: offsets are durable before they are answered, and survive the node."""

from __future__ import annotations

import asyncio

from headwater.core.kafka.connection import KafkaConnection
from headwater.core.kafka.errors import ErrorCode
from headwater.core.kafka.messages.delete_groups import DeleteGroupsRequest
from headwater.core.kafka.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from headwater.core.kafka.messages.describe_groups import DescribedGroup, DescribeGroupsRequest
from headwater.core.kafka.messages.find_coordinator import FindCoordinatorRequest
from headwater.core.kafka.messages.heartbeat import HeartbeatRequest
from headwater.core.kafka.messages.join_group import (
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
)
from headwater.core.kafka.messages.leave_group import LeaveGroupRequest, MemberIdentity
from headwater.core.kafka.messages.list_groups import ListGroupsRequest
from headwater.core.kafka.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from headwater.core.kafka.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from headwater.core.kafka.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from headwater.core.kafka.messages.sync_group import (
    SyncGroupRequest,
    SyncGroupRequestAssignment,
)
from tests.sim.store import SimulatedBucket

from .running import Running, over_broker, run, started


async def join(connection: KafkaConnection, member_id: str = "") -> JoinGroupResponse:
    request = JoinGroupRequest(
        group_id="g",
        session_timeout_ms=10_000,
        rebalance_timeout_ms=10_000,
        member_id=member_id,
        protocol_type="consumer",
        protocols=[JoinGroupRequestProtocol(name="range", metadata=b"m")],
    )
    answer = await connection.request(request)
    if answer.error_code == ErrorCode.MEMBER_ID_REQUIRED:
        return await join(connection, answer.member_id)
    return answer


async def commit(
    connection: KafkaConnection,
    offset: int,
    *,
    member: JoinGroupResponse | None = None,
    partition: int = 0,
    topic: str = "t",
    metadata: str = "note",
) -> int:
    part = OffsetCommitRequestPartition(
        partition_index=partition, committed_offset=offset, committed_metadata=metadata
    )
    request = OffsetCommitRequest(
        group_id="g",
        generation_id_or_member_epoch=member.generation_id if member else -1,
        member_id=member.member_id if member else "",
        topics=[OffsetCommitRequestTopic(name=topic, partitions=[part])],
    )
    return (await connection.request(request)).topics[0].partitions[0].error_code


async def committed(connection: KafkaConnection, version: int = 8) -> dict[tuple[str, int], int]:
    if version < 8:
        asked = [OffsetFetchRequestTopic(name="t", partition_indexes=[0, 1])]
        request = OffsetFetchRequest(group_id="g", topics=asked)
        one = await connection.request(request, version=version)
        assert one.error_code == 0
        return {
            (t.name, p.partition_index): p.committed_offset
            for t in one.topics
            for p in t.partitions
        }
    topics = [OffsetFetchRequestTopics(name="t", partition_indexes=[0, 1])]
    many = await connection.request(
        OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id="g", topics=topics)])
    )
    assert many.groups[0].error_code == 0
    return {
        (t.name, p.partition_index): p.committed_offset
        for t in many.groups[0].topics
        for p in t.partitions
    }


async def described(connection: KafkaConnection) -> DescribedGroup:
    return (await connection.request(DescribeGroupsRequest(groups=["g"]))).groups[0]


def test_committed_offsets_survive_the_node() -> None:
    async def body() -> None:
        bucket = SimulatedBucket()
        async with started(bucket=bucket) as running:
            connection = await running.topic(partitions=2)
            assert await commit(connection, 17) == 0
            assert await commit(connection, 18) == 0
            running.broker.kill()
        async with started(bucket=bucket) as running:
            connection = await running.connect()
            for version in (1, 2, 7, 8):
                assert await committed(connection, version) == {("t", 0): 18, ("t", 1): -1}
            everything = await connection.request(
                OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id="g", topics=None)])
            )
            parts = everything.groups[0].topics[0].partitions
            assert [(p.partition_index, p.metadata) for p in parts] == [(0, "note")]
            assert (await described(connection)).group_state == "Empty"

    run(body())


@over_broker
async def test_a_commit_is_answered_only_when_it_is_durable(running: Running) -> None:
    connection, other = await running.topic(partitions=2), await running.connect()
    running.store.hold()
    committing = asyncio.ensure_future(commit(connection, 5))
    await asyncio.sleep(0.03)
    assert not committing.done()
    running.store.release()
    assert await committing == 0
    assert (await committed(other))["t", 0] == 5


@over_broker
async def test_a_member_joins_syncs_beats_commits_and_leaves(running: Running) -> None:
    connection = await running.topic(partitions=2)
    found = await connection.request(FindCoordinatorRequest(coordinator_keys=["g"], key_type=0))
    assert found.coordinators[0].port == running.broker.port
    old = await connection.request(FindCoordinatorRequest(key="g"), version=2)
    assert old.port == running.broker.port
    me = await join(connection)
    assert (me.error_code, me.leader) == (0, me.member_id)
    sync = SyncGroupRequest(
        group_id="g",
        generation_id=me.generation_id,
        member_id=me.member_id,
        protocol_type="consumer",
        protocol_name="range",
        assignments=[SyncGroupRequestAssignment(member_id=me.member_id, assignment=b"mine")],
    )
    assert (await connection.request(sync)).assignment == b"mine"
    beat = HeartbeatRequest(group_id="g", generation_id=me.generation_id, member_id=me.member_id)
    assert (await connection.request(beat)).error_code == 0
    assert await commit(connection, 3, member=me) == 0
    assert await commit(connection, 4) == ErrorCode.UNKNOWN_MEMBER_ID, "not while it has members"
    group = await described(connection)
    assert (group.group_state, group.protocol_data) == ("Stable", "range")
    assert group.members[0].member_assignment == b"mine"
    assert group.members[0].client_id == "test"
    listed = await connection.request(ListGroupsRequest(states_filter=["stable"]))
    assert [g.group_id for g in listed.groups] == ["g"]
    busy = await connection.request(DeleteGroupsRequest(groups_names=["g"]))
    assert busy.results[0].error_code == ErrorCode.NON_EMPTY_GROUP
    leaving = LeaveGroupRequest(group_id="g", members=[MemberIdentity(member_id=me.member_id)])
    assert (await connection.request(leaving)).members[0].error_code == 0
    assert (await described(connection)).group_state == "Empty"
    assert (await committed(connection))["t", 0] == 3
    gone = await connection.request(DeleteGroupsRequest(groups_names=["g", "other"]))
    assert [r.error_code for r in gone.results] == [0, ErrorCode.GROUP_ID_NOT_FOUND]
    assert (await committed(connection))["t", 0] == -1
    assert (await described(connection)).group_state == "Dead"


@over_broker
async def test_committed_offsets_are_forgotten_unless_a_member_reads_the_topic(
    running: Running,
) -> None:
    connection = await running.topic()
    asked = [OffsetDeleteRequestPartition(partition_index=number) for number in (0, 9)]
    topics = [OffsetDeleteRequestTopic(name="t", partitions=asked)]
    forget = OffsetDeleteRequest(group_id="g", topics=topics)
    assert (await connection.request(forget)).error_code == ErrorCode.GROUP_ID_NOT_FOUND
    assert await commit(connection, 3) == 0
    me = await join(connection)
    used = await connection.request(forget)
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    subscribed = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
    assert [p.error_code for p in used.topics[0].partitions] == [subscribed, unknown]
    assert (await committed(connection))["t", 0] == 3
    leaving = LeaveGroupRequest(group_id="g", members=[MemberIdentity(member_id=me.member_id)])
    await connection.request(leaving)
    done = await connection.request(forget)
    assert done.error_code == 0
    assert [p.error_code for p in done.topics[0].partitions] == [0, unknown]
    assert (await committed(connection))["t", 0] == -1


@over_broker
async def test_bad_commits_are_refused_each_for_its_own_reason(running: Running) -> None:
    connection = await running.topic()
    assert await commit(connection, 1, topic="nope") == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert await commit(connection, 1, partition=7) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    long = await commit(connection, 1, metadata="x" * 5000)
    assert long == ErrorCode.OFFSET_METADATA_TOO_LARGE
    assert (await committed(connection))["t", 0] == -1


@over_broker
async def test_offsets_of_a_deleted_topic_are_forgotten(running: Running) -> None:
    connection = await running.topic()
    await commit(connection, 1)
    await connection.request(DeleteTopicsRequest(topics=[DeleteTopicState(name="t")]))
    assert (await committed(connection))["t", 0] == -1


@over_broker
async def test_transactions_are_refused_for_good(running: Running) -> None:
    connection = await running.connect()
    found = await connection.request(FindCoordinatorRequest(coordinator_keys=["x"], key_type=1))
    code = ErrorCode.of(found.coordinators[0].error_code)
    assert code is ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    assert not code.retriable


def test_a_fenced_node_tells_no_committed_offsets() -> None:
    async def body() -> None:
        bucket = SimulatedBucket()
        async with started(bucket=bucket) as old:
            stale = await old.topic(partitions=2)
            await commit(stale, 1)
            async with started(bucket=bucket) as new:
                await commit(await new.connect(), 2)
                asked = [OffsetFetchRequestGroup(group_id="g", topics=None)]
                answer = await stale.request(OffsetFetchRequest(groups=asked))
                assert answer.groups[0].error_code == ErrorCode.NOT_COORDINATOR
                joining = await stale.request(JoinGroupRequest(group_id="g"))
                assert joining.error_code == ErrorCode.NOT_COORDINATOR

    run(body())
