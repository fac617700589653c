"""CreateTopics (19).

Versions: 4 partition and replica counts of -1 mean the broker's defaults; 5 flexible, the configuration in the
answer; 7 topic ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from ..primitives import ZERO_UUID, boolean, int8, int16, int32, since, string, tagged, uuid
from ..schema import Request, Response


class CreatableTopicConfigs(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    value: string | None = None
    read_only: boolean = False
    config_source: int8 = -1
    is_sensitive: boolean = False


class CreatableTopicResult(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    topic_id: Annotated[uuid, since(7)] = ZERO_UUID
    error_code: int16 = 0
    error_message: string | None = None
    topic_config_error_code: Annotated[int16, tagged(0, since=5)] = 0
    num_partitions: Annotated[int32, since(5)] = -1
    replication_factor: Annotated[int16, since(5)] = -1
    configs: Annotated[Sequence[CreatableTopicConfigs] | None, since(5)] = None


class CreateTopicsResponse(Response, frozen=True, kw_only=True):
    KEY = 19
    VERSIONS = (2, 7)
    FLEXIBLE = 5

    throttle_time_ms: int32 = 0
    topics: Sequence[CreatableTopicResult] = ()


class CreatableReplicaAssignment(msgspec.Struct, frozen=True, kw_only=True):
    partition_index: int32 = 0
    broker_ids: Sequence[int32] = ()


class CreatableTopicConfig(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    value: string | None = None


class CreatableTopic(msgspec.Struct, frozen=True, kw_only=True):
    name: string = ""
    num_partitions: int32 = 0
    replication_factor: int16 = 0
    assignments: Sequence[CreatableReplicaAssignment] = ()
    configs: Sequence[CreatableTopicConfig] = ()


class CreateTopicsRequest(Request[CreateTopicsResponse], frozen=True, kw_only=True):
    KEY = 19
    VERSIONS = (2, 7)
    FLEXIBLE = 5
    RESPONSE = CreateTopicsResponse

    topics: Sequence[CreatableTopic] = ()
    timeout_ms: int32 = 60000
    validate_only: boolean = False
