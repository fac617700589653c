"""A session: what outlives a connection (MQTT 5.0, section 4.1). Lives in memory, for the life of the process.

Outbound: at most `window` deliveries are unacknowledged; the rest waits in a queue bounded in messages and bytes. Order
is the order of arrival; after a reconnect what was in flight is sent again first, in its first order ([MQTT-4.4.0-1],
[MQTT-4.6.0-1]). QoS 0 is never queued: it is written while the client keeps up, else dropped and counted. Retained
messages for a new subscription are not queued either, they are drawn from the store as the client can take them.
Inbound: `incoming` holds the packet identifiers between PUBLISH at QoS 2 and its PUBREL.

The session knows no socket: it writes through `Link`, the client while it is connected.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from ..mqtt.aliases import OutboundAliases
from ..mqtt.encoding import encode_packet
from ..mqtt.packets import Acknowledgement, PacketType, SubscriptionOptions, Version, Will
from ..mqtt.reasons import Reason
from .access.rules import Rights
from .deadlines import Deadline
from .doubts import Doubts
from .messages import Message
from .moments import Moment
from .settings import MqttSettings, QueueFull
from .tally import Tally


class Link(Protocol):
    """What a session needs of the connection it is bound to."""

    version: Version
    writable: bool
    window: int
    aliases: OutboundAliases | None

    def send(self, data: bytes) -> None: ...
    def delivered(self) -> int | None: ...
    def spoken(self) -> int | None: ...
    def fits(self, size: int) -> bool: ...
    def overflow(self) -> None: ...


class Delivery(NamedTuple):
    message: Message
    qos: int
    retain: bool
    identifiers: tuple[int, ...]


class _Flight:
    """A delivery that was sent and is not done with. `released`: PUBREC came, PUBREL was sent."""

    __slots__ = ("delivery", "released")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.released = False


class Session:
    __slots__ = (
        "_flights",
        "_last_id",
        "_queue",
        "_queue_bytes",
        "_retained",
        "_settings",
        "_tally",
        "client_id",
        "doubts",
        "end_due",
        "ends_at",
        "expiry_s",
        "filters",
        "incoming",
        "left",
        "link",
        "no_local",
        "number",
        "rights",
        "user",
        "will",
        "will_delay_s",
        "will_due",
    )

    def __init__(self, client_id: str, settings: MqttSettings, tally: Tally) -> None:
        self.client_id = client_id
        self.user: str | None = None  # whose it is; None: of someone anonymous
        self.rights: Rights | None = None  # of that user under this identifier; None: everything
        self.number = 0  # in the book; 0: not there, the session ends with its connection
        self.expiry_s = 0.0
        self.left: Moment | None = None  # since when it has no connection
        self.doubts: Doubts | None = None  # of a session in the book
        self.ends_at = 0.0  # while nobody is connected
        self.filters: dict[str, tuple[SubscriptionOptions, int]] = {}  # and identifier, 0: none
        self.no_local: set[str] = set()  # those of them that do not want what this client publishes
        # QoS 2 packet identifier -> number of the commit that holds its record
        self.incoming: dict[int, int] = {}
        self.link: Link | None = None
        self._settings = settings
        self._tally = tally
        self._flights: dict[int, _Flight] = {}
        self._queue: deque[Delivery] = deque()
        self._queue_bytes = 0
        self._last_id = 0
        self._retained: deque[Iterator[Delivery]] = deque()
        # published when the session ends or the delay is over, unless the client returns before
        self.will: Will | None = None
        self.will_delay_s = 0.0  # from `left`
        self.will_due: Deadline | None = None
        self.end_due: Deadline | None = None

    @property
    def kept(self) -> bool:
        """It outlives its connection, and a restart."""
        return self.expiry_s > 0

    @property
    def receive_maximum(self) -> int:
        return self._settings.receive_maximum

    def outbound_state(self) -> bytes:
        """What is durable of its deliveries; the book notes it."""
        return b""

    def restore_outbound(self, state: bytes) -> None:
        """Once, before it is bound to anything. `state`: what `outbound_state` gave, before a restart."""

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def in_flight(self) -> int:
        return len(self._flights)

    # --- outbound ---------------------------------------------------------------------------------------------

    def deliver(self, delivery: Delivery, now: float) -> None:
        link = self.link
        if delivery.qos == 0:
            if link is None:
                return  # QoS 0 for somebody absent is nobody's loss: it is what QoS 0 means
            if not link.writable:
                self._tally.delivery_dropped["slow at qos 0"] += 1
                return
            self._send(link, delivery, 0, now)
        elif link is None or self._queue or not link.writable or self._full(link):
            self._enqueue(delivery)
        else:
            self._launch(link, delivery, now)

    def _full(self, link: Link) -> bool:
        return len(self._flights) >= link.window

    def _enqueue(self, delivery: Delivery) -> None:
        settings = self._settings
        size = delivery.message.size
        if (
            len(self._queue) >= settings.queue_messages_max
            or self._queue_bytes + size > settings.queue_bytes_max
        ):
            self._tally.delivery_dropped["queue full"] += 1
            if settings.queue_full is QueueFull.DISCONNECT and self.link is not None:
                self.link.overflow()
            return
        self._queue.append(delivery)
        self._queue_bytes += size

    def pump(self, now: float) -> None:
        """Send what is retained, then the queue, as far as the window and the client's reading allow."""
        self._pump_retained(now)
        link = self.link
        queue = self._queue
        while link is not None and queue and link.writable and not self._full(link):
            delivery = queue.popleft()
            self._queue_bytes -= delivery.message.size
            if delivery.message.expired(now):
                self._tally.delivery_dropped["expired"] += 1  # [MQTT-3.3.2-5]
                continue
            self._launch(link, delivery, now)
            link = self.link

    def offer_retained(self, deliveries: Iterator[Delivery], now: float) -> None:
        self._retained.append(deliveries)
        self._pump_retained(now)

    def _pump_retained(self, now: float) -> None:
        link = self.link
        while link is not None and self._retained and link.writable and not self._full(link):
            delivery = next(self._retained[0], None)
            if delivery is None:
                self._retained.popleft()
            elif delivery.qos == 0:
                self._send(link, delivery, 0, now)
            else:
                self._launch(link, delivery, now)

    def _launch(self, link: Link, delivery: Delivery, now: float) -> None:
        packet_id = self._next_id()
        if self._send(link, delivery, packet_id, now):
            self._flights[packet_id] = _Flight(delivery)

    def _send(
        self, link: Link, delivery: Delivery, packet_id: int, now: float, dup: int = 0
    ) -> bool:
        message, qos, retain, identifiers = delivery
        first_byte = 0x30 | dup << 3 | qos << 1 | retain
        aliases = link.aliases
        data = message.packet(
            link.version, first_byte, packet_id, identifiers, now, aliases=aliases
        )
        if aliases is not None and not link.fits(len(data)):
            aliases.unsent(message.topic_bytes)
            data = message.packet(link.version, first_byte, packet_id, identifiers, now)
        if not link.fits(len(data)):
            # [MQTT-3.1.2-25]: behave as if it had been delivered
            self._tally.delivery_dropped["too large for client"] += 1
            return False
        self._tally.delivered[qos] += 1
        link.send(data)
        return True

    def _next_id(self) -> int:
        """A packet identifier not in use ([MQTT-2.2.1-4]); the window is far below 65,535."""
        packet_id = self._last_id
        while True:
            packet_id = packet_id % 0xFFFF + 1
            if packet_id not in self._flights:
                self._last_id = packet_id
                return packet_id

    def acknowledge(self, packet: Acknowledgement, now: float) -> None:
        """PUBACK, PUBREC or PUBCOMP from the subscriber."""
        link = self.link
        assert link is not None
        flight = self._flights.get(packet.packet_id)
        done = packet.kind is PacketType.PUBACK or packet.kind is PacketType.PUBCOMP
        if packet.kind is PacketType.PUBREC and packet.reason < Reason.UNSPECIFIED_ERROR:
            reason = Reason.SUCCESS
            if flight is None:
                reason = Reason.PACKET_IDENTIFIER_NOT_FOUND
            else:
                flight.released = True
            pubrel = Acknowledgement(PacketType.PUBREL, packet.packet_id, reason)
            link.send(encode_packet(pubrel, link.version))
        elif flight is not None and (done or packet.kind is PacketType.PUBREC):
            del self._flights[packet.packet_id]
            self.pump(now)

    # --- connection comes and goes ----------------------------------------------------------------------------

    def bind(self, link: Link) -> None:
        self.link = link

    def settle(self) -> None:
        """Somebody is back, or nobody will be: nothing is due any more."""
        for deadline in (self.will_due, self.end_due):
            if deadline is not None:
                deadline.cancel()
        self.will_due = self.end_due = None

    def resend(self, now: float) -> None:
        """After CONNACK with session present: in flight first ([MQTT-4.4.0-1]), then the queue."""
        link = self.link
        assert link is not None
        for packet_id, flight in tuple(self._flights.items()):
            if flight.released:
                pubrel = Acknowledgement(PacketType.PUBREL, packet_id)
                link.send(encode_packet(pubrel, link.version))
            elif not self._send(link, flight.delivery, packet_id, now, dup=1):
                del self._flights[packet_id]
        self.pump(now)

    def unbind(self, now: float) -> None:
        self.link = None
        self._retained.clear()  # a subscription made again is sent them again
        self.ends_at = now + self.expiry_s
