"""JoinGroup (11): enter a group and wait for everybody else. Versions 0 to 9.

In 0 the session time-out is also the rebalance time-out; from 4 a dynamic member gets its id first (MEMBER_ID_REQUIRED);
from 5 static members. From 9 a leader may be told to skip the assignment; here it never is.
"""

from __future__ import annotations

import asyncio

from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.join_group import (
    JoinGroupRequest,
    JoinGroupResponse,
    JoinGroupResponseMember,
)
from ...groups.member import Candidate, Joined, Protocol
from ..answer import Answer
from ..node import Asker, Node

_MEMBER_ID_FIRST = 4


def handle(node: Node, asker: Asker, request: JoinGroupRequest) -> Answer:
    if not node.coordinates(request.group_id):
        return JoinGroupResponse(error_code=ErrorCode.NOT_COORDINATOR, member_id=request.member_id)
    session_s = request.session_timeout_ms / 1000
    rebalance_ms = request.rebalance_timeout_ms
    candidate = Candidate(
        member_id=request.member_id,
        instance_id=request.group_instance_id,
        client_id=asker.client_id,
        client_host=asker.host,
        session_timeout_s=session_s,
        rebalance_timeout_s=session_s if rebalance_ms < 0 else rebalance_ms / 1000,
        protocol_type=request.protocol_type,
        protocols=tuple(Protocol(p.name, p.metadata) for p in request.protocols),
        must_know_id=asker.version >= _MEMBER_ID_FIRST,
    )
    return _answer(node.groups.join(request.group_id, candidate))


async def _answer(joining: asyncio.Future[Joined]) -> JoinGroupResponse:
    joined = await joining
    return JoinGroupResponse(
        error_code=joined.error,
        generation_id=joined.generation,
        protocol_type=joined.protocol_type,
        protocol_name=joined.protocol or "",
        leader=joined.leader,
        skip_assignment=joined.skip_assignment,
        member_id=joined.member_id,
        members=[
            JoinGroupResponseMember(
                member_id=m.member_id, group_instance_id=m.instance_id, metadata=m.metadata
            )
            for m in joined.members
        ],
    )
