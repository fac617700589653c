"""An application message on its way to subscribers, and the bytes of its PUBLISH packets.

A message is encoded once for each (version, QoS, flags) and shared by all its subscribers: only the packet identifier
differs, and it stands at a known place. What differs more (subscription identifiers, remaining expiry) is encoded
for the one delivery.
"""

from __future__ import annotations

import msgspec

from ...core.record import TopicPartition
from ..mqtt.aliases import OutboundAliases
from ..mqtt.encoding import encode_packet
from ..mqtt.packets import Publish, Version
from ..mqtt.primitives import encode_varint
from ..mqtt.properties import NO_PROPERTIES, Properties

_V5 = Version.V5  # looked up once: in an enumeration that costs as much as the rest of `frame`


class Message:
    """`publisher` is the client identifier it came from; `expires_at` is on the monotonic clock, None: never.

    `generation` is that of the subscriptions when it was taken: who subscribed later, while it waited for the disk,
    gets it as retained or not at all. `tp` and `offset` are where its record lies.
    """

    __slots__ = (
        "_encoded",
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
        self._encoded: dict[int, tuple[bytes, bytes]] | None = None

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
        encoded = self._encoded
        if encoded is None:
            encoded = self._encoded = {}
        halves = encoded.get(key)
        if halves is None:
            has_id = first_byte & 0x06
            tail = self.payload
            if version is _V5:
                tail = b"\0" + tail
            length = 2 + len(self.topic_bytes) + (2 if has_id else 0) + len(tail)
            head = b"".join(
                (
                    bytes((first_byte,)),
                    encode_varint(length),
                    len(self.topic_bytes).to_bytes(2, "big"),
                    self.topic_bytes,
                )
            )
            # without an identifier the packet is the same for all: made once, and not copied when the halves meet
            halves = encoded[key] = (head, tail) if has_id else (head + tail, b"")
        return halves

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
            left = max(0, int(self.expires_at - now))
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
