"""LeaveGroup (13). Versions 0 to 5: up to 2 one member, from 3 several, static ones by their instance id."""

from __future__ import annotations

from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupResponse,
    MemberResponse,
)
from ..answer import Answer
from ..node import Asker, Node


def handle(node: Node, asker: Asker, request: LeaveGroupRequest) -> Answer:
    if not node.coordinates(request.group_id):
        return LeaveGroupResponse(error_code=ErrorCode.NOT_COORDINATOR)
    if asker.version < 3:
        error = node.groups.leave(request.group_id, request.member_id, None)
        return LeaveGroupResponse(error_code=error)
    return LeaveGroupResponse(
        members=[
            MemberResponse(
                member_id=member.member_id,
                group_instance_id=member.group_instance_id,
                error_code=node.groups.leave(
                    request.group_id, member.member_id, member.group_instance_id
                ),
            )
            for member in request.members
        ]
    )
