"""Retained messages: the last one of each topic, bounded in number and bytes. In memory; checkpoints.py keeps them on disk.

A message is retained when its record is durable, never before: a new subscriber sees nothing that a crash could take
back. What does not fit is refused, counted, and leaves the topic as it was; the record itself is in the log.

A subscription is sent them in the order of their topics, so that the topic sent last and the ends of the partitions as they
were (`Owed`) say what is still to be sent, also after a restart, whatever was retained or removed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set
from operator import attrgetter
from typing import NamedTuple

import msgspec

from ...core.record import TopicPartition
from ..mqtt.topics import matches
from .messages import Message
from .tally import Tally

_TOPIC = attrgetter("topic")


class Glance(NamedTuple):
    """Topics in their order, and where the record of each one's message lay."""

    topics: list[str]
    offsets: list[int]
    ends: dict[TopicPartition, int]  # above all these offsets


class Owed(msgspec.Struct, array_like=True):
    """How far a subscription was sent what is retained. `ends`: (stream, partition, offset); what is retained at or above
    that was published later, and the subscription itself brings it."""

    after: str  # the topic sent last
    ends: list[tuple[str, int, int]]


class Retained:
    __slots__ = ("_bytes", "_bytes_max", "_changed", "_messages", "_messages_max", "_tally")

    def __init__(
        self,
        *,
        messages_max: int,
        bytes_max: int,
        tally: Tally,
        changed: Callable[[str], None] = lambda topic: None,
    ) -> None:
        self._messages: dict[str, Message] = {}
        self._bytes = 0
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._tally = tally
        self._changed = changed  # what is kept of a topic is another thing now

    def change(self, messages_max: int, bytes_max: int) -> None:
        """Other limits from now on; what is retained stays."""
        self._messages_max = messages_max
        self._bytes_max = bytes_max

    def __len__(self) -> int:
        return len(self._messages)

    def __contains__(self, topic: str) -> bool:
        return topic in self._messages

    @property
    def bytes_held(self) -> int:
        return self._bytes

    def get(self, topic: str) -> Message | None:
        return self._messages.get(topic)

    def at(self, tp: TopicPartition, offsets: Set[int]) -> dict[int, Message]:
        """Those whose records lie, or lay, there. Looks at all of them."""
        return {
            message.offset: message
            for message in self._messages.values()
            if message.offset in offsets and message.tp == tp
        }

    def topics(self) -> Iterable[str]:
        return self._messages.keys()

    def forget(self, topic: str) -> None:
        message = self._messages.pop(topic, None)
        if message is not None:
            self._bytes -= message.size
            self._changed(topic)

    def put(self, message: Message) -> bool:
        """Keep it, or forget the topic where the payload is empty ([MQTT-3.3.1-6]). False: over the limit."""
        previous = self._messages.get(message.topic)
        if previous is not None:
            self._bytes -= previous.size
            del self._messages[message.topic]
        self._changed(message.topic)
        if not message.payload:
            return True
        if (
            len(self._messages) >= self._messages_max
            or self._bytes + message.size > self._bytes_max
        ):
            if previous is not None:
                self._messages[previous.topic] = previous
                self._bytes += previous.size
            self._tally.refused["retained limit"] += 1
            return False
        self._messages[message.topic] = message
        self._bytes += message.size
        return True

    def glance(self, topic_filter: str, owed: Owed | None = None) -> Glance:
        """What is retained now of the topics that match: what a new subscription is sent, or `owed` to one cut short."""
        if "+" not in topic_filter and "#" not in topic_filter:
            message = self._messages.get(topic_filter)
            found = [] if message is None else [message]
        else:
            found = [each for topic, each in self._messages.items() if matches(topic_filter, topic)]
        if owed is not None:
            known = {TopicPartition(stream, partition): end for stream, partition, end in owed.ends}
            found = [
                each
                for each in found
                if each.topic > owed.after
                and (each.tp is None or each.offset < known.get(each.tp, 0))
            ]
        found.sort(key=_TOPIC)
        ends: dict[TopicPartition, int] = {}
        for each in found:
            if each.tp is not None and each.offset >= ends.get(each.tp, 0):
                ends[each.tp] = each.offset + 1
        return Glance([each.topic for each in found], [each.offset for each in found], ends)

    def replaced(self, glance: Glance) -> set[str]:
        """Topics of which something else is retained since."""
        return {
            topic
            for topic, offset in zip(glance.topics, glance.offsets, strict=True)
            if (message := self._messages.get(topic)) is not None and message.offset != offset
        }

    def draw(self, glance: Glance, now: Callable[[], float]) -> Iterator[tuple[Message, bool]]:
        """Each message, and whether it is another than at the glance; drawn as the subscriber can take it.

        Looked up when it is drawn: a slow subscriber never gets a value that was replaced while it waited. What has
        expired is forgotten on the way ([MQTT-3.3.2-5]).
        """
        for topic, offset in zip(glance.topics, glance.offsets, strict=True):
            message = self._messages.get(topic)
            if message is None:
                continue
            if message.expired(now()):
                self.forget(topic)
            else:
                yield message, message.offset != offset
