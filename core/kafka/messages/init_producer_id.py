"""InitProducerId (22): a producer id and epoch for idempotent or transactional writing.

Versions: 2 flexible; 3 a producer may hand in the id and epoch that it holds (KIP-360); 4 another error code.
"""

from __future__ import annotations

from typing import Annotated

from ..primitives import int16, int32, int64, since, string
from ..schema import Request, Response


class InitProducerIdResponse(Response, frozen=True, kw_only=True):
    KEY = 22
    VERSIONS = (0, 4)
    FLEXIBLE = 2

    throttle_time_ms: int32 = 0
    error_code: int16 = 0
    producer_id: int64 = -1
    producer_epoch: int16 = 0


class InitProducerIdRequest(Request[InitProducerIdResponse], frozen=True, kw_only=True):
    KEY = 22
    VERSIONS = (0, 4)
    FLEXIBLE = 2
    RESPONSE = InitProducerIdResponse

    transactional_id: string | None = None
    transaction_timeout_ms: int32 = 0
    producer_id: Annotated[int64, since(3)] = -1
    producer_epoch: Annotated[int16, since(3)] = -1
