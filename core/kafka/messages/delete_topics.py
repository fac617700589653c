"""DeleteTopics (20).

Versions: 1 throttle time; 4 flexible; 5 an error message; 6 topics by name or by id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from ..primitives import ZERO_UUID, int16, int32, nullable_since, since, string, until, uuid
from ..schema import Request, Response


class DeletableTopicResult(msgspec.Struct, frozen=True, kw_only=True):
    name: Annotated[string | None, nullable_since(6)] = ""
    topic_id: Annotated[uuid, since(6)] = ZERO_UUID
    error_code: int16 = 0
    error_message: Annotated[string | None, since(5)] = None


class DeleteTopicsResponse(Response, frozen=True, kw_only=True):
    KEY = 20
    VERSIONS = (1, 6)
    FLEXIBLE = 4

    throttle_time_ms: int32 = 0
    responses: Sequence[DeletableTopicResult] = ()


class DeleteTopicState(msgspec.Struct, frozen=True, kw_only=True):
    name: string | None = None
    topic_id: uuid = ZERO_UUID


class DeleteTopicsRequest(Request[DeleteTopicsResponse], frozen=True, kw_only=True):
    KEY = 20
    VERSIONS = (1, 6)
    FLEXIBLE = 4
    RESPONSE = DeleteTopicsResponse

    topics: Annotated[Sequence[DeleteTopicState], since(6)] = ()
    topic_names: Annotated[Sequence[string], until(5)] = ()
    timeout_ms: int32 = 0
