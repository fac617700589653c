"""Heartbeat (12): still a member, still of this generation. Versions 0 to 4."""

from __future__ import annotations

from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from ..answer import Answer
from ..node import Asker, Node


def handle(node: Node, asker: Asker, request: HeartbeatRequest) -> Answer:
    del asker
    error = ErrorCode.NOT_COORDINATOR
    if node.coordinates(request.group_id):
        error = node.groups.coordinator.heartbeat(
            request.group_id, request.member_id, request.group_instance_id, request.generation_id
        )
    return HeartbeatResponse(error_code=error)
