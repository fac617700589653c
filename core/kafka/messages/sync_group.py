"""SyncGroup (14): the leader hands in the assignments, everybody gets their own.

Versions: 1 throttle time; 3 static members; 4 flexible; 5 protocol type and name are checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from ..primitives import blob, int16, int32, since, string
from ..schema import Request, Response


class SyncGroupResponse(Response, frozen=True, kw_only=True):
    KEY = 14
    VERSIONS = (0, 5)
    FLEXIBLE = 4

    throttle_time_ms: Annotated[int32, since(1)] = 0
    error_code: int16 = 0
    protocol_type: Annotated[string | None, since(5)] = None
    protocol_name: Annotated[string | None, since(5)] = None
    assignment: blob = b""


class SyncGroupRequestAssignment(msgspec.Struct, frozen=True, kw_only=True):
    member_id: string = ""
    assignment: blob = b""


class SyncGroupRequest(Request[SyncGroupResponse], frozen=True, kw_only=True):
    KEY = 14
    VERSIONS = (0, 5)
    FLEXIBLE = 4
    RESPONSE = SyncGroupResponse

    group_id: string = ""
    generation_id: int32 = 0
    member_id: string = ""
    group_instance_id: Annotated[string | None, since(3)] = None
    protocol_type: Annotated[string | None, since(5)] = None
    protocol_name: Annotated[string | None, since(5)] = None
    assignments: Sequence[SyncGroupRequestAssignment] = ()
