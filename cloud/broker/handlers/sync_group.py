"""SyncGroup (14): the leader hands in the assignments, everybody gets their own. Versions 0 to 5."""

from __future__ import annotations

import asyncio

from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from ...groups.coordinator import SyncRequest
from ...groups.member import Synced
from ..answer import Answer
from ..node import Asker, Node


def handle(node: Node, asker: Asker, request: SyncGroupRequest) -> Answer:
    del asker
    if not node.coordinates(request.group_id):
        return SyncGroupResponse(error_code=ErrorCode.NOT_COORDINATOR)
    asked = SyncRequest(
        request.member_id,
        request.group_instance_id,
        request.generation_id,
        request.protocol_type,
        request.protocol_name,
        [(a.member_id, a.assignment) for a in request.assignments],
    )
    return _answer(node.groups.sync(request.group_id, asked))


async def _answer(syncing: asyncio.Future[Synced]) -> SyncGroupResponse:
    synced = await syncing
    return SyncGroupResponse(
        error_code=synced.error,
        protocol_type=synced.protocol_type,
        protocol_name=synced.protocol,
        assignment=synced.assignment,
    )
