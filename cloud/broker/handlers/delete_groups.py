"""DeleteGroups (42): forget the committed offsets of a group without members. Versions 0 to 2."""

from __future__ import annotations

from ....core.errors import HeadwaterError, Unavailable
from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.delete_groups import (
    DeletableGroupResult,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
)
from ..answer import Answer
from ..events import GroupDeleted
from ..node import Asker, Node


def handle(node: Node, asker: Asker, request: DeleteGroupsRequest) -> Answer:
    del asker
    return _delete_all(node, request)


async def _delete_all(node: Node, request: DeleteGroupsRequest) -> DeleteGroupsResponse:
    return DeleteGroupsResponse(
        results=[
            DeletableGroupResult(group_id=group_id, error_code=await _delete(node, group_id))
            for group_id in request.groups_names
        ]
    )


async def _delete(node: Node, group_id: str) -> ErrorCode:
    shard = node.shards.of_group(group_id)
    if shard is None:
        return ErrorCode.NOT_COORDINATOR
    if node.groups.coordinator.has_members(group_id):
        return ErrorCode.NON_EMPTY_GROUP
    if group_id not in shard.state.groups:
        return ErrorCode.GROUP_ID_NOT_FOUND
    try:
        await shard.propose(GroupDeleted(group=group_id))
    except Unavailable:
        return ErrorCode.COORDINATOR_NOT_AVAILABLE
    except HeadwaterError:
        return ErrorCode.NOT_COORDINATOR
    return ErrorCode.NONE
