"""The judge: a journal found after a power cut against what outsiders were promised before it.

  acknowledged   before the cut: there once, whole; or retired, where its stream's policy retires, and then only older
                 than everything of its client that is kept
  the log        from start to end every offset is there, or is declared lost; a declared loss never holds a promise
  offsets        one message each for ever, over all crash states of a recording; a client's messages in order
  retired        a bounded stream keeps its bytes; what gives way to a full log was declared by gap records first
  invented       nothing is there that was not sent before the cut
  receipts       a record lies where the receipt in its acknowledgement says
  wills          said once where they must have been, never where they were withdrawn (company.py)
  topics         a topic's records are all in one partition, of its own stream or the default one
  early          of a stream whose owner chose to be answered before the disk: there, or its offset is declared volatile, and
                 never another message's; no such loss is declared of any other stream

Knows no files and no devices, so it can itself be tried (test_oracle.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from headwater.core.gap import GapReason
from headwater.core.record import TopicPartition

from .publishers import Message, name_of
from .story import happened
from .view import PROBE, Policy, View

# What a record takes in a batch of its own beside its payload, at least (61 bytes of header): for the lower bound below.
_RECORD_OVERHEAD = 61
DEFAULT_STREAM = "default"


@dataclass
class Judge:
    """For all states of one recording. `claims` counts what was looked for, `checked` the promises that were."""

    messages: Mapping[str, Message]
    policy: Policy
    checked: int = 0
    claims: Counter[str] = field(default_factory=Counter)
    # the names of what the last log held
    present: frozenset[str] = frozenset()
    _book: dict[TopicPartition, dict[int, str]] = field(default_factory=dict)

    def lived_on(self, messages: Mapping[str, Message], cut: int) -> Judge:
        """For a state from which the daemon and its clients went on: `messages` as they then stood.

        What had been acknowledged keeps its offset; the others may get one that another future gives elsewhere.
        """
        book = {
            partition: {o: n for o, n in named.items() if 0 <= self.messages[n].acked <= cut}
            for partition, named in self._book.items()
        }
        return Judge(messages, self.policy, _book=book)

    def violations(self, view: View, cut: int) -> list[str]:
        return [*self._records(view, cut), *self._continuity(view), *self._promises(view, cut)]

    def _records(self, view: View, cut: int) -> Iterator[str]:
        places: dict[str, str] = {}
        homes: dict[str, TopicPartition] = {}
        receipts = 0
        for partition, records in view.records.items():
            if is_own(partition):
                continue
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
                if happened(message.withdrawn, cut):
                    yield f"withdrawn: {place} is {name}, a will that was not to be said"
                if homes.setdefault(message.topic, partition) != partition or (
                    partition.topic not in (message.topic.partition("/")[0], DEFAULT_STREAM)
                ):
                    yield f"misplaced: {name} of {message.topic} is at {place}"
                if message.receipt and 0 <= message.acked <= cut:
                    receipts += 1
                    if message.receipt != f"{partition.topic}/{partition.partition}/{offset}":
                        yield f"receipt: {name} says {message.receipt}, is at {place}"
                if book.setdefault(offset, name) != name:
                    yield f"offset reused: {place} is {name}, was {book[offset]}"
                if newest.get(message.client, 0) >= message.sequence:
                    yield f"out of order: {name} at {place}"
                newest[message.client] = message.sequence
        self.claims["receipts"] += receipts

    def _continuity(self, view: View) -> Iterator[str]:
        for partition, (start, end) in view.bounds.items():
            if partition not in view.records:
                continue  # the gap records themselves
            lost = _declared(view, partition)
            volatile = _volatile(view, partition)
            if partition.topic in self.policy.early:
                lost |= volatile
                there = volatile & {offset for offset, _ in view.records[partition]}
                if there:
                    yield f"volatile: {partition} has {min(there)}, declared lost"
            elif volatile:
                yield f"volatile: {partition} is on disk by its owner's choice"
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
        if start == 0 or is_own(partition):
            return
        stream = partition.topic
        if stream in self.policy.early:
            if set(range(start)) - _volatile(view, partition):
                yield f"retired: {partition} starts at {start}, undeclared"
        elif not self.policy.retires(stream):
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
        present: set[str] = set()
        for records in view.records.values():
            for _, payload in records:
                message = self.messages.get(name_of(payload))  # nobody's in the edge's own streams
                if message is not None:
                    present.add(message.name)
                    oldest = there.setdefault(message.topic, {})
                    oldest.setdefault(message.client, message.sequence)
        self.present = frozenset(present)
        starts: dict[str, int] = {}
        for partition, (start, _) in view.bounds.items():
            starts[partition.topic] = starts.get(partition.topic, 0) + start
        told = {
            f"{partition.topic}/{partition.partition}/{offset}"
            for partition in _partitions(view)
            if partition.topic in self.policy.early
            for offset in _volatile(view, partition)
        }
        absent: dict[str, int] = {}
        for message in self.messages.values():
            self.claims["wills withdrawn"] += happened(message.withdrawn, cut)
            if not 0 <= message.acked <= cut:
                continue
            self.checked += 1
            if message.is_will:
                self.claims["wills"] += 1
                if message.name not in present:
                    yield f"unsaid: {message.name}, a will"
                continue
            self.claims["bridged"] += message.is_bridged
            self.claims["aliased"] += message.is_aliased
            if message.topic.partition("/")[0] not in self.policy.early:
                self.claims["QoS 2" if message.qos == 2 else "QoS 1"] += 1
                self.claims["repeated"] += message.repeats > 0
            if message.name in present:
                self.claims["early, there"] += message.topic.partition("/")[0] in self.policy.early
                continue
            stream = message.topic.partition("/")[0]
            if stream in self.policy.early:
                self.claims["early, declared"] += 1
                if message.receipt not in told:
                    yield f"lost: {message.name} of {stream}, not told: {message.receipt}"
                continue
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


def is_own(partition: TopicPartition) -> bool:
    """Of the edge itself: anchors of time, who connected. They have their own limits."""
    return partition.topic.startswith("_")


def _declared(view: View, partition: TopicPartition) -> set[int]:
    declared: set[int] = set()
    for loss in view.losses:
        if loss.partition == partition:
            declared.update(range(loss.first, loss.last + 1))
    for gap in view.gaps:
        if (gap.stream, gap.partition) == partition and gap.reason is GapReason.DAMAGE:
            declared.update(range(gap.first, gap.last + 1))
    return declared


def _volatile(view: View, partition: TopicPartition) -> set[int]:
    declared: set[int] = set()
    for loss in view.volatile:
        if loss.partition == partition:
            declared.update(range(loss.first, loss.last + 1))
    for gap in view.gaps:
        if (gap.stream, gap.partition) == partition and gap.reason is GapReason.VOLATILE:
            declared.update(range(gap.first, gap.last + 1))
    return declared


def _partitions(view: View) -> set[TopicPartition]:
    """Also those of which nothing but a loss is known."""
    lost = {loss.partition for loss in view.volatile}
    return lost | view.bounds.keys() | {TopicPartition(g.stream, g.partition) for g in view.gaps}


def _retirements(view: View, partition: TopicPartition) -> set[int]:
    return {
        offset
        for gap in view.gaps
        if (gap.stream, gap.partition) == partition
        for offset in range(gap.first, gap.last + 1)
    }
