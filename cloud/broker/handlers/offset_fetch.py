"""OffsetFetch (9): how far a group had read; -1 where it never committed.

Versions 1 to 8. From 2 null topics mean all, and there is an error for the whole; from 8 several groups at once. The
answer is only given after a look that no other node has taken the shard: an old offset would be read twice. Without
transactions every committed offset is stable (require_stable, 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ....core.errors import Closed, HeadwaterError
from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)
from ..answer import Answer
from ..node import Asker, Node
from ..state import StoredOffset

_NEVER = StoredOffset(-1, -1, "")
_Wanted = Sequence[tuple[str, Sequence[int]]] | None


class _Found(NamedTuple):
    error: ErrorCode
    topics: list[tuple[str, list[tuple[int, StoredOffset]]]]


def handle(node: Node, asker: Asker, request: OffsetFetchRequest) -> Answer:
    return _fetch_groups(node, request) if asker.version >= 8 else _fetch_one(node, asker, request)


async def _fetch_one(node: Node, asker: Asker, request: OffsetFetchRequest) -> OffsetFetchResponse:
    wanted: _Wanted = None
    if request.topics is not None:
        wanted = [(topic.name, topic.partition_indexes) for topic in request.topics]
    found = await _find(node, request.group_id, wanted)
    if asker.version < 2 and found.error is not ErrorCode.NONE:
        found = _Found(found.error, [(t, [(n, _NEVER) for n in ns]) for t, ns in wanted or ()])
    return OffsetFetchResponse(
        error_code=found.error,
        topics=[
            OffsetFetchResponseTopic(
                name=name,
                partitions=[
                    OffsetFetchResponsePartition(
                        partition_index=number,
                        committed_offset=stored.offset,
                        committed_leader_epoch=stored.leader_epoch,
                        metadata=stored.metadata,
                        error_code=found.error,
                    )
                    for number, stored in partitions
                ],
            )
            for name, partitions in found.topics
        ],
    )


async def _fetch_groups(node: Node, request: OffsetFetchRequest) -> OffsetFetchResponse:
    groups = []
    for group in request.groups:
        wanted: _Wanted = None
        if group.topics is not None:
            wanted = [(topic.name, topic.partition_indexes) for topic in group.topics]
        found = await _find(node, group.group_id, wanted)
        groups.append(
            OffsetFetchResponseGroup(
                group_id=group.group_id,
                error_code=found.error,
                topics=[
                    OffsetFetchResponseTopics(
                        name=name,
                        partitions=[
                            OffsetFetchResponsePartitions(
                                partition_index=number,
                                committed_offset=stored.offset,
                                committed_leader_epoch=stored.leader_epoch,
                                metadata=stored.metadata,
                            )
                            for number, stored in partitions
                        ],
                    )
                    for name, partitions in found.topics
                ],
            )
        )
    return OffsetFetchResponse(groups=groups)


async def _find(node: Node, group_id: str, wanted: _Wanted) -> _Found:
    shard = node.shards.of_group(group_id)
    if shard is None:
        return _Found(ErrorCode.NOT_COORDINATOR, [])
    try:
        await shard.confirm()
    except Closed:
        return _Found(ErrorCode.NOT_COORDINATOR, [])
    except HeadwaterError:
        return _Found(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, [])
    group = shard.state.groups.get(group_id)
    offsets = group.offsets if group is not None else {}
    if wanted is None:
        return _Found(
            ErrorCode.NONE, [(name, list(held.items())) for name, held in offsets.items()]
        )
    topics = [
        (name, [(number, offsets.get(name, {}).get(number, _NEVER)) for number in numbers])
        for name, numbers in wanted
    ]
    return _Found(ErrorCode.NONE, topics)
