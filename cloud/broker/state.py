"""The state of one shard: a deterministic function of its log.

`apply` is called for each object of the log in order, by the writer when its own object has become durable and at
recovery for every object after the checkpoint. What it derives:

  from batches   the end offset of each partition; per producer and partition the last five batches (producers.py)
  from trims     the log start offset of each partition
  from events    topics and their configuration; producer ids handed out; committed offsets of groups

Rule: nothing here reads a clock, a random number or the store, and nothing else changes it. Two replays of one log give
equal snapshots, and a snapshot restored equals the state it was taken of; both are tested with generated logs.
A cluster with more shards keeps topics and producer ids in the controller shard (shard 0) and a group's offsets in the
shard its name hashes to; this class does not care which it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import assert_never

import msgspec

from ...core.batch import BatchHeader, parse_header
from ...core.errors import Corrupt
from ...core.journal.objects import Batch, Drop, Entry, Event, Trim
from ...core.record import TopicPartition
from . import events as ev
from .events import AnyEvent, decode_event
from .producers import Producer, mark_of, remember
from .topics import Topic

# Raised when the snapshot's shape changes; a node refuses a snapshot of a format it does not know.
SNAPSHOT_FORMAT = 1

# A writer marks the time in its log with the first submission after so long (events.TimeMarked).
TIME_MARK_MS = 60_000

# Ages kept per partition; beyond it every second one is dropped, so that old age grows coarse, not large.
AGES_MAX = 64


class Age(msgspec.Struct, frozen=True, array_like=True):
    """Records below `offset` were taken before `at_ms`, by the log's own marks: devices without a clock stamp their
    records 1970, and must not lose them to retention for it."""

    at_ms: int
    offset: int


class PartitionState(msgspec.Struct, array_like=True):
    """`start` may be read; `end` is the next offset; producers by id."""

    start: int = 0
    end: int = 0
    producers: dict[int, Producer] = {}
    ages: list[Age] = []


class StoredOffset(msgspec.Struct, frozen=True, array_like=True):
    """What a group committed for one partition."""

    offset: int
    leader_epoch: int
    metadata: str


class GroupOffsets(msgspec.Struct, array_like=True):
    """A group's committed offsets by topic and partition; `at_ms` is the wall time of its last commit."""

    at_ms: int = 0
    offsets: dict[str, dict[int, StoredOffset]] = {}


class _Snapshot(msgspec.Struct, array_like=True):
    format: int
    topics: dict[str, Topic]
    next_producer_id: int
    partitions: dict[str, dict[int, PartitionState]]
    groups: dict[str, GroupOffsets]
    marked_ms: int


