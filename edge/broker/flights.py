"""What is in flight to one client: sent and not acknowledged, sent again after a reconnect, and exactly once at QoS 2.

In flight are at most `window` deliveries and `inflight_bytes_max` bytes, each known by its packet identifier and its
record's address alone. After a reconnect what was in flight is sent first, in its first order, under its old identifiers
([MQTT-4.4.0-1], [MQTT-4.6.0-1]), read from the journal by address.

Exactly once, also across a power cut (section 4.3.3): of a session that outlives its connection, the state with a QoS 2
flight in it is durable before its PUBLISH leaves, and the state that says *released* before its PUBREL does (`_when_noted`).
So after a crash the same identifier still names the same record. QoS 1 progress is noted now and then: more is repeated,
under new identifiers and with DUP, since it may have been sent ([MQTT-3.3.1-1]).

Knows no socket: it writes through `Link`, the client while it is connected. Nor what waits: `pump` asks the layer above.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from copy import copy
from typing import TYPE_CHECKING, Protocol

from ...core.record import StoredRecord, TopicPartition
from ..mqtt.aliases import OutboundAliases
from ..mqtt.encoding import encode_packet
from ..mqtt.packets import Acknowledgement, PacketType, Version
from ..mqtt.properties import NO_PROPERTIES
from ..mqtt.reasons import Reason, protocol_error
from .backlog import Delivery
from .departures import Departures, Reading
from .messages import Message
from .stored import message_of

if TYPE_CHECKING:
    from .groups import Group
    from .sessions import Session

# The commit of a flight whose present state is not noted yet.
UNNOTED = 1 << 62
_V311 = Version.V311  # a look-up in an enumeration costs as much as a comparison of packets
NOTHING_SENT: Mapping[TopicPartition, int] = {}


class Link(Protocol):
    """What a session needs of the connection it is bound to."""

    version: Version
    writable: bool
    window: int
    send_bytes_max: int
    aliases: OutboundAliases | None

    def send(self, data: bytes) -> None: ...
    def delivered(self) -> int | None: ...
    def spoken(self) -> int | None: ...
    def fits(self, size: int) -> bool: ...


class Flight:
    """A delivery that is not done with. `released`: PUBREC came. `message`: until it is sent, or where it has no record.

    `shared`: at QoS 1 one of them stands for a delivery in all sessions that were sent it, since it is an address and
    nothing happens to it but that it is done. Before anything else does, the session takes a copy (`Flights._own`).
    """

    __slots__ = (
        "commit", "group", "identifiers", "message", "offset", "qos", "released", "retain", "sent", "shared", "size",
        "tp",
    )  # fmt: skip

    def __init__(self, delivery: Delivery, group: Group | None = None) -> None:
        message = delivery.message
        self.message: Message | None = message
        self.tp = message.tp
        self.offset = message.offset
        self.qos = delivery.qos
        self.retain = delivery.retain
        self.identifiers = delivery.identifiers
        self.size = message.size
        self.group = group
        self.released = False
        self.sent = False
        self.shared = False
        self.commit = UNNOTED

    @classmethod
    def of_all(cls, delivery: Delivery) -> Flight:
        """The shared one of a delivery at QoS 1 whose record is in the log."""
        flight = delivery.flight = cls.__new__(cls)
        message = delivery.message
        flight.message = flight.group = None
        flight.tp = message.tp
        flight.offset = message.offset
        flight.qos = delivery.qos
        flight.retain = delivery.retain
        flight.identifiers = delivery.identifiers
        flight.size = message.size
        flight.released = False
        flight.sent = flight.shared = True
        flight.commit = 0
        return flight


_AT_LEAST_ONCE = (PacketType.PUBACK,)
_RECEIVED = (PacketType.PUBREC,)
_RELEASED = (PacketType.PUBREC, PacketType.PUBCOMP)  # PUBREC comes again where PUBLISH did


def _answers_to(flight: Flight) -> tuple[PacketType, ...]:
    """What its subscriber may send next."""
    if flight.qos == 1:
        return _AT_LEAST_ONCE
    return _RELEASED if flight.released else _RECEIVED


class Flights(ABC):
    """The lower layer of an `Outbound`."""

    __slots__ = (
        "_awaiting", "_changed", "_closed", "_departures", "_flight_bytes", "_flight_bytes_max", "_flights",
        "_last_id", "_noted", "_perhaps_sent", "_resend", "_unsent", "link", "session",
    )  # fmt: skip

    def __init__(self, session: Session, departures: Departures) -> None:
        self.session = session
        self.link: Link | None = None
        self._departures = departures
        self._flights: dict[int, Flight] = {}
        self._flight_bytes = 0
        self._flight_bytes_max = int(departures.settings.inflight_bytes_max)
        self._last_id = 0
        # after a crash while connected: below these offsets QoS 1 may have been sent, though no note says so
        self._perhaps_sent: Mapping[TopicPartition, int] = NOTHING_SENT
        self._resend: deque[int] | None = None  # identifiers to be sent again, while there are any
        self._awaiting: dict[
            int, None
        ] = {}  # packet identifiers whose next packet waits for a note
        self._unsent = 0  # of them PUBLISH packets
        self._noted = -1  # the commit that holds the newest note
        self._changed = False  # since that note
        self._closed = False

    @property
    @abstractmethod
    def waits(self) -> bool:
        """`pump` would do something, were there room."""

    @abstractmethod
    def pump(self, now: float) -> None:
        """There may be room now."""

    @abstractmethod
    def want(self) -> None:
        """Ask for a read of the journal."""

    @property
    def client_id(self) -> str:
        return self.session.client_id

    @property
    def name(self) -> str:
        return self.session.client_id

    @property
    def receive_maximum(self) -> int:
        return self._departures.settings.receive_maximum

    @property
    def in_flight(self) -> int:
        return len(self._flights)

    @property
    def durable(self) -> bool:
        """Its state outlives the process, and so must be there before certain packets."""
        return self.session.expiry_s > 0 and self._departures.book is not None and not self._closed

    @property
    def can_take(self) -> bool:
        link = self.link
        return link is not None and link.writable and not self._resend and not self._full(link)

    def _full(self, link: Link) -> bool:
        return len(self._flights) >= link.window or self._flight_bytes >= self._flight_bytes_max

    def launch(self, delivery: Delivery, now: float, group: Group | None = None) -> None:
        """Into flight; the caller has seen that there is room."""
        link = self.link
        assert link is not None
        flights = self._flights
        packet_id = self._last_id % 0xFFFF + 1
        while packet_id in flights:  # [MQTT-2.2.1-4]; the window is far below 65,535
            packet_id = packet_id % 0xFFFF + 1
        self._last_id = packet_id
        if (
            delivery.qos == 1
            and group is None
            and not self._unsent
            and not self._perhaps_sent
            and delivery.message.tp is not None
        ):
            if self._send(link, delivery, packet_id, now):
                shared = delivery.flight or Flight.of_all(delivery)
                flights[packet_id] = shared
                self._flight_bytes += shared.size
                if not self._changed:
                    self._changed = True
                    self._departures.progressed(self)
            return
        flight = Flight(delivery, group)
        if self._perhaps_sent and flight.qos == 1 and flight.tp is not None:
            flight.sent = flight.offset < self._perhaps_sent.get(flight.tp, 0)
        if self._unsent or (delivery.qos == 2 and self.durable):
            self._keep(packet_id, flight)
            self._depart(packet_id, flight)
        elif self._send(link, delivery, packet_id, now, dup=flight.sent):
            flight.sent = True
            if flight.tp is not None:
                flight.message = None
            self._keep(packet_id, flight)

    def _keep(self, packet_id: int, flight: Flight) -> None:
        self._flights[packet_id] = flight
        self._flight_bytes += flight.size
        if flight.group is not None:
            flight.group.handed_out(self.session.client_id, flight)
        if not self._changed:
            self._changed = True
            self._departures.progressed(self)

    def _done(self, packet_id: int, flight: Flight) -> None:
        del self._flights[packet_id]
        self._flight_bytes -= flight.size
        if flight.group is not None:
            flight.group.settled(flight)
        if not self._changed:
            self._changed = True
            self._departures.progressed(self)

    def _send(
        self, link: Link, delivery: Delivery, packet_id: int, now: float, dup: int = 0
    ) -> bool:
        message, qos = delivery.message, delivery.qos
        first_byte = 0x30 | dup << 3 | qos << 1 | delivery.retain
        aliases, version = link.aliases, link.version
        if aliases is None and (
            version is _V311 or (message.properties is NO_PROPERTIES and not delivery.identifiers)
        ):
            # the same for all but for the identifier: what `packet` would make, without the call
            head, tail = message.frame(version, first_byte)
            data = head + packet_id.to_bytes(2, "big") + tail if packet_id else head
        else:
            identifiers = delivery.identifiers
            data = message.packet(version, first_byte, packet_id, identifiers, now, aliases=aliases)
            if aliases is not None and not link.fits(len(data)):
                aliases.unsent(message.topic_bytes)
                data = message.packet(version, first_byte, packet_id, identifiers, now)
        if link.send_bytes_max and not link.fits(len(data)):
            # [MQTT-3.1.2-25]: behave as if it had been delivered
            self._departures.tally.delivery_dropped["too large for client"] += 1
            return False
        self._departures.tally.delivered[qos] += 1
        link.send(data)
        return True

    def _own(self, packet_id: int, flight: Flight) -> Flight:
        """One that only this session knows."""
        if not flight.shared:
            return flight
        own = self._flights[packet_id] = copy(flight)
        own.shared = False
        return own

    # --- acknowledgements -----------------------------------------------------------------------------------------

    def settle(self, packet_id: int) -> bool:
        """A PUBACK that says nothing else: `acknowledge` without the packet. True where that must judge it."""
        flight = self._flights.get(packet_id)
        if flight is None:
            return False
        if flight.qos == 2:
            return True
        del self._flights[packet_id]
        self._flight_bytes -= flight.size
        if flight.group is not None:
            flight.group.settled(flight)
        if not self._changed:
            self._changed = True
            self._departures.progressed(self)
        if self.waits:
            self.pump(self._departures.clock.monotonic())
        return False

    def acknowledge(self, packet: Acknowledgement, now: float) -> None:
        """PUBACK, PUBREC or PUBCOMP from the subscriber. Raises Violation for one that is not this delivery's."""
        link = self.link
        assert link is not None
        packet_id = packet.packet_id
        flight = self._flights.get(packet_id)
        if flight is not None and packet.kind not in _answers_to(flight):
            # [MQTT-4.3.2-1], [MQTT-4.3.3-2] and [-5]: unacknowledged until the packet that it waits for has come
            raise protocol_error(f"{packet.kind.name} of a delivery at QoS {flight.qos}")
        if packet.kind is PacketType.PUBREC and packet.reason < Reason.UNSPECIFIED_ERROR:
            if flight is None:
                reason = Reason.PACKET_IDENTIFIER_NOT_FOUND
                self._pubrel(link, packet_id, reason)
                return
            if not flight.released:
                flight.released = True
                flight.commit = UNNOTED
                flight.message = None
            self._when_noted(packet_id, flight)
        elif flight is not None:
            # a PUBACK or PUBREC with an error ends it as well, also for a group ([MQTT-4.8.2-6])
            self._done(packet_id, flight)
            self.pump(now)

    def _pubrel(self, link: Link, packet_id: int, reason: Reason = Reason.SUCCESS) -> None:
        pubrel = Acknowledgement(PacketType.PUBREL, packet_id, reason)
        link.send(encode_packet(pubrel, link.version))

    def _depart(self, packet_id: int, flight: Flight) -> None:
        """A PUBLISH, now or when its flight is durable; and none before those that wait ([MQTT-4.6.0-1])."""
        gate = self._departures.gate
        if not self._unsent and (
            flight.qos < 2 or not self.durable or gate is None or flight.commit <= gate.durable
        ):
            self._go(packet_id, flight)
            return
        self._unsent += 1
        self._awaiting[packet_id] = None
        if flight.commit == UNNOTED:
            self._departures.write_down(self)

    def _when_noted(self, packet_id: int, flight: Flight) -> None:
        """PUBREL, now or when it is durable that the flight is released."""
        gate = self._departures.gate
        if not self.durable or gate is None or flight.commit <= gate.durable:
            self._go(packet_id, flight)
            return
        self._awaiting[packet_id] = None
        if flight.commit == UNNOTED:
            self._departures.write_down(self)

    def _go(self, packet_id: int, flight: Flight) -> None:
        link = self.link
        if link is None:
            return
        if flight.released:
            self._pubrel(link, packet_id)
            return
        message = flight.message
        assert message is not None
        delivery = Delivery(message, flight.qos, flight.retain, flight.identifiers)
        if self._send(link, delivery, packet_id, self._departures.now, dup=flight.sent):
            flight.sent = True
            if flight.tp is not None:
                flight.message = None
        else:
            self._done(packet_id, flight)

    def noted(self, commit: int) -> bool:
        """The state as it is now is in `commit`. True where something waits for it that was not waiting before."""
        self._changed = False
        for flight in self._flights.values():
            if flight.commit == UNNOTED:
                flight.commit = commit
        if not self._awaiting or self._noted == commit:
            return False
        self._noted = commit
        return True

    def release(self, commit: int) -> None:
        """The gate's word: notes up to `commit` are on disk."""
        for packet_id in tuple(self._awaiting):
            flight = self._flights.get(packet_id)
            if flight is None or flight.commit <= commit:
                del self._awaiting[packet_id]
                if flight is None or not flight.released:
                    self._unsent -= 1
                if flight is not None:
                    self._go(packet_id, flight)

    # --- after a reconnect ------------------------------------------------------------------------------------------

    def resend(self, now: float) -> None:
        """After CONNACK with session present: what is in flight first, then what waits."""
        self._resend = deque(self._flights) if self._flights else None
        self.pump(now)

    def _pump_resend(self, link: Link, now: float) -> bool:
        """True when all of it was sent again. A client may come back with a smaller window ([MQTT-3.3.4-9])."""
        resend = self._resend
        assert resend is not None
        while resend and link.writable and self.link is link:
            packet_id = resend[0]
            flight = self._flights.get(packet_id)
            if flight is not None:
                if not flight.released:
                    if len(self._flights.keys() - resend) >= link.window:
                        return False  # acknowledgements go on with it
                    if flight.message is None:
                        self.want()
                        return False
                if flight.released:
                    self._when_noted(packet_id, flight)
                else:
                    self._depart(packet_id, flight)
            resend.popleft()
        if resend:
            return False
        if self._resend is resend:
            self._resend = None
        return True

    def _reload_flights(self, tp: TopicPartition, offset: int, reading: Reading) -> None:
        """The messages of flights by their addresses. One that is gone is given up; its identifier is freed properly."""
        found = {record.offset: record for record in reading.records}
        # what is retained outlives its record
        retired = {
            flight.offset
            for flight in self._flights.values()
            if flight.retain and flight.tp == tp and flight.offset < reading.start
        }
        kept = self._departures.retained_at(tp, retired) if retired else {}
        lost = 0
        for packet_id in tuple(self._resend or ()):
            flight = self._flights.get(packet_id)
            if flight is None or flight.tp != tp or flight.released or flight.message is not None:
                continue
            record = found.get(flight.offset)
            if record is not None:
                flight.message = self._message(record, tp)
            elif flight.offset in kept:
                flight = self._own(packet_id, flight)
                flight.message = kept[flight.offset]
            elif flight.offset == offset or offset < flight.offset < reading.start:
                lost += 1
                if flight.qos == 2:
                    # the receiver may know the identifier: PUBREL ends it on both sides
                    flight.released = True
                    flight.commit = UNNOTED
                else:
                    self._done(packet_id, flight)
        self._departures.lost(self.client_id, tp, lost, "retired in flight")

    def _message(self, record: StoredRecord, tp: TopicPartition) -> Message:
        departures = self._departures
        return message_of(record, tp, now=departures.now, wall_ms=departures.clock.wall_ms())
