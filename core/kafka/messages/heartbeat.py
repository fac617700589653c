"""Heartbeat (12): still a member, still of this generation.

Versions: 1 throttle time; 3 static members; 4 flexible.
"""

from __future__ import annotations

from typing import Annotated

from ..primitives import int16, int32, since, string
from ..schema import Request, Response


class HeartbeatResponse(Response, frozen=True, kw_only=True):
    KEY = 12
    VERSIONS = (0, 4)
    FLEXIBLE = 4

    throttle_time_ms: Annotated[int32, since(1)] = 0
    error_code: int16 = 0


class HeartbeatRequest(Request[HeartbeatResponse], frozen=True, kw_only=True):
    KEY = 12
    VERSIONS = (0, 4)
    FLEXIBLE = 4
    RESPONSE = HeartbeatResponse

    group_id: string = ""
    generation_id: int32 = 0
    member_id: string = ""
    group_instance_id: Annotated[string | None, since(3)] = None
