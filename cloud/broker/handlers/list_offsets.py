"""ListOffsets (2): start (-2), end (-1), the record of the largest timestamp (-3), or the first at or after a time.

Versions 1 to 7. The end is only told after a look that no other node has taken the shard (a stale owner would tell an
old one). Without a record at or after the time, offset and timestamp are -1: clients then go to the end.
"""

from __future__ import annotations

from ....core.batch import decode_batch
from ....core.errors import Closed, HeadwaterError, Missing, OffsetOutOfRange
from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from ....core.record import TopicPartition
from ..answer import Answer
from ..epochs import LEADER_EPOCH, check_epoch
from ..node import Asker, Node
from ..shard import Shard

LATEST, EARLIEST, MAX_TIMESTAMP = -1, -2, -3


def handle(node: Node, asker: Asker, request: ListOffsetsRequest) -> Answer:
    del asker
    return _list(node, request)


async def _list(node: Node, request: ListOffsetsRequest) -> ListOffsetsResponse:
    unsure = await _stale(node, request)
    return ListOffsetsResponse(
        topics=[
            ListOffsetsTopicResponse(
                name=topic.name,
                partitions=[
                    await _answer(
                        node, TopicPartition(topic.name, asked.partition_index), asked, unsure
                    )
                    for asked in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


async def _stale(node: Node, request: ListOffsetsRequest) -> dict[int, ErrorCode]:
    """Shards whose end must not be told, by number: one look each, however many partitions are asked for."""
    wanted = {
        shard.number: shard
        for topic in request.topics
        for asked in topic.partitions
        if asked.timestamp == LATEST
        and (shard := node.shards.find(TopicPartition(topic.name, asked.partition_index)))
    }
    unsure: dict[int, ErrorCode] = {}
    for number, shard in wanted.items():
        try:
            await shard.confirm()
        except Closed:
            unsure[number] = ErrorCode.NOT_LEADER_OR_FOLLOWER
        except HeadwaterError:
            unsure[number] = ErrorCode.OFFSET_NOT_AVAILABLE
    return unsure


async def _answer(
    node: Node, tp: TopicPartition, asked: ListOffsetsPartition, unsure: dict[int, ErrorCode]
) -> ListOffsetsPartitionResponse:
    shard = node.shards.of(tp)
    if not node.shards.has(tp):
        error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    elif shard is None or shard.closed_reason is not None:
        error = ErrorCode.NOT_LEADER_OR_FOLLOWER
    else:
        error = check_epoch(asked.current_leader_epoch)
        if asked.timestamp == LATEST and shard.number in unsure:
            error = unsure[shard.number]
    if error is not ErrorCode.NONE or shard is None:
        return ListOffsetsPartitionResponse(partition_index=tp.partition, error_code=error)
    try:
        timestamp, offset = await _find(shard, tp, asked.timestamp)
    except HeadwaterError:
        return ListOffsetsPartitionResponse(
            partition_index=tp.partition, error_code=ErrorCode.KAFKA_STORAGE_ERROR
        )
    return ListOffsetsPartitionResponse(
        partition_index=tp.partition,
        timestamp=timestamp,
        offset=offset,
        leader_epoch=LEADER_EPOCH if offset >= 0 else -1,
    )


async def _find(shard: Shard, tp: TopicPartition, timestamp: int) -> tuple[int, int]:
    """(timestamp, offset); the timestamp is -1 where an end of the log was asked for."""
    bounds = shard.bounds(tp)
    if timestamp == LATEST:
        return -1, bounds.end
    if timestamp == EARLIEST:
        return -1, bounds.start
    if bounds.start == bounds.end:
        return -1, -1
    if timestamp == MAX_TIMESTAMP:
        return await _newest(shard, tp)
    try:
        found = await shard.journal.offset_for_time(tp, max(timestamp, 0))
    except (Missing, OffsetOutOfRange):
        return -1, -1
    return (found.timestamp, found.offset) if found is not None else (-1, -1)


async def _newest(shard: Shard, tp: TopicPartition) -> tuple[int, int]:
    """The first record that carries the largest timestamp. Times are bisected: a larger one is asked for until there is
    none, each step at a record that exists."""
    bounds = shard.bounds(tp)
    best = (-1, -1)
    wanted = 0
    while True:
        found = await shard.journal.offset_for_time(tp, wanted)
        if found is None:
            return best
        batches = await shard.journal.read(tp, max(found.offset, bounds.start), bytes_max=1)
        _, records = decode_batch(batches[0])
        held = [record for record in records if record.offset >= bounds.start]
        newest = max(held, key=lambda record: (record.timestamp, -record.offset))
        best = (newest.timestamp, newest.offset)
        wanted = newest.timestamp + 1
