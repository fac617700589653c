"""DeleteGroups (42).

Versions: 2 flexible.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..primitives import int16, int32, string
from ..schema import Request, Response


class DeletableGroupResult(msgspec.Struct, frozen=True, kw_only=True):
    group_id: string = ""
    error_code: int16 = 0


class DeleteGroupsResponse(Response, frozen=True, kw_only=True):
    KEY = 42
    VERSIONS = (0, 2)
    FLEXIBLE = 2

    throttle_time_ms: int32 = 0
    results: Sequence[DeletableGroupResult] = ()


class DeleteGroupsRequest(Request[DeleteGroupsResponse], frozen=True, kw_only=True):
    KEY = 42
    VERSIONS = (0, 2)
    FLEXIBLE = 2
    RESPONSE = DeleteGroupsResponse

    groups_names: Sequence[string] = ()
