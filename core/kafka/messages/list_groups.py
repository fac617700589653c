"""ListGroups (16).

Versions: 1 throttle time; 3 flexible; 4 states, and a filter by them; 5 types, and a filter by them (KIP-848).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from ..primitives import int16, int32, since, string
from ..schema import Request, Response


class ListedGroup(msgspec.Struct, frozen=True, kw_only=True):
    group_id: string = ""
    protocol_type: string = ""
    group_state: Annotated[string, since(4)] = ""
    group_type: Annotated[string, since(5)] = ""


class ListGroupsResponse(Response, frozen=True, kw_only=True):
    KEY = 16
    VERSIONS = (0, 5)
    FLEXIBLE = 3

    throttle_time_ms: Annotated[int32, since(1)] = 0
    error_code: int16 = 0
    groups: Sequence[ListedGroup] = ()


class ListGroupsRequest(Request[ListGroupsResponse], frozen=True, kw_only=True):
    KEY = 16
    VERSIONS = (0, 5)
    FLEXIBLE = 3
    RESPONSE = ListGroupsResponse

    states_filter: Annotated[Sequence[string], since(4)] = ()
    types_filter: Annotated[Sequence[string], since(5)] = ()
