"""One MQTT connection as its server sees it: bytes in, packets out; packets in, bytes out. No socket, no clock.

    AWAITING_CONNECT ──accept()──▶ OPEN ──farewell()──▶ CLOSED
            └──────────farewell()──────────────────────▶ CLOSED

Rules kept here: the first packet is CONNECT ([MQTT-3.1.0-1]) and no other is ([MQTT-3.1.0-2]); a client sends only what
clients send; no packet is larger than we announced, judged by its header alone, before it is gathered; nothing is sent
that is larger than the client announced ([MQTT-3.1.2-24]); topic aliases are resolved. What must be remembered beyond
the connection (sessions, packet identifiers in use, subscriptions) is the broker's.

The caller feeds what arrived, then alternates `publishes()` (the hot path: a run of plain PUBLISH packets, as bytes) and
`next_packet()` until the latter says None. Whole packets are never copied before they are cut into their parts.
"""

from __future__ import annotations

import enum
import sys

import msgspec

from .decoding import decode_packet
from .encoding import encode_packet
from .packets import (
    BRIDGE_BIT,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Pingreq,
    Pingresp,
    Publish,
    Subscribe,
    Version,
)
from .properties import NO_PROPERTIES, Properties
from .reasons import (
    RETURN_CODES,
    Reason,
    Violation,
    in_connack,
    in_disconnect,
    malformed,
    protocol_error,
)
from .scan import scan_publishes
from .topics import SHARED_PREFIX

Run = list[tuple[bytes, bytes, bytes]]

_FROM_SERVERS = (PacketType.CONNACK, PacketType.SUBACK, PacketType.UNSUBACK, PacketType.PINGRESP)
_NO_RUN: Run = []
# Of all topics that one client has aliases for: any one topic, or 64 of a kibibyte, which none needs.
ALIASES_BYTES_MAX = 65_535
# Of one run of publishes: whoever takes it looks at the clock between two of them, and asks for less where they are costly
# (topics never seen, which many wildcards match: ten milliseconds each).
RUN_BYTES = 2048
RUN_BYTES_COSTLY = 128
# Characters of a reason string: a sentence, not a report.
REASON_STRING_MAX = 256


class State(enum.Enum):
    AWAITING_CONNECT = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()


