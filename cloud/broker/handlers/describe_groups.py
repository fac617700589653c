"""DescribeGroups (15). Versions 0 to 5. A group with committed offsets and no members is Empty; an unknown one Dead."""

from __future__ import annotations

from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.describe_groups import (
    DescribedGroup,
    DescribedGroupMember,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)
from ...groups.group import Group, GroupState
from ..answer import Answer
from ..node import Asker, Node


def handle(node: Node, asker: Asker, request: DescribeGroupsRequest) -> Answer:
    del asker
    return DescribeGroupsResponse(groups=[_describe(node, group_id) for group_id in request.groups])


def _describe(node: Node, group_id: str) -> DescribedGroup:
    shard = node.shards.of_group(group_id)
    if shard is None or shard.closed_reason is not None:
        return DescribedGroup(group_id=group_id, error_code=ErrorCode.NOT_COORDINATOR)
    group = node.groups.coordinator.group(group_id)
    if group is not None:
        return _with_members(group)
    known = group_id in shard.state.groups
    return DescribedGroup(
        group_id=group_id, group_state=GroupState.EMPTY.value if known else "Dead"
    )


def _with_members(group: Group) -> DescribedGroup:
    stable = group.state is GroupState.STABLE
    return DescribedGroup(
        group_id=group.group_id,
        group_state=group.state.value,
        protocol_type=group.protocol_type or "",
        protocol_data=(group.protocol or "") if stable else "",
        members=[
            DescribedGroupMember(
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=f"/{member.client_host}",
                member_metadata=member.metadata(group.protocol) if stable else b"",
                member_assignment=member.assignment if stable else b"",
            )
            for member in group.members.values()
        ],
    )
