"""Thin oldest: unsent records that must go leave min, max, mean and count behind, by key, field and interval.

What is summarised, precisely: the numbers of JSON payloads. A payload that is an object gives a field for each number in it,
objects within it to `DEPTH_MAX` levels with their names joined by a dot; one that is a bare number gives the field `value`.
A field named `hw`, or beginning with `hw_`, is told as `user.hw…` (and that one as `user.user.hw…`): `hw_…` is ours alone.
true, false, text and lists are no numbers. Records that give no number are counted in `hw_other`. The interval is by the
record's timestamp. A summary is a record of the stream `<stream>.thinned`, same partition number, same key, and its
timestamp is where its interval begins; its value is flat JSON, so that each number becomes a column of the lake:

    hw_first hw_last       the offsets of the stream that were given up, of which this is a part
    hw_from hw_to          the interval, milliseconds
    hw_count hw_other      records in it; those among them without a number
    t_min t_max t_mean t_count   for each field t

Summaries that must go themselves are united into coarser ones in the same way, in the same stream: the older, the coarser.

Bounded: at most `GROUPS_MAX` summaries of `FIELDS_MAX` fields, and at most one for eight records: where there would be more,
the interval doubles until there are not, or is as long as the range; then the keys with the fewest records become one
summary without a key. Fields beyond the limit are left out, and `hw_left_out` counts their numbers.

Crash-safe like every loss: summaries and gap record are durable before the originals go. A crash between the two repeats the
round: then a summary is there twice, under the same (key, hw_first, hw_last, hw_from).
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import TYPE_CHECKING

import msgspec

from ...batch import decode_batch
from ...record import THINNED_SUFFIX, Record, StoredRecord, TopicPartition
from ...units import MIB
from .shelf import Loss

if TYPE_CHECKING:
    from .journal import FileJournal

GROUPS_MAX = 1000
FIELDS_MAX = 32
DEPTH_MAX = 4
RECORDS_PER_GROUP = 8


class _Spread:
    """Of one field. The mean is kept and not the sum, which may be beyond what a double holds though no value is."""

    __slots__ = ("count", "max", "mean", "min")

    def __init__(self, value: float) -> None:
        self.min = self.max = self.mean = value
        self.count = 1

    def add(self, value: float) -> None:
        self.min = min(self.min, value)
        self.max = max(self.max, value)
        self.count += 1
        self._lean(value, 1 / self.count)

    def unite(self, other: _Spread) -> None:
        self.min = min(self.min, other.min)
        self.max = max(self.max, other.max)
        self.count += other.count
        self._lean(other.mean, other.count / self.count)

    def _lean(self, towards: float, share: float) -> None:
        difference = towards - self.mean
        if isfinite(difference):
            self.mean += difference * share
        else:  # of opposite signs and huge
            self.mean = self.mean * (1 - share) + towards * share


class _Group:
    __slots__ = ("count", "fields", "first", "last", "left_out", "other")

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.count = self.other = self.left_out = 0
        self.fields: dict[str, _Spread] = {}

    @classmethod
    def of_summary(cls, value: bytes) -> _Group:
        """Raises KeyError, ValidationError, DecodeError where it is none."""
        told = msgspec.json.decode(value, type=dict[str, float])
        group = cls(int(told["hw_first"]), int(told["hw_last"]))
        group.count, group.other = int(told["hw_count"]), int(told["hw_other"])
        group.left_out = int(told.get("hw_left_out", 0))
        for name in [name.removesuffix("_mean") for name in told if name.endswith("_mean")]:
            spread = _Spread(told[f"{name}_min"])
            spread.max, spread.count = told[f"{name}_max"], int(told[f"{name}_count"])
            spread.mean = told[f"{name}_mean"]
            group.fields[name] = spread
        return group

    def add(self, numbers: Iterable[tuple[str, float]]) -> None:
        self.count += 1
        any_number = False
        for name, value in numbers:
            any_number = True
            found = self.fields.get(name)
            if found is not None:
                found.add(value)
            elif len(self.fields) < FIELDS_MAX:
                self.fields[name] = _Spread(value)
            else:
                self.left_out += 1
        self.other += not any_number

    def unite(self, other: _Group) -> None:
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)
        self.count += other.count
        self.other += other.other
        self.left_out += other.left_out
        for name, spread in other.fields.items():
            found = self.fields.get(name)
            if found is not None:
                found.unite(spread)
            elif len(self.fields) < FIELDS_MAX:
                self.fields[name] = spread
            else:
                self.left_out += spread.count


class Thinner:
    """Takes records in any order, gives summaries. `first` to `last` are the offsets that are given up."""

    def __init__(self, interval_ms: int, *, first: int, last: int) -> None:
        self.interval_ms = max(1, interval_ms)
        self._first, self._last = first, last
        self.records = 0
        self._groups: dict[tuple[bytes | None, int], _Group] = {}
        self._first_ms: int | None = None
        self._last_ms = 0

    def add(self, record: StoredRecord) -> None:
        self._see(record.timestamp)
        place = (record.key, record.timestamp // self.interval_ms)
        group = self._groups.get(place)
        if group is None:
            group = self._groups[place] = _Group(self._first, self._last)
        group.add(numbers_in(record.value))
        if len(self._groups) > 2 * GROUPS_MAX:
            self._coarsen(GROUPS_MAX)

    def add_summary(self, record: StoredRecord) -> None:
        """One of an earlier round; what is none counts as a record without a number."""
        try:
            group = _Group.of_summary(record.value or b"")
        except (KeyError, msgspec.MsgspecError):
            self.add(record)
            return
        self._see(record.timestamp)
        self._put((record.key, record.timestamp // self.interval_ms), group)
        if len(self._groups) > 2 * GROUPS_MAX:
            self._coarsen(GROUPS_MAX)

    def _see(self, at: int) -> None:
        self.records += 1
        self._first_ms = at if self._first_ms is None else min(self._first_ms, at)
        self._last_ms = max(self._last_ms, at)

    def _coarsen(self, limit: int) -> None:
        while len(self._groups) > limit and not self._spans():
            self.interval_ms *= 2
            groups, self._groups = self._groups, {}
            for (key, bucket), group in groups.items():
                self._put((key, bucket // 2), group)
        if len(self._groups) > limit:
            rest = sorted(self._groups.items(), key=lambda item: -item[1].count)[limit - 1 :]
            for place, group in rest:
                del self._groups[place]
                self._put((None, place[1]), group)

    def _spans(self) -> bool:
        assert self._first_ms is not None
        return self._first_ms // self.interval_ms == self._last_ms // self.interval_ms

    def _put(self, place: tuple[bytes | None, int], group: _Group) -> None:
        found = self._groups.get(place)
        if found is None:
            self._groups[place] = group
        else:
            found.unite(group)

    def summaries(self) -> list[Record]:
        """In order of time."""
        if not self.records:
            return []
        self._coarsen(max(1, min(GROUPS_MAX, self.records // RECORDS_PER_GROUP)))
        ordered = sorted(self._groups.items(), key=lambda item: (item[0][1], item[0][0] or b""))
        return [
            Record(bucket * self.interval_ms, key, self._value(group, bucket))
            for (key, bucket), group in ordered
        ]

    def _value(self, group: _Group, bucket: int) -> bytes:
        told: dict[str, float] = {
            "hw_first": group.first,
            "hw_last": group.last,
            "hw_from": bucket * self.interval_ms,
            "hw_to": (bucket + 1) * self.interval_ms,
            "hw_count": group.count,
            "hw_other": group.other,
        }
        if group.left_out:
            told["hw_left_out"] = group.left_out
        for name, spread in group.fields.items():
            told |= {f"{name}_min": spread.min, f"{name}_max": spread.max}
            told |= {f"{name}_mean": spread.mean, f"{name}_count": spread.count}
        return msgspec.json.encode(told)


def numbers_in(value: bytes | None) -> list[tuple[str, float]]:
    """(field, number) of a JSON payload; none where it is no JSON or has no number."""
    try:
        found = msgspec.json.decode(value or b"")
    except msgspec.DecodeError:
        return []
    numbers: list[tuple[str, float]] = []
    _walk("", found, numbers, DEPTH_MAX)
    return numbers


def _walk(name: str, value: object, numbers: list[tuple[str, float]], depth: int) -> None:
    if isinstance(value, dict) and depth:
        for key, inner in value.items():
            _walk(f"{name}.{key}" if name else str(key), inner, numbers, depth - 1)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            numbers.append((_told_as(name or "value"), float(value)))
        except OverflowError:  # an integer beyond what a double can hold
            return


def _told_as(name: str) -> str:
    """Ours begin with `hw_`, and a field's with its name and `_`: `hw` alone, or `hw_` and more, could meet."""
    bare = name
    while bare.startswith("user."):
        bare = bare.removeprefix("user.")
    return f"user.{name}" if bare == "hw" or bare.startswith("hw_") else name


def thinned(journal: FileJournal, loss: Loss, *, interval_ms: int) -> list[Record]:
    """Summaries of the records of `loss` that can still be read. For the disk thread."""
    thinner = Thinner(interval_ms, first=loss.first, last=loss.last)
    add = thinner.add_summary if loss.partition.topic.endswith(THINNED_SUFFIX) else thinner.add
    offset = loss.first
    while offset <= loss.last:
        batches = journal.read_sync(loss.partition, offset, bytes_max=MIB)
        if not batches:
            break
        for batch in batches:
            header, records = decode_batch(batch)
            for record in records:
                if loss.first <= record.offset <= loss.last:
                    add(record)
            offset = max(offset, header.next_offset)
    return thinner.summaries()


def thinned_partition(partition: TopicPartition) -> TopicPartition:
    """Where the summaries of a partition go; those of summaries stay where they are."""
    if partition.topic.endswith(THINNED_SUFFIX):
        return partition
    return TopicPartition(f"{partition.topic}{THINNED_SUFFIX}", partition.partition)
