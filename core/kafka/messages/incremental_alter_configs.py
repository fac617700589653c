"""IncrementalAlterConfigs (44): set (0), delete (1), append (2) or subtract (3) single settings.

Versions: 1 flexible.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..primitives import boolean, int8, int16, int32, string
from ..schema import Request, Response


class AlterConfigsResourceResponse(msgspec.Struct, frozen=True, kw_only=True):
    error_code: int16 = 0
    error_message: string | None = None
    resource_type: int8 = 0
    resource_name: string = ""


class IncrementalAlterConfigsResponse(Response, frozen=True, kw_only=True):
    KEY = 44
    VERSIONS = (0, 1)
    FLEXIBLE = 1

    throttle_time_ms: int32 = 0
    responses: Sequence[AlterConfigsResourceResponse] = ()


class AlterableConfig(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    config_operation: int8 = 0
    value: string | None = None


class AlterConfigsResource(msgspec.Struct, frozen=True, kw_only=True):
    resource_type: int8 = 0
    resource_name: string = ""
    configs: Sequence[AlterableConfig] = ()


class IncrementalAlterConfigsRequest(
    Request[IncrementalAlterConfigsResponse], frozen=True, kw_only=True
):
    KEY = 44
    VERSIONS = (0, 1)
    FLEXIBLE = 1
    RESPONSE = IncrementalAlterConfigsResponse

    resources: Sequence[AlterConfigsResource] = ()
    validate_only: boolean = False
