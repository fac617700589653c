"""An application message on its way to subscribers, and the bytes of its PUBLISH packets.

A message is encoded once for each (version, QoS, flags) and shared by all its subscribers: only the packet identifier
differs, and it stands at a known place. What differs more (subscription identifiers, remaining expiry) is encoded
for the one delivery.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ...core.record import TopicPartition
from ..mqtt.aliases import OutboundAliases
from ..mqtt.encoding import encode_packet
from ..mqtt.packets import Publish, Version
from ..mqtt.primitives import encode_varint
from ..mqtt.properties import NO_PROPERTIES, Properties

if TYPE_CHECKING:
    from .routing import Route

_NO_FRAME = (b"", b"")
_V5 = Version.V5  # looked up once: in an enumeration that costs as much as the rest of `frame`


def _whole_seconds(left_s: float) -> int:
    """What a second has not wholly gone by of is left: nobody is sent a message that says it has expired."""
    return max(0, -(-round(left_s * 1000) // 1000))


class Message:
    """`publisher` is the client identifier it came from; `expires_at` is on the monotonic clock, None: never.

    `generation` is that of the subscriptions when it was taken: who subscribed later, while it waited for the disk,
    gets it as retained or not at all. `tp` and `offset` are where its record lies. `_last` is what `frame` said last:
    nearly always it is asked for one kind of packet alone.
    """

    __slots__ = (
        "_encoded",
        "_last",
        "_last_key",
        "expires_at",
        "generation",
        "offset",
        "payload",
        "properties",
        "publisher",
        "qos",
        "retain",
        "topic",
        "topic_bytes",
        "tp",
    )

    def __init__(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
        publisher: str = "",
        now: float = 0.0,
        generation: int = 0,
        tp: TopicPartition | None = None,
        offset: int = -1,
    ) -> None:
        self.topic = topic
        self.topic_bytes = topic.encode()
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = properties
        self.publisher = publisher
        self.generation = generation
        self.tp = tp
        self.offset = offset
        expiry = properties.message_expiry_interval
        self.expires_at = None if expiry is None else now + expiry
        self._last_key = 0
        self._last = _NO_FRAME
        self._encoded: dict[int, tuple[bytes, bytes]] | None = None

    @classmethod
    def plain(  # noqa: PLR0917 - by position, as on all of the hot path
        cls,
        route: Route,
        payload: bytes,
        qos: int,
        publisher: str,
        generation: int,
        offset: int,
    ) -> Message:
        """One without anything special, on a known topic."""
        message = cls.__new__(cls)
        message.topic = route.topic
        message.topic_bytes = route.topic_bytes
        message.payload = payload
        message.qos = qos
        message.retain = False
        message.properties = NO_PROPERTIES
        message.publisher = publisher
        message.generation = generation
        message.tp = route.tp
        message.offset = offset
        message.expires_at = None
        message._last_key = 0
        message._last = _NO_FRAME
        message._encoded = None
        return message

    @classmethod
    def of(
        cls,
        packet: Publish,
        publisher: str,
        now: float,
        generation: int,
        *,
        tp: TopicPartition | None = None,
        offset: int = -1,
    ) -> Message:
        """What a PUBLISH carries, beyond the hop it came by."""
        return cls(
            packet.topic,
            packet.payload,
            qos=packet.qos,
            retain=packet.retain,
            properties=packet.properties,
            publisher=publisher,
            now=now,
            generation=generation,
            tp=tp,
            offset=offset,
        )

    @property
    def size(self) -> int:
        return len(self.topic_bytes) + len(self.payload)

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at

    def frame(self, version: Version, first_byte: int) -> tuple[bytes, bytes]:
        """(before, after) the packet identifier; at QoS 0 the halves meet without one."""
        key = first_byte if version is _V5 else -first_byte
        if key == self._last_key:
            return self._last
        halves = None if self._encoded is None else self._encoded.get(key)
        if halves is None:
            if self._last_key:
                if self._encoded is None:
                    self._encoded = {}
                self._encoded[self._last_key] = self._last
            halves = self._halves(version, first_byte)
            self._last_key, self._last = key, halves
        return halves

    def _halves(self, version: Version, first_byte: int) -> tuple[bytes, bytes]:
        topic, tail = self.topic_bytes, self.payload
        if version is _V5:
            tail = b"\0" + tail
        size = len(topic)
        has_id = first_byte & 0x06
        length = 2 + size + (2 if has_id else 0) + len(tail)
        head = b"%c%b%c%c%b" % (first_byte, encode_varint(length), size >> 8, size & 0xFF, topic)
        # without an identifier the packet is the same for all: made once, and not copied when the halves meet
        return (head, tail) if has_id else (head + tail, b"")

    def packet(
        self,
        version: Version,
        first_byte: int,
        packet_id: int,
        identifiers: tuple[int, ...],
        now: float,
        *,
        aliases: OutboundAliases | None = None,
    ) -> bytes:
        """One PUBLISH to one subscriber. `aliases`: those of its connection, which learn what is sent."""
        alias, known = (0, False) if aliases is None else aliases.find(self.topic_bytes)
        if alias:
            properties = self._properties_now(identifiers, now)
            properties = msgspec.structs.replace(properties, topic_alias=alias)
            return self._encode_anew(version, first_byte, packet_id, properties, named=not known)
        if version is Version.V311 or (self.properties is NO_PROPERTIES and not identifiers):
            head, tail = self.frame(version, first_byte)
            if packet_id:
                return head + packet_id.to_bytes(2, "big") + tail
            return head + tail
        properties = self._properties_now(identifiers, now)
        return self._encode_anew(version, first_byte, packet_id, properties, named=True)

    def _properties_now(self, identifiers: tuple[int, ...], now: float) -> Properties:
        properties = self.properties
        if identifiers:
            properties = msgspec.structs.replace(properties, subscription_identifiers=identifiers)
        if self.expires_at is not None:
            # [MQTT-3.3.2-6]: what is left of it
            left = _whole_seconds(self.expires_at - now)
            properties = msgspec.structs.replace(properties, message_expiry_interval=left)
        return properties

    def _encode_anew(
        self,
        version: Version,
        first_byte: int,
        packet_id: int,
        properties: Properties,
        *,
        named: bool,
    ) -> bytes:
        publish = Publish(
            topic=self.topic if named else "",
            payload=self.payload,
            qos=first_byte >> 1 & 0x03,
            retain=bool(first_byte & 0x01),
            dup=bool(first_byte & 0x08),
            packet_id=packet_id,
            properties=properties,
        )
        return encode_packet(publish, version)
