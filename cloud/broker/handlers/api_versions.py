"""ApiVersions (18): what this broker speaks. Usually the first request of a connection.

Versions 0 to 4, answered natively. A higher one gets a version 0 body with UNSUPPORTED_VERSION and the whole list, so
that the client can choose (the connection does this, before a body is decoded). The response header is always version 0.

Produce is advertised from 0 although 0 to 2 are rejected: librdkafka before 2.8.1 turns compression off otherwise
(KAFKA-18659). No features are advertised: finalized `transaction.version` would promise KIP-890.
"""

from __future__ import annotations

from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages import REQUESTS, ProduceRequest
from ....core.kafka.messages.api_versions import (
    ApiVersion,
    ApiVersionsRequest,
    ApiVersionsResponse,
)
from ..answer import Answer
from ..node import Asker, Node

_LIST = tuple(
    ApiVersion(
        api_key=key,
        min_version=0 if key == ProduceRequest.KEY else request.VERSIONS[0],
        max_version=request.VERSIONS[1],
    )
    for key, request in sorted(REQUESTS.items())
)


def handle(node: Node, asker: Asker, request: ApiVersionsRequest) -> Answer:
    del node, asker, request
    return ApiVersionsResponse(api_keys=_LIST)


def unsupported() -> ApiVersionsResponse:
    return ApiVersionsResponse(error_code=ErrorCode.UNSUPPORTED_VERSION, api_keys=_LIST)
