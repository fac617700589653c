"""FindCoordinator (10): the node that coordinates a group. Versions 0 to 4; from 4 several keys at once.

A group lives where its shard is owned. Transactional ids (key type 1) have no coordinator here.
"""

from __future__ import annotations

from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)
from ..answer import Answer
from ..node import Asker, Node

_GROUP = 0


def handle(node: Node, asker: Asker, request: FindCoordinatorRequest) -> Answer:
    if asker.version >= 4:
        found = [_find(node, asker, key, request.key_type) for key in request.coordinator_keys]
        return FindCoordinatorResponse(coordinators=found)
    one = _find(node, asker, request.key, request.key_type)
    return FindCoordinatorResponse(
        error_code=one.error_code,
        error_message=one.error_message,
        node_id=one.node_id,
        host=one.host,
        port=one.port,
    )


def _find(node: Node, asker: Asker, key: str, key_type: int) -> Coordinator:
    if key_type != _GROUP:
        error = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        message = "transactions are not supported"
        return Coordinator(key=key, node_id=-1, port=-1, error_code=error, error_message=message)
    owner = node.membership.owner(node.shards.cluster.shard_of_group(key))
    host, port = owner.address(asker)
    return Coordinator(key=key, node_id=owner.node_id, host=host, port=port, error_message=None)
