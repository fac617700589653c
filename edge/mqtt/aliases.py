"""Topic aliases towards one client (MQTT 5.0, section 3.3.2.3.4): a long topic is written once, then two bytes stand for it.

The client says how many it holds; first come, first served, until they are used up, for the life of the connection
([MQTT-3.3.2-7]). An alias costs three bytes in each packet, so a topic that is no longer gets none.
"""

from __future__ import annotations

# Of this length it saves one byte.
TOPIC_BYTES_MIN = 4
# Of all topics that one connection has aliases for: 64 of 256 bytes.
TOPICS_BYTES_MAX = 16_384


class OutboundAliases:
    __slots__ = ("_bytes_left", "_known", "_maximum")

    def __init__(self, maximum: int) -> None:
        self._known: dict[bytes, int] = {}
        self._maximum = maximum
        self._bytes_left = TOPICS_BYTES_MAX

    def find(self, topic: bytes) -> tuple[int, bool]:
        """(alias or 0, whether the client knows it). One that it does not know must be sent with the topic."""
        alias = self._known.get(topic)
        if alias is not None:
            return alias, True
        if (
            not TOPIC_BYTES_MIN <= len(topic) <= self._bytes_left
            or len(self._known) >= self._maximum
        ):
            return 0, False
        self._bytes_left -= len(topic)
        alias = self._known[topic] = len(self._known) + 1
        return alias, False

    def unsent(self, topic: bytes) -> None:
        """The packet that would have told the client of the newest alias was not sent after all."""
        if self._known.get(topic) == len(self._known):
            del self._known[topic]
            self._bytes_left += len(topic)
