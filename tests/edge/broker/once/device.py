"""An MQTT client that keeps what the standard tells it to keep, and knows of each message what became of it.

On a session that goes on it repeats, in order and with DUP, all that it has not read an acknowledgement of; PUBREL where
PUBREC was read ([MQTT-4.4.0-1]). Where the session is gone it gives its messages up or publishes them anew: then the
broker owes nothing any more, and `sessions_lost` says how often one more copy may be in the log.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

from headwater.edge.mqtt.decoding import decode_packet
from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import (
    Acknowledgement,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Publish,
    Suback,
    Subscribe,
    SubscriptionOptions,
    Version,
)
from headwater.edge.mqtt.properties import NO_PROPERTIES, Properties
from headwater.edge.mqtt.reasons import Reason

from .wire import Line, OnceMachine

LONG_S = 100_000
SUBSCRIBE_ID = 65_535
_PUBACK, _PUBREC = PacketType.PUBACK, PacketType.PUBREC
_PUBREL, _PUBCOMP = PacketType.PUBREL, PacketType.PUBCOMP


class Message:
    """`read`: its PUBACK, or PUBREC, with success."""

    __slots__ = (
        *("delivered", "device", "exposed", "key", "packet_id", "properties", "qos", "read"),
        *("refused", "released", "restarts", "sends", "sessions_lost"),
    )

    def __init__(self, device: Device, key: tuple[str, bytes], qos: int, packet_id: int) -> None:
        self.device = device
        self.key = key
        self.qos = qos
        self.packet_id = packet_id
        self.properties = NO_PROPERTIES
        self.sends = 0
        self.released = False
        self.read = False
        self.refused = False
        self.delivered = False  # TCP has said so of its PUBACK
        self.sessions_lost = 0
        self.exposed = False  # of a stream that is not sync, and a crash came after it was read
        self.restarts = 0  # of a memory stream, while it was in flight


class Device:
    def __init__(
        self,
        name: str,
        rng: random.Random,
        *,
        version: Version,
        window: int,
        identifiers: str,
        streams: tuple[str, ...],
    ) -> None:
        self.name = name
        self.version = version
        self.window = window
        self.streams = streams
        self.qos = (1,) if window > 100 else (1, 1, 2)
        self.filter: str | None = None  # what it subscribes to, once
        self.got: Counter[tuple[str, bytes]] = Counter()  # by the rules of its QoS
        self.messages: list[Message] = []
        self.flights: dict[int, Message] = {}
        self.line: Line | None = None
        self.is_open = False  # CONNACK was read
        self.expiry_s = LONG_S
        self.eager = rng.random() < 0.25  # does not wait for CONNACK before it repeats
        self.wants_clean = False
        # the session that must be there: since when it has no connection (None: it has), and for how long it is kept
        self.promised = False
        self.left_at: float | None = None
        self._identifiers = identifiers
        self._last = 0
        self._rng = rng
        self._subscribed = False
        self._number: int | None = None
        self.rude: list[Line] = []  # on which it asked for the end of its session
        self._taken: set[int] = set()  # QoS 2 received, not released
        self._aliases: dict[str, int] = {}
        self._partial = b""
        self._traced = 0

    # --- connections -------------------------------------------------------------------------------------------

    def connect(self, machine: OnceMachine, *, tells: bool) -> Line:
        assert self.line is None
        self.line = line = Line(machine, tells=tells)
        self.is_open = False
        self._partial = b""
        self._aliases = {}
        self._traced = 0
        properties = NO_PROPERTIES
        if self.version is Version.V5:
            properties = Properties(session_expiry_interval=self.expiry_s, receive_maximum=20)
        if self.wants_clean:
            self._is_rude()
            self.flights.clear()
            self.promised = False
        self._send(
            Connect(
                version=self.version,
                client_id=self.name,
                clean_start=self.wants_clean,
                properties=properties,
            )
        )
        line.hello = len(line.up)
        if self.eager:
            self._repeat()
        return line

    def give_up(self, now: float) -> Line:
        """Its connection, whatever the broker knows of that."""
        line, self.line = self.line, None
        assert line is not None
        self.trace(line)
        if self.left_at is None:
            self.left_at = now if line.closed_at is None else line.closed_at
        line.cut = True
        if line.heard < line.hello:
            # Its CONNECT may still come, after that of a newer connection and all that was said on it. So might repetitions
            # behind it, of what is over by then: those nobody could tell from new messages.
            del line.up[line.hello - line.heard :]
        self.is_open = False
        return line

    def say_goodbye(self, expiry_s: int | None) -> None:
        properties = NO_PROPERTIES
        if expiry_s is not None and self.version is Version.V5:
            properties = Properties(session_expiry_interval=expiry_s)
            self.promised = False  # whether it arrives is not known
            self._is_rude()
        self._send(Disconnect(properties=properties))

    def look_at_session(self, number: int | None, now: float) -> None:
        """Which one the broker has for it now. What was published in another may be stored once more: its client cannot know
        that, where the CONNACK that would have told it was lost."""
        if number == self._number:
            return
        before, self._number = self._number, number
        if before is None:
            return
        for message in self.flights.values():
            message.sessions_lost += 1
        left_at = self.left_at
        if left_at is None and self.line is not None:
            left_at = self.line.closed_at
        is_expired = left_at is not None and now - left_at > self.expiry_s - 0.001
        assert is_expired or self.rude or not self.promised, f"{self.name}: its session is gone"

    def _is_rude(self) -> None:
        assert self.line is not None
        self.rude.append(self.line)

    def _connected(self, connack: Connack) -> None:
        if connack.reason:  # an older connection of it came to be heard later, and has taken over
            assert connack.reason is Reason.UNSPECIFIED_ERROR, connack
            return
        self.is_open = True
        self.left_at = None
        self.promised = not (self.wants_clean and self.version is Version.V311)
        self.wants_clean = False
        if connack.session_present:
            if not self.eager:
                self._repeat()
        else:
            self._session_lost()
        if self.filter is not None and not self._subscribed:
            options = SubscriptionOptions(self.filter, 2)
            self._send(Subscribe(packet_id=SUBSCRIBE_ID, subscriptions=(options,)))

    def _session_lost(self) -> None:
        """What it repeated before it knew is in the new session; else it publishes anew, or gives up."""
        if self.eager:
            return
        flights, self.flights = list(self.flights.values()), {}
        if self._rng.random() < 0.5:
            for message in flights:
                if message.released:
                    continue
                message.sends = 0
                message.packet_id = self._free_identifier()
                self._publish(message)

    def _repeat(self) -> None:
        for message in self.flights.values():
            if message.released:
                self._send(Acknowledgement(_PUBREL, message.packet_id))
            else:
                self._transmit(message)

    # --- publishing --------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        return self.window - len(self.flights)

    def publish(self, *, topic: str | None = None, size: int = 0, qos: int | None = None) -> None:
        """The payload of two in a row is the same, their topics are not."""
        number, rng = len(self.messages), self._rng
        stream = self.streams[number // 2 % len(self.streams)]
        if topic is None:
            topic = f"{stream}/{self.name}/{number % 2}"
        payload = b"%d" % (number // 2)
        if size:
            payload = payload.ljust(size, b".")
        elif rng.random() < 0.1:
            payload = payload.ljust(rng.randint(10, 1500), b".")
        qos = qos or rng.choice(self.qos)
        message = Message(self, (topic, payload), qos, self._free_identifier())
        if self.version is Version.V5 and rng.random() < 0.1:
            message.properties = Properties(content_type="x", user_properties=(("a", "b"),))
        self.messages.append(message)
        self._publish(message)

    def _publish(self, message: Message) -> None:
        self.flights[message.packet_id] = message
        self._transmit(message)

    def _transmit(self, message: Message) -> None:
        topic, payload = message.key
        properties = message.properties
        if self.version is Version.V5 and properties is NO_PROPERTIES and self._rng.random() < 0.05:
            known = topic in self._aliases
            alias = self._aliases.setdefault(topic, len(self._aliases) + 1)
            properties = Properties(topic_alias=alias)
            topic = "" if known else topic
        self._send(
            Publish(
                topic=topic,
                payload=payload,
                qos=message.qos,
                dup=message.sends > 0,
                packet_id=message.packet_id,
                properties=properties,
            )
        )
        message.sends += 1

    def _free_identifier(self) -> int:
        flights = self.flights
        if self._identifiers == "lowest":
            return next(each for each in range(1, 65_535) if each not in flights)
        if self._identifiers == "random":
            while (found := self._rng.randint(1, 2 * self.window)) in flights:
                pass
            return found
        limit = 65_534 if self._identifiers == "counting" else self.window + 1
        while True:
            self._last = self._last % limit + 1
            if self._last not in flights:
                return self._last

    def poison(self, raw: bytes) -> None:
        """What ends the connection. It is not tried again."""
        if self.line is not None:
            self.line.up += raw

    def _send(self, packet: Packet) -> None:
        if self.line is not None:
            self.line.up += encode_packet(packet, self.version)

    # --- reading -----------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """What its kernel has."""
        line = self.line
        if line is None:
            return
        self.trace(line)
        data = self._partial + line.take()
        position = 0
        for first, body, end in frames(data):
            self._hear(decode_packet(first, body, self.version))
            position = end
        self._partial = data[position:]

    def _hear(self, packet: Packet) -> None:
        match packet:
            case Connack():
                self._connected(packet)
            case Acknowledgement(kind, packet_id, reason):
                if kind is _PUBREL:
                    self._taken.discard(packet_id)
                    self._send(Acknowledgement(_PUBCOMP, packet_id))
                else:
                    self._acknowledged(kind, packet_id, failed=reason >= 0x80)
            case Suback():
                self._subscribed = True
            case Publish():
                self._deliver(packet)
            case _:
                pass

    def _acknowledged(self, kind: PacketType, packet_id: int, *, failed: bool) -> None:
        message = self.flights.get(packet_id)
        assert message is not None, f"{self.name}: {kind.name} of {packet_id}, which is free"
        if kind is _PUBCOMP:
            assert message.released, "PUBCOMP before PUBREL"
            del self.flights[packet_id]
            return
        assert message.qos == (1 if kind is _PUBACK else 2), f"{kind.name} at QoS {message.qos}"
        if kind is _PUBACK:
            oldest = next(each for each in self.flights.values() if each.qos == 1)
            assert message is oldest, "PUBACK out of order"
        if failed:
            message.refused = True
            del self.flights[packet_id]
            return
        message.read = True
        if kind is _PUBACK:
            del self.flights[packet_id]
        else:
            message.released = True
            self._send(Acknowledgement(_PUBREL, packet_id))

    def _deliver(self, packet: Publish) -> None:
        if packet.qos != 2 or packet.packet_id not in self._taken:
            self.got[packet.topic, packet.payload] += 1
        if packet.qos == 2:
            self._taken.add(packet.packet_id)
        if packet.qos:
            kind = _PUBACK if packet.qos == 1 else _PUBREC
            self._send(Acknowledgement(kind, packet.packet_id))

    def trace(self, line: Line) -> None:
        """Of what TCP acknowledged, which PUBACKs those were. Before they are read: then their identifiers are free."""
        if line.acked <= self._traced:
            return
        data = bytes(line.down[self._traced : line.acked])
        position = 0
        for first, body, end in frames(data):
            is_unread = self._traced + end > line.read - len(self._partial)
            message = self.flights.get(body[0] << 8 | body[1]) if first == 0x40 else None
            if is_unread and message is not None:
                message.delivered = True
            position = end
        self._traced += position


def frames(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """(first byte, body, end) of each whole packet."""
    position = 0
    while position + 2 <= len(data):
        length, shift, at = 0, 0, position + 1
        while at < len(data):
            length |= (data[at] & 0x7F) << shift
            shift += 7
            at += 1
            if data[at - 1] < 0x80:
                break
        else:
            return
        if at + length > len(data):
            return
        yield data[position], data[at : at + length], at + length
        position = at + length
