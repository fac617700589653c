"""ListGroups (16): groups with members, and those that only have committed offsets. Versions 0 to 4."""

from __future__ import annotations

from ....core.kafka.messages.list_groups import (
    ListedGroup,
    ListGroupsRequest,
    ListGroupsResponse,
)
from ...groups.group import GroupState
from ..answer import Answer
from ..node import Asker, Node


def handle(node: Node, asker: Asker, request: ListGroupsRequest) -> Answer:
    del asker
    listed = {
        group_id: ListedGroup(group_id=group_id, group_state=GroupState.EMPTY.value)
        for shard in node.shards.owned()
        for group_id in shard.state.groups
    }
    for group in node.groups.coordinator.groups():
        listed[group.group_id] = ListedGroup(
            group_id=group.group_id,
            protocol_type=group.protocol_type or "",
            group_state=group.state.value,
        )
    wanted = {state.lower() for state in request.states_filter}
    return ListGroupsResponse(
        groups=[g for g in listed.values() if not wanted or g.group_state.lower() in wanted]
    )
