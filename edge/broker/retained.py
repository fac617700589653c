"""Retained messages: the last one of each topic, bounded in number and bytes. In memory; checkpoints.py keeps them on disk.

A message is retained when its record is durable, never before: a new subscriber sees nothing that a crash could take
back. What does not fit is refused, counted, and leaves the topic as it was; the record itself is in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ..mqtt.topics import matches
from .messages import Message
from .tally import Tally


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

    def matching(self, topic_filter: str, now: Callable[[], float]) -> Iterator[Message]:
        """What a new subscription is sent, drawn as the subscriber can take it.

        Each topic's message is looked up when it is drawn: a slow subscriber gets the newest one, never a value that
        was replaced while it waited. What has expired is forgotten on the way ([MQTT-3.3.2-5]).
        """
        if "+" not in topic_filter and "#" not in topic_filter:
            topics = [topic_filter]
        else:
            topics = [topic for topic in self._messages if matches(topic_filter, topic)]
        for topic in topics:
            message = self._messages.get(topic)
            if message is None:
                continue
            if message.expired(now()):
                self.forget(topic)
            else:
                yield message
