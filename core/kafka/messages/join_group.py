"""JoinGroup (11): enter a group and wait for everybody else; the leader gets all members' metadata.

Versions: 1 rebalance timeout; 4 a first join without member id is answered MEMBER_ID_REQUIRED with one; 5
static members; 6 flexible; 7 protocol type in the answer; 8 a reason; 9 the leader may be told to skip the
assignment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from ..primitives import blob, boolean, int16, int32, nullable_since, since, string
from ..schema import Request, Response


class JoinGroupResponseMember(msgspec.Struct, frozen=True, kw_only=True):
    member_id: string = ""
    group_instance_id: Annotated[string | None, since(5)] = None
    metadata: blob = b""


class JoinGroupResponse(Response, frozen=True, kw_only=True):
    KEY = 11
    VERSIONS = (0, 9)
    FLEXIBLE = 6

    throttle_time_ms: Annotated[int32, since(2)] = 0
    error_code: int16 = 0
    generation_id: int32 = -1
    protocol_type: Annotated[string | None, since(7)] = None
    protocol_name: Annotated[string | None, nullable_since(7)] = ""
    leader: string = ""
    skip_assignment: Annotated[boolean, since(9)] = False
    member_id: string = ""
    members: Sequence[JoinGroupResponseMember] = ()


class JoinGroupRequestProtocol(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    metadata: blob = b""


class JoinGroupRequest(Request[JoinGroupResponse], frozen=True, kw_only=True):
    KEY = 11
    VERSIONS = (0, 9)
    FLEXIBLE = 6
    RESPONSE = JoinGroupResponse

    group_id: string = ""
    session_timeout_ms: int32 = 0
    rebalance_timeout_ms: Annotated[int32, since(1)] = -1
    member_id: string = ""
    group_instance_id: Annotated[string | None, since(5)] = None
    protocol_type: string = ""
    protocols: Sequence[JoinGroupRequestProtocol] = ()
    reason: Annotated[string | None, since(8)] = None
