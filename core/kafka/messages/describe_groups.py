"""DescribeGroups (15).

Versions: 1 throttle time; 3 authorized operations; 4 static members; 5 flexible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from ..primitives import blob, boolean, int16, int32, since, string
from ..schema import Request, Response


class DescribedGroupMember(msgspec.Struct, frozen=True, kw_only=True):
    member_id: string = ""
    group_instance_id: Annotated[string | None, since(4)] = None
    client_id: string = ""
    client_host: string = ""
    member_metadata: blob = b""
    member_assignment: blob = b""


class DescribedGroup(msgspec.Struct, frozen=True, kw_only=True):
    error_code: int16 = 0
    group_id: string = ""
    group_state: string = ""
    protocol_type: string = ""
    protocol_data: string = ""
    members: Sequence[DescribedGroupMember] = ()
    authorized_operations: Annotated[int32, since(3)] = -2147483648


class DescribeGroupsResponse(Response, frozen=True, kw_only=True):
    KEY = 15
    VERSIONS = (0, 5)
    FLEXIBLE = 5

    throttle_time_ms: Annotated[int32, since(1)] = 0
    groups: Sequence[DescribedGroup] = ()


class DescribeGroupsRequest(Request[DescribeGroupsResponse], frozen=True, kw_only=True):
    KEY = 15
    VERSIONS = (0, 5)
    FLEXIBLE = 5
    RESPONSE = DescribeGroupsResponse

    groups: Sequence[string] = ()
    include_authorized_operations: Annotated[boolean, since(3)] = False
