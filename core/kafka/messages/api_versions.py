"""ApiVersions (18): which APIs and versions a broker speaks. The first request on every connection.

Versions: 1 throttle time; 3 flexible, client software, features as tagged fields; 4 as 3 (a feature may begin
at 0). The response's *header* is version 0 in every version, since a client that asks too high must be able to
read the answer; a broker answers a version that it does not know with a version 0 body, error 35
(UNSUPPORTED_VERSION) and its own list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from ..primitives import boolean, int16, int32, int64, since, string, tagged
from ..schema import Request, Response


class ApiVersion(msgspec.Struct, frozen=True, kw_only=True):
    api_key: int16 = 0
    min_version: int16 = 0
    max_version: int16 = 0


class SupportedFeatureKey(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    min_version: int16 = 0
    max_version: int16 = 0


class FinalizedFeatureKey(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    max_version_level: int16 = 0
    min_version_level: int16 = 0


class ApiVersionsResponse(Response, frozen=True, kw_only=True):
    KEY = 18
    VERSIONS = (0, 4)
    FLEXIBLE = 3

    error_code: int16 = 0
    api_keys: Sequence[ApiVersion] = ()
    throttle_time_ms: Annotated[int32, since(1)] = 0
    supported_features: Annotated[Sequence[SupportedFeatureKey], tagged(0, since=3)] = ()
    finalized_features_epoch: Annotated[int64, tagged(1, since=3)] = -1
    finalized_features: Annotated[Sequence[FinalizedFeatureKey], tagged(2, since=3)] = ()
    zk_migration_ready: Annotated[boolean, tagged(3, since=3)] = False


class ApiVersionsRequest(Request[ApiVersionsResponse], frozen=True, kw_only=True):
    KEY = 18
    VERSIONS = (0, 4)
    FLEXIBLE = 3
    RESPONSE = ApiVersionsResponse

    client_software_name: Annotated[string, since(3)] = ""
    client_software_version: Annotated[string, since(3)] = ""
