"""Produce (0): append record batches.

Versions 3 to 11; 0 to 2 stand in the ApiVersions list (KAFKA-18659) and are rejected at the door. Every version carries
record batch v2 and nothing else.

A batch is validated whole (magic, length, CRC, counts, size) before anything of its partition is submitted. The answer
leaves when every batch of the request is in the log; when the store takes longer than the request allows, what is
missing is answered REQUEST_TIMED_OUT: it may still become durable, which an idempotent producer's retry finds out, and the
bytes stay counted against the node until it is decided. acks 1 and all mean the same here; 0 gets no answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

from ....core.batch import HEADER_BYTES, BatchHeader, Buffer, Compression, validate_batch
from ....core.errors import Closed, Corrupt, HeadwaterError, Refused, Unavailable
from ....core.kafka.errors import ErrorCode
from ....core.kafka.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)
from ....core.record import TopicPartition
from ..answer import Answer
from ..inflight import Commit
from ..node import Asker, Node
from ..shard import Accepted, Held, Rejected, Shard
from ..topics import MAX_MESSAGE_BYTES

_MAGIC_POSITION = 16

# What the smallest record takes: its length, attributes, two deltas, two lengths and a count, a byte each.
_RECORD_BYTES_MIN = 7
# A compressed batch is taken as it came, so nobody has counted its records. A client fills batches by bytes and by some
# thousand messages; a header that speaks of more than this would only use up offsets and its readers' memory.
_RECORDS_MAX = 2**20


def handle(node: Node, asker: Asker, request: ProduceRequest) -> Answer:
    del asker
    answer = _Answer(node, request)
    if request.acks == 0:
        return None
    return answer.future


class _Invalid(Exception):
    """This partition's records cannot be taken."""

    def __init__(self, error: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.error = error


class _Part(NamedTuple):
    """One partition's answer: fixed already, or decided by a commit."""

    number: int
    error: ErrorCode
    base_offset: int = -1
    log_start: int = -1
    message: str | None = None
    commit: Commit | None = None


class _Answer:
    """The answer to one request, complete when the last of its commits is."""

    def __init__(self, node: Node, request: ProduceRequest) -> None:
        loop = asyncio.get_running_loop()
        self.future: asyncio.Future[ProduceResponse] = loop.create_future()
        self._topics = [
            (topic.name, [_take(node, request, topic.name, part) for part in topic.partition_data])
            for topic in request.topic_data
        ]
        commits = {part.commit for _, parts in self._topics for part in parts if part.commit}
        self._missing = len(commits)
        self._timer: asyncio.TimerHandle | None = None
        if not commits or request.acks == 0:
            self._finish()
            return
        limit = min(max(request.timeout_ms, 1) / 1000, node.settings.produce_timeout_max)
        self._timer = loop.call_later(limit, self._finish)
        for commit in commits:
            commit.add_done_callback(self._committed)

    def _committed(self, commit: Commit) -> None:
        del commit
        self._missing -= 1
        if not self._missing:
            self._finish()

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self.future.done():
            self.future.set_result(
                ProduceResponse(
                    responses=[
                        TopicProduceResponse(
                            name=name, partition_responses=[_outcome(part) for part in parts]
                        )
                        for name, parts in self._topics
                    ]
                )
            )


def _outcome(part: _Part) -> PartitionProduceResponse:
    error, message = part.error, part.message
    if part.commit is not None:
        error, message = _of_commit(part.commit)
    good = error is ErrorCode.NONE
    return PartitionProduceResponse(
        index=part.number,
        error_code=error,
        base_offset=part.base_offset if good else -1,
        log_start_offset=part.log_start if good else -1,
        error_message=message,
    )


def _of_commit(commit: Commit) -> tuple[ErrorCode, str | None]:
    if not commit.done():
        return ErrorCode.REQUEST_TIMED_OUT, "the store has not answered in time"
    failure = None if commit.cancelled() else commit.exception()
    if failure is None and not commit.cancelled():
        return ErrorCode.NONE, None
    # closed: certainly not in the log; unknown: perhaps. A retry with the same sequence is right in both.
    return ErrorCode.NOT_LEADER_OR_FOLLOWER, str(failure)


def _take(node: Node, request: ProduceRequest, topic: str, data: PartitionProduceData) -> _Part:
    tp = TopicPartition(topic, data.index)
    if request.acks not in {-1, 0, 1}:
        return _Part(data.index, ErrorCode.INVALID_REQUIRED_ACKS)
    if request.transactional_id is not None:
        message = "transactions are not supported"
        return _Part(data.index, ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, message=message)
    if not node.shards.has(tp):
        return _Part(data.index, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    shard = node.shards.of(tp)
    if shard is None:
        return _Part(data.index, ErrorCode.NOT_LEADER_OR_FOLLOWER)
    limit = node.shards.topics[topic].integer(MAX_MESSAGE_BYTES, node.defaults)
    try:
        batches = list(_batches(data.records or b"", limit=limit))
    except _Invalid as invalid:
        return _Part(data.index, invalid.error, message=str(invalid))
    try:
        return _append(node, shard, tp, batches)
    except Closed as error:
        return _Part(data.index, ErrorCode.NOT_LEADER_OR_FOLLOWER, message=str(error))
    except Unavailable as error:  # nothing was submitted: the one retriable code that promises it
        return _Part(data.index, ErrorCode.NOT_ENOUGH_REPLICAS, message=str(error))
    except HeadwaterError as error:
        return _Part(data.index, ErrorCode.INVALID_RECORD, message=str(error))


def _append(
    node: Node, shard: Shard, tp: TopicPartition, batches: list[tuple[Buffer, BatchHeader]]
) -> _Part:
    """Several batches share one fate: the answer names the first, and waits for the last (the log is in order)."""
    first = -1
    commit: Commit | None = None
    for batch, header in batches:
        appended = shard.append(tp, batch, header)
        if isinstance(appended, Rejected):
            return _Part(tp.partition, appended.error, message=appended.message)
        if isinstance(appended, Accepted):
            commit = appended.commit
        if isinstance(appended, Held) or appended.duplicate:
            node.metrics.duplicates.inc()
        else:
            _account(node, header, appended.commit)
        first = appended.base_offset if first < 0 else first
    start = shard.bounds(tp).start
    return _Part(tp.partition, ErrorCode.NONE, first, start, commit=commit)


def _account(node: Node, header: BatchHeader, commit: Commit) -> None:
    """Count the bytes against the node until the store has decided, however long the client waits."""
    size = header.size
    node.produce_budget.take_at_once(size)
    commit.add_done_callback(lambda _: node.produce_budget.give(size))
    node.metrics.produced_bytes.inc(size)
    node.metrics.produced_records.inc(header.record_count)


def _batches(records: Buffer, *, limit: int) -> Iterator[tuple[Buffer, BatchHeader]]:
    """Raises _Invalid."""
    view = memoryview(records)
    if not view:
        raise _Invalid(ErrorCode.INVALID_RECORD, "no record batch")
    position = 0
    while position < len(view):
        if len(view) - position > _MAGIC_POSITION and view[position + _MAGIC_POSITION] != 2:
            message = "only record batch v2 (magic 2) is taken"
            raise _Invalid(ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT, message)
        try:
            header = validate_batch(view, position)
        except Corrupt as error:
            raise _Invalid(ErrorCode.CORRUPT_MESSAGE, str(error)) from error
        except Refused as error:
            raise _Invalid(ErrorCode.INVALID_RECORD, str(error)) from error
        _check(header, limit)
        yield view[position : position + header.size], header
        position += header.size


def _check(header: BatchHeader, limit: int) -> None:
    if header.size > limit:
        message = f"a batch of {header.size} bytes is above the topic's {limit}"
        raise _Invalid(ErrorCode.MESSAGE_TOO_LARGE, message)
    if header.record_count < 1:
        raise _Invalid(ErrorCode.INVALID_RECORD, "a batch without records")
    room = header.size - HEADER_BYTES
    if header.compression is Compression.NONE and header.record_count * _RECORD_BYTES_MIN > room:
        message = f"{header.record_count} records cannot lie in {room} bytes"
        raise _Invalid(ErrorCode.INVALID_RECORD, message)
    if header.record_count > _RECORDS_MAX:
        message = f"a batch of {header.record_count} records; {_RECORDS_MAX} are taken at most"
        raise _Invalid(ErrorCode.MESSAGE_TOO_LARGE, message)
    if header.is_control or header.is_transactional:
        raise _Invalid(ErrorCode.INVALID_RECORD, "transactions are not supported")
    if header.producer_id >= 0 and (header.producer_epoch < 0 or header.base_sequence < 0):
        raise _Invalid(ErrorCode.INVALID_RECORD, "a producer id without epoch or sequence")
