"""Addresses from record headers, for many records at once.

Nearly always all records of a chunk have the same header names in the same order, so the headers are transposed in C
and parsed as Arrow columns: a tenth of a microsecond each. Whatever is not so goes record by record.

A record without an address (a plain Kafka producer's), or with one that no edge wrote, has Kafka's own: no edge, the
topic, the partition and the offset there.

A record of a range (`hw.range`, see lake/coverage.py) has its label; one that makes no sense claims nothing but itself.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc

from ...core.errors import Refused
from ...core.record import (
    ADDRESS_HEADER,
    LOG_HEADER,
    RANGE_HEADER,
    TIME_HEADER,
    TOPIC_HEADER,
    Address,
    Headers,
    TopicPartition,
)
from ..lake.positions import EdgePartition

# What every MQTT message has, and so no news in a row (edge/broker/stored.py).
_MARKS = frozenset({"mqtt.qos", "mqtt.retain"})
_OURS = frozenset({ADDRESS_HEADER, LOG_HEADER, RANGE_HEADER, TIME_HEADER, TOPIC_HEADER}) | _MARKS
# Headers that some records of a chunk have and others not, in the ordinary course of things.
_NOW_AND_THEN = _MARKS | {RANGE_HEADER}


class Run(NamedTuple):
    """So many records, one after another, of one Kafka partition: a batch."""

    partition: TopicPartition
    records: int


class Addresses(NamedTuple):
    """Of each record: which of `places` it was given its offset in, and that offset."""

    places: list[EdgePartition]
    place: list[int]
    offset: list[int]
    topic: Sequence[bytes | None] | None  # None: no record names its topic
    others: list[str | None] | None  # headers that are not ours, as JSON text
    clock: Sequence[bytes | None] | None  # None: no record names the clock that stamped it
    label: Sequence[bytes | None] | None  # None: no record names its range

    def take(self, rows: list[int]) -> Addresses:
        return Addresses(
            self.places,
            [self.place[row] for row in rows],
            [self.offset[row] for row in rows],
            None if self.topic is None else [self.topic[row] for row in rows],
            None if self.others is None else [self.others[row] for row in rows],
            None if self.clock is None else [self.clock[row] for row in rows],
            None if self.label is None else [self.label[row] for row in rows],
        )

    def label_of(self, row: int) -> int:
        """Where the range begins that the record was sent in: all from there to it was stored before it, or given up."""
        text = None if self.label is None else self.label[row]
        if text is None:
            return 0
        return min(int(text), self.offset[row]) if text.isdigit() else self.offset[row]


def read_addresses(
    headers: Sequence[Headers], runs: Sequence[Run], kafka_offsets: list[int]
) -> Addresses:
    lengths = set(map(len, headers))
    if len(lengths) > 1:  # messages at several QoS, or of several ranges, most likely
        labels = [dict(each).get(RANGE_HEADER) for each in headers]
        bare = [tuple([pair for pair in each if pair[0] not in _NOW_AND_THEN]) for each in headers]
        lengths = set(map(len, bare))
        if len(lengths) == 1 and (found := _uniform(bare, lengths.pop(), runs, kafka_offsets)):
            return found._replace(label=labels if any(labels) else None)
    elif found := _uniform(headers, lengths.pop(), runs, kafka_offsets):
        return found
    return _one_by_one(headers, runs, kafka_offsets)


def _uniform(
    headers: Sequence[Headers], width: int, runs: Sequence[Run], kafka_offsets: list[int]
) -> Addresses | None:
    if width == 0:
        return _unaddressed(runs, kafka_offsets)
    columns: dict[str, tuple[bytes | None, ...]] = {}
    for column in zip(*headers, strict=True):
        names, values = zip(*column, strict=True)
        if names.count(names[0]) != len(names) or names[0] not in _OURS or names[0] in columns:
            return None
        columns[names[0]] = values
    if ADDRESS_HEADER not in columns:
        return None
    try:
        parsed = _parse(columns[ADDRESS_HEADER], columns.get(LOG_HEADER))
    except (pa.ArrowInvalid, Refused, ValueError):
        return None
    topic, clock = columns.get(TOPIC_HEADER), columns.get(TIME_HEADER)
    return Addresses(*parsed, topic, None, clock, columns.get(RANGE_HEADER))


def _unaddressed(runs: Sequence[Run], kafka_offsets: list[int]) -> Addresses:
    places: dict[TopicPartition, int] = {}
    place: list[int] = []
    for run in runs:
        place += [places.setdefault(run.partition, len(places))] * run.records
    return Addresses(
        [_kafka_place(tp) for tp in places], place, kafka_offsets, None, None, None, None
    )


def _parse(
    texts: Sequence[bytes | None], logs: Sequence[bytes | None] | None
) -> tuple[list[EdgePartition], list[int], list[int]]:
    split = pc.split_pattern(
        pa.array(texts, pa.binary()).cast(pa.string()), "/", max_splits=1, reverse=True
    )
    if split.null_count or not pc.all(pc.equal(pc.list_value_length(split), 2)).as_py():
        raise ValueError("an address without a slash")
    prefix = pc.list_element(split, 0).dictionary_encode()
    offsets: list[int] = pc.list_element(split, 1).cast(pa.int64()).to_pylist()
    if min(offsets) < 0:
        raise ValueError("a negative offset")
    heads = [Address.decode(f"{text}/0".encode()) for text in prefix.dictionary.to_pylist()]
    for head in heads:
        _check(head)
    if logs is None or logs.count(logs[0]) == len(logs):
        log = (logs[0] or b"").decode() if logs else ""
        places = [EdgePartition(head.edge, log, head.stream, head.partition) for head in heads]
        return places, prefix.indices.to_pylist(), offsets
    distinct: dict[tuple[int, bytes | None], int] = {}
    place = [
        distinct.setdefault(pair, len(distinct))
        for pair in zip(prefix.indices.to_pylist(), logs, strict=True)
    ]
    places = [
        EdgePartition(heads[i].edge, (log or b"").decode(), heads[i].stream, heads[i].partition)
        for i, log in distinct
    ]
    return places, place, offsets


def _check(address: Address) -> None:
    if not address.edge or not 0 <= address.partition < 2**31 or not 0 <= address.offset < 2**63:
        raise Refused(f"not a record address: {address}")


def _one_by_one(
    headers: Sequence[Headers], runs: Sequence[Run], kafka_offsets: list[int]
) -> Addresses:
    partitions = [run.partition for run in runs for _ in range(run.records)]
    places: dict[EdgePartition, int] = {}
    place: list[int] = []
    offsets: list[int] = []
    topics: list[bytes | None] = []
    clocks: list[bytes | None] = []
    labels: list[bytes | None] = []
    others: list[str | None] = []
    for own, tp, kafka_offset in zip(headers, partitions, kafka_offsets, strict=True):
        first: dict[str, bytes | None] = {}
        for name, value in own:
            first.setdefault(name, value)
        where, offset = _kafka_place(tp), kafka_offset
        kept = _OURS
        try:
            address = Address.decode(first.get(ADDRESS_HEADER) or b"")
            _check(address)
            log = (first.get(LOG_HEADER) or b"").decode()
            where = EdgePartition(address.edge, log, address.stream, address.partition)
            offset = address.offset
        except (Refused, UnicodeDecodeError):
            kept = frozenset({TOPIC_HEADER, TIME_HEADER})
        place.append(places.setdefault(where, len(places)))
        offsets.append(offset)
        topics.append(first.get(TOPIC_HEADER))
        clocks.append(first.get(TIME_HEADER))
        labels.append(first.get(RANGE_HEADER))
        others.append(_json([pair for pair in own if pair[0] not in kept]))
    return Addresses(
        list(places),
        place,
        offsets,
        topics if any(topic is not None for topic in topics) else None,
        others if any(others) else None,
        clocks if any(clock is not None for clock in clocks) else None,
        labels if any(label is not None for label in labels) else None,
    )


def _kafka_place(partition: TopicPartition) -> EdgePartition:
    return EdgePartition("", "", partition.topic, partition.partition)


def _json(pairs: list[tuple[str, bytes | None]]) -> str | None:
    """[[name, text], …] in their order; a value that is no UTF-8 as {"base64": …}."""
    if not pairs:
        return None
    shown: list[list[object]] = []
    for name, value in pairs:
        try:
            shown.append([name, None if value is None else value.decode()])
        except UnicodeDecodeError:
            shown.append([name, {"base64": base64.b64encode(cast("bytes", value)).decode()}])
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"))
