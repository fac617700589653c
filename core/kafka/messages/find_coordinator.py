"""FindCoordinator (10): the broker that coordinates a group (key type 0) or a transactional id (1).

Versions: 1 key type, throttle time; 3 flexible; 4 several keys at once, answered in `coordinators`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from ..primitives import int8, int16, int32, since, string, until
from ..schema import Request, Response


class Coordinator(msgspec.Struct, frozen=True, kw_only=True):
    key: string = ""
    node_id: int32 = 0
    host: string = ""
    port: int32 = 0
    error_code: int16 = 0
    error_message: string | None = None


class FindCoordinatorResponse(Response, frozen=True, kw_only=True):
    KEY = 10
    VERSIONS = (0, 4)
    FLEXIBLE = 3

    throttle_time_ms: Annotated[int32, since(1)] = 0
    error_code: Annotated[int16, until(3)] = 0
    error_message: Annotated[string | None, since(1), until(3)] = None
    node_id: Annotated[int32, until(3)] = 0
    host: Annotated[string, until(3)] = ""
    port: Annotated[int32, until(3)] = 0
    coordinators: Annotated[Sequence[Coordinator], since(4)] = ()


class FindCoordinatorRequest(Request[FindCoordinatorResponse], frozen=True, kw_only=True):
    KEY = 10
    VERSIONS = (0, 4)
    FLEXIBLE = 3
    RESPONSE = FindCoordinatorResponse

    key: Annotated[string, until(3)] = ""
    key_type: Annotated[int8, since(1)] = 0
    coordinator_keys: Annotated[Sequence[string], since(4)] = ()
