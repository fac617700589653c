"""The judge: a journal found after a power cut against what outsiders were promised before it.

  acknowledged   before the cut: there once, whole; or retired, where its stream's policy retires, and then only older
                 than everything of its client that is kept
  the log        from start to end every offset is there, or is declared lost; a declared loss never holds a promise
  offsets        one message each for ever, over all crash states of a recording; a client's messages in order
  retired        a bounded stream keeps its bytes; what gives way to a full log was declared by gap records first
  invented       nothing is there that was not sent before the cut

Knows no files and no devices, so it can itself be tried (test_oracle.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from headwater.core.gap import GapReason
from headwater.core.record import TopicPartition

from .headwater_edge import PROBE, View
from .publishers import Message, name_of

# What a record takes in a batch of its own beside its payload, at least (61 bytes of header): for the lower bound below.
_RECORD_OVERHEAD = 61


@dataclass
class Policy:
    """`bounded`: stream → bytes it keeps, older ones retired; `dropped`: streams that give way, with gap records."""

    bounded: Mapping[str, int] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()

    def retires(self, stream: str) -> bool:
        return stream in self.bounded or stream in self.dropped


@dataclass
class Judge:
    """For all states of one recording. `checked` counts the promises that were looked for."""

    messages: Mapping[str, Message]
    policy: Policy
    checked: int = 0
    _book: dict[TopicPartition, dict[int, str]] = field(default_factory=dict)

    def violations(self, view: View, cut: int) -> list[str]:
        return [*self._records(view, cut), *self._continuity(view), *self._promises(view, cut)]

    def _records(self, view: View, cut: int) -> Iterator[str]:
        places: dict[str, str] = {}
        for partition, records in view.records.items():
            book = self._book.setdefault(partition, {})
            newest: dict[str, int] = {}
            for offset, payload in records:
                name = name_of(payload)
                if name == PROBE:
                    continue
                message, place = self.messages.get(name), f"{partition} at {offset}"
                if message is None or message.sent > cut:
                    yield f"invented: {place} holds {name!r}, not sent before the cut"
                    continue
                if payload != message.payload.encode():
                    yield f"changed: {place} is not {name} as it was sent"
                if name in places:
                    yield f"twice: {name} is at {places[name]} and {place}"
                places[name] = place
                if book.setdefault(offset, name) != name:
                    yield f"offset reused: {place} is {name}, was {book[offset]}"
                if newest.get(message.client, 0) >= message.sequence:
                    yield f"out of order: {name} at {place}"
                newest[message.client] = message.sequence

    def _continuity(self, view: View) -> Iterator[str]:
        for partition, (start, end) in view.bounds.items():
            if partition not in view.records:
                continue  # the gap records themselves
            lost = _declared(view, partition)
            expected = start
            for offset, _ in [*view.records[partition], (end, b"")]:
                if offset < expected:
                    yield f"disorder: {partition} shows {offset} after {expected - 1}"
                missing = [o for o in range(expected, offset) if o not in lost]
                if missing:
                    yield f"hole: {partition} lacks {missing[0]} to {missing[-1]}, undeclared"
                expected = offset + 1
            yield from self._retired(view, partition, start)

    def _retired(self, view: View, partition: TopicPartition, start: int) -> Iterator[str]:
        if start == 0:
            return
        stream = partition.topic
        if not self.policy.retires(stream):
            yield f"retired: {partition} starts at {start}, against its policy"
        if stream in self.policy.dropped:
            silent = set(range(start)) - _retirements(view, partition)
            if silent:
                yield f"undeclared: {partition} retired {min(silent)} to {max(silent)} without a gap"
        if stream in self.policy.bounded:
            kept = sum(
                len(payload) + _RECORD_OVERHEAD + 64
                for each, records in view.records.items()
                if each.topic == stream
                for _, payload in records
            )
            if kept < self.policy.bounded[stream]:
                yield f"over-retired: {stream} keeps about {kept} bytes of its own"

    def _promises(self, view: View, cut: int) -> Iterator[str]:
        there: dict[str, dict[str, int]] = {}  # topic → client → the oldest sequence kept
        present = set()
        for records in view.records.values():
            for _, payload in records:
                message = self.messages.get(name_of(payload))
                if message is not None:
                    present.add(message.name)
                    oldest = there.setdefault(message.topic, {})
                    oldest.setdefault(message.client, message.sequence)
        starts: dict[str, int] = {}
        for partition, (start, _) in view.bounds.items():
            starts[partition.topic] = starts.get(partition.topic, 0) + start
        absent: dict[str, int] = {}
        for message in self.messages.values():
            if not 0 <= message.acked <= cut:
                continue
            self.checked += 1
            if message.name in present:
                continue
            stream = message.topic.partition("/")[0]
            kept = there.get(message.topic, {}).get(message.client)
            if not self.policy.retires(stream):
                yield f"lost: {message.name}, acknowledged at {message.acked}"
            elif kept is not None and message.sequence > kept:
                yield f"lost: {message.name}, though {message.client}/{kept} before it is kept"
            else:
                absent[stream] = absent.get(stream, 0) + 1
        for stream, count in absent.items():
            if count > starts.get(stream, 0):
                yield f"lost: {count} of {stream}, where {starts.get(stream, 0)} were retired"


def _declared(view: View, partition: TopicPartition) -> set[int]:
    declared: set[int] = set()
    for loss in view.losses:
        if loss.partition == partition:
            declared.update(range(loss.first, loss.last + 1))
    for gap in view.gaps:
        if (gap.stream, gap.partition) == partition and gap.reason is GapReason.DAMAGE:
            declared.update(range(gap.first, gap.last + 1))
    return declared


def _retirements(view: View, partition: TopicPartition) -> set[int]:
    return {
        offset
        for gap in view.gaps
        if (gap.stream, gap.partition) == partition
        for offset in range(gap.first, gap.last + 1)
    }