class ServerConnection:
    __slots__ = (
        "_aliases",
        "_bridge",
        "_data",
        "_needed",
        "_position",
        "_problem_information",
        "_scanned",
        "_send_bytes_max",
        "packet_bytes_max",
        "partial",
        "run_bytes",
        "state",
        "topic_alias_max",
        "version",
    )

    def __init__(self, *, packet_bytes_max: int, topic_alias_max: int) -> None:
        self.state = State.AWAITING_CONNECT
        self.version = Version.V311  # until CONNECT says otherwise
        self.packet_bytes_max = packet_bytes_max
        self.topic_alias_max = topic_alias_max
        self._bridge = False
        self.run_bytes = RUN_BYTES
        self._problem_information = True  # the client wants to know why
        self._send_bytes_max = 0  # 0: the client set no limit
        self._aliases: dict[int, str] | None = None
        self._data = b""
        self._position = 0
        # A packet that has not all arrived (what comes next belongs to it), and how long it must grow to be worth a look.
        self.partial: bytearray | None = None
        self._needed = 0
        self._scanned = (
            0  # of what is held off: where the first packet begins that was not looked at
        )

    @property
    def held_bytes(self) -> int:
        """Of the client's own that are kept between two reads: a packet that is not whole, and topic aliases."""
        aliases = () if self._aliases is None else self._aliases.values()
        return len(self.partial or b"") + sum(len(topic) for topic in aliases)

    @property
    def wanted(self) -> int:
        """How large the packet will be that has begun and is not whole, as far as is known; 0: none has."""
        if self.partial is None:
            return 0
        return len(self.partial) if self._needed == sys.maxsize else self._needed

    @property
    def next_type(self) -> int:
        """Of the packet that comes next; 0: nothing more is there."""
        if self.partial is not None or self._position >= len(self._data):
            return 0
        return self._data[self._position] >> 4

    # --- bytes in ---------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take what arrived. All that was fed before must have been taken out with `next_packet()`."""
        partial = self.partial
        if partial is not None:
            partial += data
            if len(partial) < self._needed:
                return
            data = bytes(partial)
            self.partial = None
        self._data = data
        self._position = 0

    def publishes(self) -> Run:
        """Plain PUBLISH packets that come next, not all there may be: (topic, payload, PUBACK or b"" at QoS 0)."""
        if self.state is not State.OPEN or self.partial is not None:
            return _NO_RUN
        piece = self._data[self._position : self._position + self.run_bytes]
        run, taken = scan_publishes(piece, 0, self.packet_bytes_max, self.version is Version.V5)
        self._position += taken
        return run

    def next_packet(self) -> Packet | None:
        """The next whole packet, or None until more is fed. Raises Violation."""
        if self.state is State.CLOSED or self.partial is not None:
            return None
        data, position = self._data, self._position
        if position == len(data):
            return None
        length, body = self._header(data, position)
        if body == 0 or body + length > len(data):
            self._keep(data, position, body + length - position if body else 0)
            return None
        self._position = body + length
        packet = self._decode(data[position], data[body : body + length])
        if isinstance(packet, Publish) and packet.properties.topic_alias is not None:
            return self._resolve(packet, packet.properties.topic_alias)
        return packet

    def _header(self, data: bytes, position: int) -> tuple[int, int]:
        """(remaining length, start of the body); start 0 where the header is not whole."""
        length = 0
        for index in range(1, 5):
            if position + index >= len(data):
                return 0, 0
            byte = data[position + index]
            length |= (byte & 0x7F) << 7 * (index - 1)
            if byte < 0x80:
                if byte == 0 and index > 1 and self.version is Version.V5:
                    raise malformed("remaining length is not in its shortest form")
                if 1 + index + length > self.packet_bytes_max:
                    raise Violation(
                        Reason.PACKET_TOO_LARGE,
                        f"packet of {1 + index + length} bytes, above {self.packet_bytes_max}",
                    )
                self._check_type(data[position])
                return length, position + index + 1
        raise malformed("remaining length of more than four bytes")

    def _check_type(self, first_byte: int) -> None:
        """Judged as soon as the header is there: whoever does not begin with CONNECT need not be heard out."""
        kind = first_byte >> 4
        is_connect = kind == PacketType.CONNECT
        if kind in _FROM_SERVERS:
            raise protocol_error(f"{PacketType(kind).name} is not for clients to send")
        if self.state is State.AWAITING_CONNECT and not is_connect:
            raise protocol_error("the first packet is not CONNECT")
        if self.state is State.OPEN and is_connect:
            raise protocol_error("a second CONNECT")

    def _keep(self, data: bytes, position: int, needed: int) -> None:
        self._data = b""
        self._position = 0
        if position < len(data):
            self.partial = bytearray(data[position:] if position else data)
            self._needed = needed or len(self.partial) + 1

    def _decode(self, first_byte: int, body: bytes) -> Packet:
        if self.state is State.AWAITING_CONNECT and body[:6] == b"\0\4MQTT" and len(body) > 6:
            # so that even a CONNECT that is refused is answered in its own version
            level = body[6] & ~BRIDGE_BIT
            self.version = Version.V5 if level >= Version.V5 else Version.V311
        packet = decode_packet(first_byte, body, self.version)
        if isinstance(packet, Connect):
            self._bridge = packet.bridge
            self._send_bytes_max = packet.properties.maximum_packet_size or 0
            self._problem_information = packet.properties.request_problem_information != 0
        elif isinstance(packet, Publish) and packet.properties.subscription_identifiers:
            # [MQTT-3.3.4-6]: only servers send them
            raise protocol_error("PUBLISH from a client with a subscription identifier")
        elif self._bridge and isinstance(packet, Subscribe):
            return for_a_bridge(packet)
        return packet

    def _resolve(self, packet: Publish, alias: int) -> Publish:
        if not 0 < alias <= self.topic_alias_max:
            raise Violation(Reason.TOPIC_ALIAS_INVALID, f"topic alias {alias}")
        if self._aliases is None:
            self._aliases = {}
        if packet.topic:
            self._aliases[alias] = packet.topic
            if sum(map(len, self._aliases.values())) > ALIASES_BYTES_MAX:
                raise Violation(Reason.QUOTA_EXCEEDED, "topic aliases for too many bytes")
            return packet
        topic = self._aliases.get(alias)
        if topic is None:
            raise protocol_error(f"topic alias {alias} was never set")
        return msgspec.structs.replace(packet, topic=topic)

    def hold_off(self) -> None:
        """What comes next cannot be taken yet: it is kept, and nothing is taken out until `go_on`."""
        self._keep(self._data, self._position, 0)
        if self.partial is None:
            self.partial = bytearray()
        self._needed = sys.maxsize
        self._scanned = 0

    def take_pings(self) -> int:
        """How many whole PINGREQ packets are among what is held off; they are taken out. MQTT gives them no order among
        others, and whoever sends them wants to know that we are here."""
        held = self.partial
        if held is None:
            return 0
        begin = position = self._scanned
        pings = 0
        others: list[bytearray] = []
        while end := _end(held, position):
            if held[position] == PacketType.PINGREQ << 4 and end == position + 2:
                pings += 1
            else:
                others.append(held[position:end])
            position = end
        if pings:
            held[begin:] = b"".join((*others, held[position:]))
            position = begin + sum(map(len, others))
        self._scanned = position
        return pings

    def go_on(self) -> None:
        """Feed it (nothing, if need be) to have what was kept."""
        self._needed = 0

    # --- bytes out --------------------------------------------------------------------------------------------

    def accept(self, connack: Connack) -> bytes:
        """The CONNACK that opens the connection. Raises Violation where the client takes none so large."""
        assert self.state is State.AWAITING_CONNECT
        assert connack.reason is Reason.SUCCESS
        encoded = self.encode(connack)
        if encoded is None:
            raise Violation(Reason.PACKET_TOO_LARGE, "CONNACK is above the client's limit")
        self.state = State.OPEN
        return encoded

    def encode(self, packet: Packet) -> bytes | None:
        """The packet's bytes, or None where the client said that it takes none so large.

        Reason string and user properties go only to who wants them ([MQTT-3.1.2-29]), and only where they do not make
        the packet too large ([MQTT-3.4.2-2] and its like).
        """
        bare = packet if isinstance(packet, Publish) else without_diagnostics(packet)
        if self._problem_information or bare is packet:
            encoded = encode_packet(packet, self.version)
            if self.fits(len(encoded)):
                return encoded
            if bare is packet:
                return None
        encoded = encode_packet(bare, self.version)
        return encoded if self.fits(len(encoded)) else None

    def fits(self, size: int) -> bool:
        return not self._send_bytes_max or size <= self._send_bytes_max

    def farewell(self, reason: Reason, detail: str = "") -> bytes:
        """What is still to be written before the transport is closed for `reason`; nothing is read any more.

        `detail` is told to MQTT 5 clients as the reason string.
        """
        state, self.state = self.state, State.CLOSED
        self.partial = None
        self._data = b""
        if state is State.CLOSED:
            return b""
        if self.version is Version.V5:
            properties = NO_PROPERTIES
            if detail:
                properties = Properties(reason_string=detail[:REASON_STRING_MAX])
            if state is State.OPEN:
                last: Packet = Disconnect(reason=in_disconnect(reason), properties=properties)
            else:
                last = Connack(reason=in_connack(reason), properties=properties)
            return self.encode(last) or b""
        if state is State.AWAITING_CONNECT and reason in RETURN_CODES:
            return encode_packet(Connack(reason=reason), self.version)
        return b""


