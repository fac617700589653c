"""DescribeCluster (60): nodes and controller. Versions 0 and 1; only brokers (endpoint type 1) exist."""

from __future__ import annotations

from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)
from ..answer import Answer
from ..node import Asker, Node
from ..shards import CONTROLLER

_BROKERS = 1


def handle(node: Node, asker: Asker, request: DescribeClusterRequest) -> Answer:
    if request.endpoint_type != _BROKERS:
        return DescribeClusterResponse(
            error_code=ErrorCode.INVALID_REQUEST, endpoint_type=request.endpoint_type
        )
    return DescribeClusterResponse(
        cluster_id=node.shards.cluster.cluster_id,
        controller_id=node.membership.owner(CONTROLLER).node_id,
        brokers=[
            DescribeClusterBroker(broker_id=member.node_id, host=host, port=port)
            for member in node.membership.live()
            for host, port in [member.address(asker)]
        ],
    )
