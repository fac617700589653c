"""Fetch (1): read record batches, waiting for at least min_bytes or max_wait_ms.

Versions 4 to 12 (13 and later name topics by id). Sessions are never made: every answer has session id 0, so clients send
full requests; one that refers to a session is told FETCH_SESSION_ID_NOT_FOUND (70) and begins anew (KIP-227).

  * whole batches; the first of the answer even above max_bytes (KIP-74), further partitions only what still fits
  * no polling: a request that waits is woken by the commit of a partition it waits for
  * fair: each request begins with the partition after the one the last began with, whatever order clients ask in
  * bounded: bytes are taken from the node's fetch memory before they are read and given back when they are sent
  * there are no transactions: the last stable offset is the high watermark, isolation levels are the same
"""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog

from ....core.errors import Corrupt, HeadwaterError, Missing, OffsetOutOfRange
from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.fetch import (
    FetchableTopicResponse,
    FetchRequest,
    FetchResponse,
    PartitionData,
)
from ....core.record import TopicPartition
from ..answer import Answer, Sent
from ..epochs import check_epoch
from ..node import Asker, Node
from ..shard import Shard
from ..waiting import Watch

_log = structlog.get_logger()

_NO_SESSION, _FINAL_EPOCH, _FIRST_EPOCH = 0, -1, 0


@dataclass(slots=True)
class _Part:
    tp: TopicPartition
    offset: int
    bytes_max: int
    shard: Shard | None
    error: ErrorCode
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0

    @property
    def waits(self) -> bool:
        """Whether there is something durable that was not read yet."""
        return (
            self.error is ErrorCode.NONE
            and self.shard is not None
            and self.offset < self.shard.bounds(self.tp).end
        )