def for_a_bridge(packet: Subscribe) -> Subscribe:
    """As it would be asked for in MQTT 5, where "no local" is not for shared subscriptions ([MQTT-3.8.3-4])."""
    subscriptions = tuple(
        msgspec.structs.replace(
            each, no_local=not each.filter.startswith(SHARED_PREFIX), retain_as_published=True
        )
        for each in packet.subscriptions
    )
    return msgspec.structs.replace(packet, subscriptions=subscriptions)


def _end(data: bytearray, position: int) -> int:
    """Where the packet ends that begins at `position`; 0 where it is not whole, or no packet."""
    length = 0
    for index in range(4):
        at = position + 1 + index
        if at >= len(data):
            return 0
        length |= (data[at] & 0x7F) << 7 * index
        if data[at] < 0x80:
            return at + 1 + length if at + 1 + length <= len(data) else 0
    return 0


def without_diagnostics(packet: Packet) -> Packet:
    """Without reason string and user properties; the same object where it has none."""
    if isinstance(packet, Pingreq | Pingresp):
        return packet
    properties = packet.properties
    if properties.reason_string is None and not properties.user_properties:
        return packet
    properties = msgspec.structs.replace(properties, reason_string=None, user_properties=())
    if properties == NO_PROPERTIES:
        properties = NO_PROPERTIES
    return msgspec.structs.replace(packet, properties=properties)


def forwarded(packet: Publish) -> Publish:
    """The message without what concerned only the hop it came by."""
    if packet.properties.topic_alias is None:
        return packet
    properties = msgspec.structs.replace(packet.properties, topic_alias=None)
    if properties == NO_PROPERTIES:
        properties = NO_PROPERTIES
    return msgspec.structs.replace(packet, properties=properties)
