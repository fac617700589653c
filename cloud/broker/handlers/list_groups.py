"""ListGroups (16): groups with members, and those that only have committed offsets. Versions 0 to 5.

Every group is of the classic type: members choose among themselves who assigns (KIP-848 made another).
"""

from __future__ import annotations

from ....core.kafka.messages.list_groups import (
    ListedGroup,
    ListGroupsRequest,
    ListGroupsResponse,
)
from ...groups.group import GroupState
from ..answer import Answer
from ..node import Asker, Node

_CLASSIC = "classic"


def handle(node: Node, asker: Asker, request: ListGroupsRequest) -> Answer:
    del asker
    listed = {
        group_id: ListedGroup(
            group_id=group_id, group_state=GroupState.EMPTY.value, group_type=_CLASSIC
        )
        for shard in node.shards.owned()
        for group_id in shard.state.groups
    }
    for group in node.groups.coordinator.groups():
        listed[group.group_id] = ListedGroup(
            group_id=group.group_id,
            protocol_type=group.protocol_type or "",
            group_state=group.state.value,
            group_type=_CLASSIC,
        )
    states = {state.lower() for state in request.states_filter}
    types = {kind.lower() for kind in request.types_filter}
    if types and _CLASSIC not in types:
        listed.clear()
    return ListGroupsResponse(
        groups=[g for g in listed.values() if not states or g.group_state.lower() in states]
    )