class ShardState:
    """Topics, partitions, producers and committed offsets of one shard, as of the last object applied."""

    def __init__(self) -> None:
        self.topics: dict[str, Topic] = {}
        self.topics_by_id: dict[str, Topic] = {}
        self.next_producer_id = 0
        self.groups: dict[str, GroupOffsets] = {}
        self.marked_ms = 0
        self._partitions: dict[TopicPartition, PartitionState] = {}

    def partition(self, tp: TopicPartition) -> PartitionState | None:
        return self._partitions.get(tp)

    def partitions(self) -> Sequence[TopicPartition]:
        return list(self._partitions)

    def apply(self, seq: int, entries: Sequence[Entry]) -> None:
        """One object of the log. Raises Corrupt where the log itself is wrong."""
        for entry in entries:
            match entry:
                case Batch(tp, data):
                    self._apply_batch(tp, parse_header(data))
                case Event(data):
                    self._apply_event(decode_event(data))
                case Trim(tp, start):
                    partition = self._ensure(tp)
                    partition.start = min(max(partition.start, start), partition.end)
                    while len(partition.ages) > 1 and partition.ages[1].offset <= partition.start:
                        del partition.ages[0]
                case Drop(tp):
                    self._partitions.pop(tp, None)

    def offset_by_age(self, tp: TopicPartition, oldest_ms: int) -> int:
        """Every record below this offset was taken before `oldest_ms`."""
        partition = self._partitions.get(tp)
        if partition is None:
            return 0
        ages = partition.ages
        if ages and ages[-1].at_ms + TIME_MARK_MS <= oldest_ms:
            return partition.end  # silent since
        index = bisect_right(ages, oldest_ms, key=lambda age: age.at_ms)
        return ages[index - 1].offset if index else 0

    def snapshot(self) -> bytes:
        partitions: dict[str, dict[int, PartitionState]] = {}
        for tp, partition in self._partitions.items():
            partitions.setdefault(tp.topic, {})[tp.partition] = partition
        return msgspec.msgpack.encode(
            _Snapshot(
                SNAPSHOT_FORMAT,
                self.topics,
                self.next_producer_id,
                partitions,
                self.groups,
                self.marked_ms,
            ),
        )

    def restore(self, data: bytes) -> None:
        """Replaces everything. Raises Corrupt."""
        try:
            snapshot = msgspec.msgpack.decode(data, type=_Snapshot)
        except msgspec.MsgspecError as error:
            raise Corrupt(f"not a snapshot of a shard's state: {error}") from error
        if snapshot.format != SNAPSHOT_FORMAT:
            raise Corrupt(f"a snapshot of format {snapshot.format}; this is {SNAPSHOT_FORMAT}")
        self.topics = snapshot.topics
        self.topics_by_id = {topic.topic_id: topic for topic in snapshot.topics.values()}
        self.next_producer_id = snapshot.next_producer_id
        self.groups = snapshot.groups
        self.marked_ms = snapshot.marked_ms
        self._partitions = {
            TopicPartition(topic, number): state
            for topic, numbers in snapshot.partitions.items()
            for number, state in numbers.items()
        }

    def _ensure(self, tp: TopicPartition) -> PartitionState:
        partition = self._partitions.get(tp)
        if partition is None:
            partition = self._partitions[tp] = PartitionState()
        return partition

    def _put_topic(self, topic: Topic) -> None:
        self.topics[topic.name] = topic
        self.topics_by_id[topic.topic_id] = topic

    def _apply_batch(self, tp: TopicPartition, header: BatchHeader) -> None:
        partition = self._ensure(tp)
        if header.base_offset != partition.end:
            raise Corrupt(
                f"{tp}: the log has a batch at offset {header.base_offset} where {partition.end} is due"
            )
        ages = partition.ages
        if not ages or ages[-1].at_ms != self.marked_ms:
            ages.append(Age(self.marked_ms, partition.end))
            if len(ages) > AGES_MAX:
                del ages[1:-1:2]
        partition.end = header.next_offset
        if header.producer_id >= 0:
            partition.producers[header.producer_id] = remember(
                partition.producers.get(header.producer_id),
                epoch=header.producer_epoch,
                mark=mark_of(header),
            )

    def _apply_event(self, event: AnyEvent) -> None:
        """Total: each event applies to any state, where need be as nothing."""
        match event:
            case ev.TopicCreated():
                if (
                    event.topic not in self.topics
                ):  # two may race to create: the first in the log wins
                    config = dict(event.config)
                    self._put_topic(Topic(event.topic, event.topic_id, event.partitions, config))
            case ev.TopicDeleted():
                known = self.topics.get(event.topic)
                if known is not None and known.topic_id == event.topic_id:
                    del self.topics[event.topic]
                    del self.topics_by_id[event.topic_id]
            case ev.PartitionsAdded():
                known = self.topics.get(event.topic)
                if known is not None and event.partitions > known.partitions:
                    self._put_topic(msgspec.structs.replace(known, partitions=event.partitions))
            case ev.TopicConfigured():
                known = self.topics.get(event.topic)
                if known is not None:
                    self._put_topic(msgspec.structs.replace(known, config=dict(event.config)))
            case ev.PartitionRetired():
                partition = self._partitions.get(TopicPartition(event.topic, event.partition))
                if partition is not None:
                    partition.producers = {}
            case ev.ProducerIdsAllocated():
                self.next_producer_id = max(self.next_producer_id, event.next_id)
            case ev.ProducersForgotten():
                for topic, number, producer_id in event.producers:
                    partition = self._partitions.get(TopicPartition(topic, number))
                    if partition is not None:
                        partition.producers.pop(producer_id, None)
            case ev.OffsetsCommitted():
                self._offsets_committed(event)
            case ev.OffsetsForgotten():
                self._offsets_forgotten(event)
            case ev.GroupDeleted():
                self.groups.pop(event.group, None)
            case ev.TimeMarked():
                self.marked_ms = max(self.marked_ms, event.at_ms)  # a clock goes back, age does not
            case _:
                assert_never(event)

    def _offsets_committed(self, event: ev.OffsetsCommitted) -> None:
        group = self.groups.setdefault(event.group, GroupOffsets())
        group.at_ms = event.at_ms
        for entry in event.offsets:
            stored = StoredOffset(entry.offset, entry.leader_epoch, entry.metadata)
            group.offsets.setdefault(entry.topic, {})[entry.partition] = stored

    def _offsets_forgotten(self, event: ev.OffsetsForgotten) -> None:
        group = self.groups.get(event.group)
        if group is None:
            return
        for topic, number in event.partitions:
            group.offsets.get(topic, {}).pop(number, None)
        group.offsets = {topic: numbers for topic, numbers in group.offsets.items() if numbers}