def handle(node: Node, asker: Asker, request: FetchRequest) -> Answer:
    del asker
    if request.session_id != _NO_SESSION and request.session_epoch > _FIRST_EPOCH:
        return FetchResponse(error_code=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
    if request.session_id == _NO_SESSION and request.session_epoch > _FIRST_EPOCH:
        return FetchResponse(error_code=ErrorCode.INVALID_FETCH_SESSION_EPOCH)
    if not request.topics:
        return FetchResponse()
    return _fetch(node, request)


async def _fetch(node: Node, request: FetchRequest) -> Sent:
    parts = [
        _part(
            node,
            TopicPartition(topic.topic, p.partition),
            p.fetch_offset,
            p.partition_max_bytes,
            p.current_leader_epoch,
        )
        for topic in request.topics
        for p in topic.partitions
    ]
    reading = _Reading(node, parts, min(request.max_bytes, node.settings.fetch_bytes_max))
    try:
        await reading.gather(
            min_bytes=request.min_bytes,
            wait_s=min(request.max_wait_ms / 1000, node.settings.fetch_wait_max),
        )
        response = _response(request, parts)
    except BaseException:
        reading.give_back()
        raise
    node.metrics.fetched_bytes.inc(reading.size)
    return Sent(response, reading.give_back)


def _part(node: Node, tp: TopicPartition, offset: int, bytes_max: int, leader_epoch: int) -> _Part:
    shard = node.shards.of(tp)
    if not node.shards.has(tp):
        error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    elif shard is None or shard.closed_reason is not None:
        error = ErrorCode.NOT_LEADER_OR_FOLLOWER
    else:
        error = check_epoch(leader_epoch)
        bounds = shard.bounds(tp)
        if error is ErrorCode.NONE and not bounds.start <= offset <= bounds.end:
            error = ErrorCode.OFFSET_OUT_OF_RANGE
    return _Part(tp, offset, max(bytes_max, 0), shard, error)


class _Reading:
    """One request's reading: what was read so far, the memory it holds."""

    def __init__(self, node: Node, parts: list[_Part], limit: int) -> None:
        self.size = 0
        self._node = node
        self._limit = max(limit, 0)
        self._held = 0
        # one whole turn further each time, so that a full answer does not always go to the same partition
        turn = node.fetch_turn = node.fetch_turn + 1
        first = turn % len(parts) if parts else 0
        self._parts = parts[first:] + parts[:first]

    async def gather(self, *, min_bytes: int, wait_s: float) -> None:
        watch = Watch()
        clock = self._node.clock
        deadline = clock.monotonic() + wait_s
        watched = [(part.shard, part.tp) for part in self._parts if part.shard is not None]
        for shard, tp in watched:
            shard.watchers.add(watch, [tp])
        try:
            while True:
                await self._read_all()
                rest = deadline - clock.monotonic()
                if self._is_enough(min_bytes) or rest <= 0 or not await watch.wait(rest):
                    return
        finally:
            for shard, tp in watched:
                shard.watchers.remove(watch, [tp])

    def give_back(self) -> None:
        held, self._held = self._held, 0
        if held:
            self._node.fetch_budget.give(held)

    def _is_enough(self, min_bytes: int) -> bool:
        if self.size >= min(max(min_bytes, 0), self._limit) or self._node.draining:
            return True
        for part in self._parts:
            if part.shard is not None and part.shard.closed_reason is not None:
                part.error = ErrorCode.NOT_LEADER_OR_FOLLOWER
        # an error is told at once, and so is data that a limit kept us from taking: waiting would not bring more
        return any(part.error is not ErrorCode.NONE or part.waits for part in self._parts)

    async def _read_all(self) -> None:
        for part in self._parts:
            if self.size and self.size >= self._limit:
                return
            if part.waits and (part.size < part.bytes_max or not self.size):
                await self._read(part)

    async def _read(self, part: _Part) -> None:
        assert part.shard is not None
        room = max(1, min(part.bytes_max - part.size, self._limit - self.size))
        budget = self._node.fetch_budget
        if not self._held:
            await budget.take(room)
        elif not budget.try_take(
            room
        ):  # never wait while holding: two such would wait for each other
            self._limit = self.size
            return
        self._held += room
        batches: list[bytes] = []
        try:
            batches = await part.shard.journal.read(part.tp, part.offset, bytes_max=room)
        except (OffsetOutOfRange, Missing):
            part.error = ErrorCode.OFFSET_OUT_OF_RANGE  # trimmed meanwhile
        except Corrupt as error:
            _log.error("stored records are damaged", partition=str(part.tp), error=str(error))
            part.error = ErrorCode.KAFKA_STORAGE_ERROR
        except HeadwaterError as error:
            _log.warning("the log cannot be read", partition=str(part.tp), error=str(error))
            part.error = ErrorCode.KAFKA_STORAGE_ERROR
        size = sum(map(len, batches))
        if size > room and self.size:  # its first batch does not fit behind what is there already
            size, batches = 0, []
        budget.take_at_once(size)
        budget.give(room)
        self._held += size - room
        if batches:
            part.chunks += batches
            part.size += size
            self.size += size
            part.offset = _next_offset(batches[-1])


def _next_offset(batch: bytes) -> int:
    base = int.from_bytes(batch[0:8], "big")
    return base + int.from_bytes(batch[23:27], "big") + 1


def _response(request: FetchRequest, parts: list[_Part]) -> FetchResponse:
    ordered = iter(parts)
    return FetchResponse(
        responses=[
            FetchableTopicResponse(
                topic=topic.topic,
                partitions=[_partition_data(next(ordered)) for _ in topic.partitions],
            )
            for topic in request.topics
        ]
    )


def _partition_data(part: _Part) -> PartitionData:
    if part.error is not ErrorCode.NONE and not part.chunks:
        return PartitionData(
            partition_index=part.tp.partition,
            error_code=part.error,
            high_watermark=-1,
            last_stable_offset=-1,
            records=b"",
        )
    assert part.shard is not None
    bounds = part.shard.bounds(part.tp)
    chunks = part.chunks
    return PartitionData(
        partition_index=part.tp.partition,
        high_watermark=bounds.end,
        last_stable_offset=bounds.end,
        log_start_offset=bounds.start,
        aborted_transactions=None,
        records=chunks[0] if len(chunks) == 1 else b"".join(chunks),
    )
