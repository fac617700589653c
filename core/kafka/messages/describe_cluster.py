"""DescribeCluster (60).

Versions: 0 flexible from the start; 1 brokers or controllers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from ..primitives import boolean, int8, int16, int32, since, string
from ..schema import Request, Response


class DescribeClusterBroker(msgspec.Struct, frozen=True, kw_only=True):
    broker_id: int32 = 0
    host: string = ""
    port: int32 = 0
    rack: string | None = None


class DescribeClusterResponse(Response, frozen=True, kw_only=True):
    KEY = 60
    VERSIONS = (0, 1)
    FLEXIBLE = 0

    throttle_time_ms: int32 = 0
    error_code: int16 = 0
    error_message: string | None = None
    endpoint_type: Annotated[int8, since(1)] = 1
    cluster_id: string = ""
    controller_id: int32 = -1
    brokers: Sequence[DescribeClusterBroker] = ()
    cluster_authorized_operations: int32 = -2147483648


class DescribeClusterRequest(Request[DescribeClusterResponse], frozen=True, kw_only=True):
    KEY = 60
    VERSIONS = (0, 1)
    FLEXIBLE = 0
    RESPONSE = DescribeClusterResponse

    include_cluster_authorized_operations: boolean = False
    endpoint_type: Annotated[int8, since(1)] = 1
