"""A session's outbound side: what is in flight, what waits, what is sent again.

What does not fit into flight (flights.py) waits in the `Backlog`: a short queue in memory, beyond it cursors. QoS 0 never
waits: it is written while the client keeps up, else dropped and counted. Retained messages for a new subscription are
not queued either, they are drawn from the store as the client can take them. What of them is not drawn when the connection
or the edge ends is still owed to a session that goes on: SUBACK promised it. How far it got is part of its durable state.

A new subscription begins after the last record appended when it is made: `_floors` keeps those offsets while older
records are still to be read again or to become durable. A record read again is held against the subscriptions as they are
now, by the rule that live messages go by.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...core.record import StoredRecord, TopicPartition
from ..mqtt.topics import SHARED_PREFIX, matches
from .backlog import Backlog, Delivery
from .departures import Departures, Reading
from .flights import NOTHING_SENT, Flight, Flights
from .messages import Message
from .outboundstate import FlightState, OutboundState, owed_noted, positions_of, restore_positions
from .retained import Glance, Owed
from .stored import topic_of
from .subscriptions import Subscription, Target, merged

if TYPE_CHECKING:
    from .groups import Group
    from .sessions import Session

# Topics whose answer is remembered while records are read again.
MATCHES_MAX = 512


class Outbound(Flights):
    __slots__ = (
        "_floors", "_matches", "_matches_generation", "_retained", "backlog", "filters_generation", "groups", "owed",
    )  # fmt: skip

    def __init__(self, session: Session, departures: Departures) -> None:
        super().__init__(session, departures)
        self.groups: list[Group] = []
        self.filters_generation = 0
        self.backlog = Backlog(departures, self._match)
        # while there are any, by filter: subscribed again, it is sent from the start, so the filters bound what waits
        self._retained: dict[str, Iterator[Delivery]] | None = None
        # of a session that outlives its connection: where to go on, should that end before all was sent
        self.owed: dict[str, Owed] = {}
        self._floors: dict[str, dict[TopicPartition, int]] = {}
        self._matches: dict[str, Target | None] = {}
        self._matches_generation = -1

    # --- deliveries -----------------------------------------------------------------------------------------------

    def may_read(self, topic: str) -> bool:
        rights = self.session.rights
        return rights is None or rights.may_read(topic)

    def deliver(self, delivery: Delivery, now: float) -> None:
        """What fan-out has for this session, once its record is durable."""
        link = self.link
        if delivery.qos == 0:
            if link is None:
                return  # QoS 0 for somebody absent is nobody's loss: it is what QoS 0 means
            if not link.writable:
                self._departures.tally.delivery_dropped["slow at qos 0"] += 1
                return
            self._send(link, delivery, 0, now)
            return
        backlog = self.backlog
        if (
            link is not None
            and link.writable
            and not backlog.queue
            and not backlog.cursors
            and not self._resend
            and len(self._flights) < link.window
            and self._flight_bytes < self._flight_bytes_max
        ):
            self.launch(delivery, now)
            return
        if not backlog.push(delivery, present=link is not None):
            self._departures.tally.delivery_dropped["no room"] += 1
        if link is not None and link.writable:
            self.pump(now)

    def deliver_retained(self, delivery: Delivery, now: float) -> None:
        """One that became retained just after this session subscribed."""
        # no filter has a NUL: these do not replace what a filter drew, nor each other
        self.offer_retained(
            f"\0{delivery.message.offset}\0{delivery.message.topic}", iter((delivery,)), now
        )

    def offer_retained(self, drawn_by: str, deliveries: Iterator[Delivery], now: float) -> None:
        self.draw(drawn_by, deliveries)
        self.pump(now)

    def draw(self, drawn_by: str, deliveries: Iterator[Delivery]) -> None:
        if self._retained is None:
            self._retained = {}
        self._retained.pop(drawn_by, None)
        self._retained[drawn_by] = deliveries

    def owes(self, drawn_by: str, glance: Glance) -> None:
        """A subscription just made is to be sent what is retained: its SUBACK promises that, whatever happens before it
        is."""
        if glance.topics and self.durable:
            self.owed[drawn_by] = Owed("", [(*tp, end) for tp, end in glance.ends.items()])

    def want(self) -> None:
        self._departures.want(self)

    @property
    def waits(self) -> bool:
        backlog = self.backlog
        return bool(
            backlog.queue
            or backlog.cursors
            or self._resend
            or self._retained
            or self._floors
            or self.groups
        )

    def pump(self, now: float) -> None:
        """Send again, then what is retained, then what waits, as far as window and the client's reading allow."""
        link = self.link
        if link is None:
            return
        if self._resend and not self._pump_resend(link, now):
            return
        if self._retained:
            self._pump_retained(now)
        backlog = self.backlog
        if backlog:
            self._pump_backlog(now)
        else:
            if not self._retained:
                self._perhaps_sent = NOTHING_SENT
            if self._floors:
                self._prune_floors()
        if self.groups and self.can_take:
            for group in tuple(self.groups):
                if group.waits:
                    group.pump(now)

    def _pump_backlog(self, now: float) -> None:
        backlog, tally = self.backlog, self._departures.tally
        link = self.link
        while link is not None and link.writable and not self._full(link):
            delivery = backlog.pop()
            if delivery is None:
                break
            if delivery.message.expired(now):
                tally.delivery_dropped["expired"] += 1  # [MQTT-3.3.2-5]
                continue
            self.launch(delivery, now)
            link = self.link
        self._departures.progress(self)
        if backlog.wants_read and self.can_take:
            self._departures.want(self)

    def _pump_retained(self, now: float) -> None:
        link = self.link
        while link is not None and self._retained and link.writable and not self._full(link):
            first = next(iter(self._retained))
            delivery = next(self._retained[first], None)
            owed = self.owed.get(first)
            if delivery is None:
                del self._retained[first]
                if not self._retained:
                    self._retained = None
                if owed is not None:
                    self._settled_with(first)
                continue
            if owed is not None and delivery.message.tp is not None:
                owed.after = delivery.message.topic
            if delivery.qos == 0:
                self._send(link, delivery, 0, now)
            else:
                self.launch(delivery, now)

    def _settled_with(self, drawn_by: str) -> None:
        del self.owed[drawn_by]
        if not self._changed:
            self._changed = True
            self._departures.progressed(self)

    # --- the connection comes and goes ------------------------------------------------------------------------------

    def unbind(self) -> None:
        self.link = None
        self._retained = None  # what of it is owed is drawn again when the session goes on
        self._awaiting.clear()
        self._unsent = 0
        self._resend = None
        self._departures.forget(self)
        for packet_id, flight in tuple(self._flights.items()):
            group = flight.group
            if flight.shared:
                self._own(packet_id, flight)
            elif flight.tp is not None:
                flight.message = None
            if group is not None and flight.qos == 1 and group.others_connected(self):
                self._done(packet_id, flight)
                group.give_back(flight)
        lost = self.backlog.collapse()
        if lost:
            self._departures.tally.delivery_dropped["no record"] += lost
        if self.durable:
            self._departures.write_down(self)

    def close(self) -> None:
        """The session is over. What a group handed out at QoS 1 goes to another member; at QoS 2 it must not
        ([MQTT-4.8.2-5])."""
        self._closed = True
        self.link = None
        for packet_id, flight in tuple(self._flights.items()):
            group = flight.group
            self._done(packet_id, flight)
            if group is not None and flight.qos == 1:
                group.give_back(flight)
        self.backlog.clear()
        self._awaiting.clear()
        self._departures.forget(self)
        self._departures.settled(self)

    # --- reading again ----------------------------------------------------------------------------------------------

    def next_read(self) -> tuple[TopicPartition, int] | None:
        """Where to read next: a flight to be sent again, else what waits."""
        if self.link is None:
            return None
        if self._resend:
            flight = self._flights.get(self._resend[0])
            if flight is None or flight.released or flight.tp is None or flight.message is not None:
                return None
            return flight.tp, flight.offset
        return self.backlog.next_read()

    def loaded(self, tp: TopicPartition, offset: int, reading: Reading) -> None:
        """What a read from `offset` on brought; the caller pumps."""
        if self.link is None:
            return
        if self._resend:
            self._reload_flights(tp, offset, reading)
            return
        lost = load(self.backlog, tp, offset, reading)
        self._departures.lost(self.client_id, tp, lost, "retired before it was read")

    def _match(self, record: StoredRecord, tp: TopicPartition) -> Delivery | None:
        """What this session gets of a record that is read again."""
        topic = topic_or_none(record)
        if topic is None:
            return None
        if self._floors:
            target = self._target(topic, tp, record.offset)
        else:
            known = self._matches
            if self._matches_generation != self.filters_generation or len(known) >= MATCHES_MAX:
                known.clear()
                self._matches_generation = self.filters_generation
            if topic in known:
                target = known[topic]
            else:
                target = known[topic] = self._target(topic, tp, record.offset)
        if target is None or not target.qos:
            return None
        message = self._message(record, tp)
        if target.no_local and message.publisher == self.client_id:
            target = self._target(topic, tp, record.offset, own=True)  # [MQTT-3.8.3-3]
        if target is None or not (qos := min(target.qos, message.qos)):
            return None  # QoS 0 is not kept
        self._departures.tally.replayed += 1
        retain = message.retain and target.retain_as_published
        return Delivery(message, qos, retain, target.identifiers)

    def _target(
        self, topic: str, tp: TopicPartition, offset: int, *, own: bool = False
    ) -> Target | None:
        if not self.may_read(topic):
            return None
        floors = self._floors
        return merged(
            [
                Subscription(self, options, identifier, 0)
                for topic_filter, (options, identifier) in self.session.filters.items()
                if not topic_filter.startswith(SHARED_PREFIX)
                and not (own and options.no_local)
                and matches(topic_filter, topic)
                and (not floors or offset >= floors.get(topic_filter, {}).get(tp, 0))
            ]
        )

    # --- subscriptions change -----------------------------------------------------------------------------------------

    def subscribed(self, topic_filter: str, *, is_new: bool) -> None:
        """A subscription was made, or replaced: from here on, and never for what came before."""
        self.filters_generation += 1
        ends = self._departures.ends
        if is_new:
            floors = {tp: ends.bounds(tp).end for tp in self.backlog.cursors}
            floors.update(ends.unsettled())
            if floors:
                self._floors[topic_filter] = floors
        if self.durable:
            self._departures.write_down(self)

    def unsubscribed(self, topic_filter: str) -> None:
        self.filters_generation += 1
        self._floors.pop(topic_filter, None)
        self.owed.pop(topic_filter, None)
        if not self.session.filters:
            self.backlog.clear()
        if self.durable:
            self._departures.write_down(self)

    def _prune_floors(self) -> None:
        """With nothing behind, a floor is over when the log has reached it."""
        ends = self._departures.ends
        for topic_filter, floors in tuple(self._floors.items()):
            if all(ends.bounds(tp).end >= floor for tp, floor in floors.items()):
                del self._floors[topic_filter]

    # --- durable state ------------------------------------------------------------------------------------------------

    def state(self) -> OutboundState:
        """As it is now. Called from the top of the broker, never from within a delivery."""
        if not self.backlog and self._floors:
            self._prune_floors()
        return OutboundState(
            last_id=self._last_id,
            flights=[
                FlightState(
                    packet_id, flight.tp.topic if flight.tp else "", flight.tp.partition if flight.tp else 0,
                    flight.offset, flight.qos, flight.retain, flight.released, flight.identifiers, flight.size,
                    flight.group.name if flight.group else "",
                )
                for packet_id, flight in self._flights.items()
            ],
            positions=positions_of(self.backlog, self._departures, self.session.filters),
            floors=[
                (topic_filter, tp.topic, tp.partition, floor)
                for topic_filter, floors in self._floors.items()
                for tp, floor in floors.items()
            ],
            shares=[group.state() for group in self.groups],
            owed=owed_noted(self.owed),
        )  # fmt: skip

    def restore(self, state: OutboundState | None) -> None:
        """After a start, when its subscriptions are there again and before anybody connects. None: nothing was noted."""
        self._changed = False
        if state is None:
            return
        self._last_id = state.last_id
        groups = {group.name: group for group in self.groups}
        for kept in state.flights:
            tp = TopicPartition(kept.stream, kept.partition) if kept.stream else None
            message = Message("?", b"", qos=kept.qos, tp=tp, offset=kept.offset)
            delivery = Delivery(message, kept.qos, kept.retain, kept.identifiers)
            flight = Flight(delivery, groups.get(kept.group))
            flight.size = kept.size
            flight.sent = True
            flight.message = None
            flight.commit = 0
            flight.released = kept.released or tp is None
            if kept.qos == 1 and tp is None:
                continue  # a retained message without a record: it is lost
            self._flights[kept.packet_id] = flight
            self._flight_bytes += flight.size
        for topic_filter, stream, partition, floor in state.floors:
            self._floors.setdefault(topic_filter, {})[TopicPartition(stream, partition)] = floor
        restore_positions(self.backlog, self._departures, self.session.filters, state.positions)
        filters = self.session.filters
        self.owed = {drawn_by: each for drawn_by, each in state.owed.items() if drawn_by in filters}
        if (
            self.session.left is None
        ):  # it was connected: what was sent since the last note is not known
            self._perhaps_sent = {
                TopicPartition(stream, partition): end
                for each in self.owed.values()
                for stream, partition, end in each.ends
            } | {tp: cursor.end for tp, cursor in self.backlog.cursors.items()}
        for share in state.shares:
            if share.name in groups:
                groups[share.name].restore(share)

    def holds(self, tp: TopicPartition, offset: int, group: Group) -> bool:
        """A flight of this group's record is here."""
        return any(
            flight.group is group and flight.offset == offset and flight.tp == tp
            for flight in self._flights.values()
        )


def topic_or_none(record: StoredRecord) -> str | None:
    """None where the record is not a message: whoever else writes into a stream need not know of topics."""
    try:
        return topic_of(record) or None
    except UnicodeDecodeError:
        return None


def load(backlog: Backlog, tp: TopicPartition, offset: int, reading: Reading) -> int:
    """A read's result into a backlog; how many noted messages turned out to be gone."""
    cursor = backlog.cursors.get(tp)
    if cursor is None or cursor.start < offset:
        return 0  # it went back meanwhile: read again
    if reading.records:
        return backlog.loaded(tp, reading.records, reading.size)
    return backlog.lose(tp, reading.start)
