"""Retained messages: the last one of each topic, bounded in number and bytes. In memory; checkpoints.py keeps them on disk.

A message is retained when its record is durable, never before: a new subscriber sees nothing that a crash could take
back. What does not fit is refused, counted, and leaves the topic as it was; the record itself is in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ..mqtt.topics import matches
from .messages import Message
from .tally import Tally


class Glance(NamedTuple):
    """Topics, and where the record of each one's message lay."""

    topics: list[str]
    offsets: list[int]


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

    def glance(self, topic_filter: str) -> Glance:
        """What is retained now of the topics that match: what a new subscription is sent."""
        if "+" not in topic_filter and "#" not in topic_filter:
            message = self._messages.get(topic_filter)
            found = [] if message is None else [message]
        else:
            found = [each for topic, each in self._messages.items() if matches(topic_filter, topic)]
        return Glance([each.topic for each in found], [each.offset for each in found])

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
