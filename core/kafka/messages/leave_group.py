"""LeaveGroup (13).

Versions: 0 to 2 one member; 1 throttle time; 3 several members, static ones by instance id; 4 flexible; 5 a
reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from ..primitives import int16, int32, since, string, until
from ..schema import Request, Response


class MemberResponse(msgspec.Struct, frozen=True, kw_only=True):
    member_id: string = ""
    group_instance_id: string | None = None
    error_code: int16 = 0


class LeaveGroupResponse(Response, frozen=True, kw_only=True):
    KEY = 13
    VERSIONS = (0, 5)
    FLEXIBLE = 4

    throttle_time_ms: Annotated[int32, since(1)] = 0
    error_code: int16 = 0
    members: Annotated[Sequence[MemberResponse], since(3)] = ()


class MemberIdentity(msgspec.Struct, frozen=True, kw_only=True):
    member_id: string = ""
    group_instance_id: string | None = None
    reason: Annotated[string | None, since(5)] = None


class LeaveGroupRequest(Request[LeaveGroupResponse], frozen=True, kw_only=True):
    KEY = 13
    VERSIONS = (0, 5)
    FLEXIBLE = 4
    RESPONSE = LeaveGroupResponse

    group_id: string = ""
    member_id: Annotated[string, until(2)] = ""
    members: Annotated[Sequence[MemberIdentity], since(3)] = ()
