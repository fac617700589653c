"""DescribeConfigs (32): the settings of topics (resource type 2) and brokers (4).

Versions: 1 the source of a value and its synonyms; 3 type and documentation; 4 flexible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from ..primitives import boolean, int8, int16, int32, since, string
from ..schema import Request, Response


class DescribeConfigsSynonym(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    value: string | None = None
    source: int8 = 0


class DescribeConfigsResourceResult(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    value: string | None = None
    read_only: boolean = False
    config_source: int8 = -1
    is_sensitive: boolean = False
    synonyms: Sequence[DescribeConfigsSynonym] = ()
    config_type: Annotated[int8, since(3)] = 0
    documentation: Annotated[string | None, since(3)] = None


class DescribeConfigsResult(msgspec.Struct, frozen=True, kw_only=True):
    error_code: int16 = 0
    error_message: string | None = None
    resource_type: int8 = 0
    resource_name: string = ""
    configs: Sequence[DescribeConfigsResourceResult] = ()


class DescribeConfigsResponse(Response, frozen=True, kw_only=True):
    KEY = 32
    VERSIONS = (1, 4)
    FLEXIBLE = 4

    throttle_time_ms: int32 = 0
    results: Sequence[DescribeConfigsResult] = ()


class DescribeConfigsResource(msgspec.Struct, frozen=True, kw_only=True):
    resource_type: int8 = 0
    resource_name: string = ""
    configuration_keys: Sequence[string] | None = None


class DescribeConfigsRequest(Request[DescribeConfigsResponse], frozen=True, kw_only=True):
    KEY = 32
    VERSIONS = (1, 4)
    FLEXIBLE = 4
    RESPONSE = DescribeConfigsResponse

    resources: Sequence[DescribeConfigsResource] = ()
    include_synonyms: boolean = False
    include_documentation: Annotated[boolean, since(3)] = False
