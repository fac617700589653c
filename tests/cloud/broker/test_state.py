"""A shard's state is a function of its log, and a snapshot is the state."""

from __future__ import annotations

import random
from typing import Any

import pytest

from headwater.cloud.broker import events as ev
from headwater.cloud.broker.events import AnyEvent, decode_event, encode_event
from headwater.cloud.broker.state import AGES_MAX, TIME_MARK_MS, ShardState
from headwater.core.batch import encode_batch
from headwater.core.errors import Corrupt
from headwater.core.journal.objects import Batch, Drop, Entry, Event, Trim
from headwater.core.record import Record, TopicPartition

TP = TopicPartition("readings", 0)


def batch(tp: TopicPartition, base: int, count: int = 1, **producer: Any) -> Batch:
    records = [Record(1000 + base + n, None, b"v") for n in range(count)]
    return Batch(tp, encode_batch(records, base_offset=base, **producer))


def event(value: AnyEvent) -> Event:
    return Event(encode_event(value))


class Log:
    """Writes a random but legal log."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.ends: dict[TopicPartition, int] = {}
        self.sequences: dict[tuple[TopicPartition, int], int] = {}
        self.now_ms = 1_700_000_000_000

    def entry(self) -> Entry:
        rng = self.rng
        tp = TopicPartition(rng.choice("abc"), rng.randrange(3))
        match rng.randrange(12):
            case 0:
                return event(
                    ev.TopicCreated(topic=tp.topic, topic_id=rng.randbytes(16).hex(), partitions=3)
                )
            case 1:
                return event(ev.TopicConfigured(topic=tp.topic, config={"retention.ms": "5"}))
            case 2:
                return Trim(tp, rng.randint(0, self.ends.get(tp, 0)))
            case 3:
                offsets = [ev.CommittedOffset(tp.topic, tp.partition, rng.randrange(99))]
                return event(ev.OffsetsCommitted(group="g", offsets=offsets, at_ms=self.now_ms))
            case 4:
                self.now_ms += rng.randrange(3 * TIME_MARK_MS)
                return event(ev.TimeMarked(at_ms=self.now_ms))
            case 5:
                return event(ev.ProducerIdsAllocated(next_id=rng.randrange(5000)))
            case 6:
                return event(ev.ProducersForgotten(producers=[(*tp, rng.randrange(3))]))
            case 7:
                return event(ev.GroupDeleted(group=rng.choice("gh")))
            case 8:
                return event(ev.TopicDeleted(topic=tp.topic, topic_id="0" * 32))
            case _:
                return self.batch(tp)

    def batch(self, tp: TopicPartition) -> Batch:
        count = self.rng.randint(1, 4)
        base = self.ends.get(tp, 0)
        self.ends[tp] = base + count
        producer_id = self.rng.randrange(-1, 3)
        if producer_id < 0:
            return batch(tp, base, count)
        sequence = self.sequences.get((tp, producer_id), 0)
        self.sequences[tp, producer_id] = sequence + count
        return batch(
            tp, base, count, producer_id=producer_id, producer_epoch=0, base_sequence=sequence
        )


@pytest.mark.parametrize("seed", range(100))
def test_replay_from_any_snapshot_gives_the_same_state(seed: int) -> None:
    log = Log(random.Random(seed))
    objects = [[log.entry() for _ in range(log.rng.randint(1, 6))] for _ in range(40)]
    cut = log.rng.randrange(40)
    live = ShardState()
    snapshot = live.snapshot()
    for seq, entries in enumerate(objects):
        if seq == cut:
            snapshot = live.snapshot()
        live.apply(seq, entries)
    restored = ShardState()
    restored.apply(99, [batch(TP, 0)])  # whatever it held before is gone
    restored.restore(snapshot)
    for seq, entries in enumerate(objects[cut:], cut):
        restored.apply(seq, entries)
    assert restored.snapshot() == live.snapshot(), f"seed {seed}"
    for tp, end in log.ends.items():
        partition = live.partition(tp)
        assert partition is not None
        assert partition.end == end


def test_every_event_survives_its_encoding() -> None:
    offsets = [ev.CommittedOffset("t", 1, 2, 3, "note")]
    values: list[AnyEvent] = [
        ev.TopicCreated(topic="t", topic_id="ab", partitions=2, config={"retention.ms": "1"}),
        ev.TopicDeleted(topic="t", topic_id="ab"),
        ev.PartitionsAdded(topic="t", partitions=4),
        ev.TopicConfigured(topic="t", config={}),
        ev.PartitionRetired(topic="t", partition=1),
        ev.ProducerIdsAllocated(next_id=2000),
        ev.ProducersForgotten(producers=[("t", 0, 7)]),
        ev.OffsetsCommitted(group="g", offsets=offsets, at_ms=5),
        ev.OffsetsForgotten(group="g", partitions=[("t", 1)]),
        ev.GroupDeleted(group="g"),
        ev.TimeMarked(at_ms=9),
    ]
    for value in values:
        assert decode_event(encode_event(value)) == value


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"event":"Surprise"}', b"\xff", b'{"event":"TimeMarked"}']
)
def test_an_event_that_is_not_known_stops_the_replay(data: bytes) -> None:
    with pytest.raises(Corrupt):
        ShardState().apply(1, [Event(data)])


def test_a_batch_that_does_not_follow_stops_the_replay() -> None:
    state = ShardState()
    state.apply(1, [batch(TP, 0, 3)])
    with pytest.raises(Corrupt):
        state.apply(2, [batch(TP, 2)])


@pytest.mark.parametrize("data", [b"", b"junk", b"\x97\x02\x80\x00\x80\x80\x00"])
def test_a_snapshot_of_another_shape_is_refused(data: bytes) -> None:
    with pytest.raises(Corrupt):
        ShardState().restore(data)


def test_the_first_creation_of_a_topic_wins() -> None:
    state = ShardState()
    for topic_id in ("aa", "bb"):
        state.apply(1, [event(ev.TopicCreated(topic="t", topic_id=topic_id, partitions=1))])
    assert state.topics["t"].topic_id == "aa"
    assert set(state.topics_by_id) == {"aa"}


def test_a_deletion_names_the_topic_it_means_by_its_id() -> None:
    state = ShardState()
    state.apply(1, [event(ev.TopicCreated(topic="t", topic_id="new", partitions=1))])
    state.apply(2, [event(ev.TopicDeleted(topic="t", topic_id="old"))])
    assert "t" in state.topics


def test_a_retired_partition_goes_on_at_its_old_end() -> None:
    state = ShardState()
    state.apply(1, [batch(TP, 0, 5, producer_id=1, producer_epoch=0, base_sequence=0)])
    state.apply(2, [Trim(TP, 5), event(ev.PartitionRetired(topic=TP.topic, partition=0))])
    partition = state.partition(TP)
    assert partition is not None
    assert (partition.start, partition.end, partition.producers) == (5, 5, {})
    state.apply(3, [batch(TP, 5)])
    assert partition.end == 6


def test_a_dropped_partition_begins_at_nothing() -> None:
    state = ShardState()
    state.apply(1, [batch(TP, 0, 5)])
    state.apply(2, [Drop(TP)])
    assert state.partition(TP) is None


def test_age_is_that_of_the_log_not_of_the_records() -> None:
    state = ShardState()
    minute = TIME_MARK_MS
    for n in range(10):  # records stamped around 1970
        state.apply(n + 1, [event(ev.TimeMarked(at_ms=100 * minute + n * minute)), batch(TP, n)])
    assert state.offset_by_age(TP, 99 * minute) == 0
    assert state.offset_by_age(TP, 105 * minute) == 5
    assert state.offset_by_age(TP, 109 * minute + minute // 2) == 9
    assert state.offset_by_age(TP, 111 * minute) == 10  # silent since: all of it


def test_age_never_calls_a_record_older_than_it_is_however_coarse_it_grew() -> None:
    state = ShardState()
    taken_ms: list[int] = []
    for n in range(10 * AGES_MAX):
        taken_ms.append(n * TIME_MARK_MS)
        state.apply(n + 1, [event(ev.TimeMarked(at_ms=taken_ms[-1])), batch(TP, n)])
    partition = state.partition(TP)
    assert partition is not None
    assert len(partition.ages) <= AGES_MAX
    for cut in range(0, taken_ms[-1], 7 * TIME_MARK_MS):
        offset = state.offset_by_age(TP, cut)
        assert offset == 0 or taken_ms[offset - 1] < cut
