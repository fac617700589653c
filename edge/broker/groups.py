"""A shared subscription (MQTT 5.0, section 4.8.2): `$share/NAME/FILTER`, each message to exactly one member.

Members that can take (connected, reading, window open) get messages in turn; each at its own QoS, with its own identifier.
When none can, the group waits as a session does, on a `Backlog` of its own, and members pull from it as they become able.
A QoS 0 message waits for nobody. Retained messages are not sent ([MQTT-3.8.4-4] says so for shared subscriptions).

What a member has in flight at QoS 1 when it goes is handed out again: at once where another is connected, else when its
session ends ("MAY attempt to send the message to another Client as soon as it loses its connection"). At QoS 2 the member
that began it ends it ([MQTT-4.8.2-4]), nobody else gets it ([MQTT-4.8.2-5]). An acknowledgement with an error ends
it as well ([MQTT-4.8.2-6]).

The group lives while it has members. Its state travels within the states of its durable members, stamped, so that one note
moves a member's flight and the group's position together; after a start the newest copy counts, and what was handed
out at QoS 1 to somebody who no longer knows of it is handed out again.

A 3.1.1 client may join: the specification does not know shared subscriptions there, but the filter means nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...core.record import StoredRecord, TopicPartition
from ..mqtt.packets import SubscriptionOptions
from ..mqtt.topics import matches
from .backlog import Backlog, Delivery
from .departures import Departures, Reading
from .outbound import Outbound, load, topic_or_none
from .outboundstate import ShareState, positions_of, restore_positions
from .stored import message_of

if TYPE_CHECKING:
    from .flights import Flight


class Member(NamedTuple):
    outbound: Outbound
    options: SubscriptionOptions
    identifiers: tuple[int, ...]


class Group:
    __slots__ = (
        "_departures", "_floor", "_out", "_pumping", "_restored", "_stamp", "_turn", "backlog", "members", "name", "since",
        "topic_filter",
    )  # fmt: skip

    @property
    def client_id(self) -> str:
        return ""  # for no-local, which a shared subscription cannot have ([MQTT-3.8.3-4])

    def __init__(self, name: str, topic_filter: str, since: int, departures: Departures) -> None:
        """`name` is the whole of `$share/NAME/FILTER`; `since`: the generation of subscriptions that began with it."""
        self.name = name
        self.since = since
        self.topic_filter = topic_filter
        self.members: list[Member] = []
        self.backlog = Backlog(departures, self._match, exact=True)
        self._departures = departures
        self._turn = 0
        self._pumping = False
        self._restored = False  # from several copies, and not reconciled with its members yet
        self._stamp = 0
        # what began to be appended before the group was made is not for it
        self._floor = dict(departures.ends.unsettled())
        # handed out and not settled: to whom, and at which QoS
        self._out: dict[tuple[TopicPartition, int], tuple[str, int]] = {}

    # --- members --------------------------------------------------------------------------------------------------

    def join(self, outbound: Outbound, options: SubscriptionOptions, identifier: int) -> None:
        """Become a member, or change how."""
        member = Member(outbound, options, (identifier,) if identifier else ())
        for index, other in enumerate(self.members):
            if other.outbound is outbound:
                self.members[index] = member
                return
        self.members.append(member)
        outbound.groups.append(self)

    def leave(self, outbound: Outbound) -> None:
        self.members = [member for member in self.members if member.outbound is not outbound]
        if self in outbound.groups:
            outbound.groups.remove(self)
        if not self.members:
            self.backlog.clear()
            self._departures.forget(self)

    def others_connected(self, outbound: Outbound) -> bool:
        return any(
            member.outbound is not outbound and member.outbound.link is not None
            for member in self.members
        )

    @property
    def waits(self) -> bool:
        """There is, or may be, something to be handed out."""
        return self._restored or bool(self.backlog)

    @property
    def can_take(self) -> bool:
        return any(member.outbound.can_take for member in self.members)

    # --- deliveries -------------------------------------------------------------------------------------------------

    def may_read(self, topic: str) -> bool:
        return any(member.outbound.may_read(topic) for member in self.members)

    def deliver(self, delivery: Delivery, now: float) -> None:
        """What fan-out has for the group, at the message's own QoS."""
        message = delivery.message
        if self._restored:
            self._reconcile()
        if not self.backlog or not message.qos:
            member = self._next_member(message.topic)
            if member is not None:
                self._hand_out(member, delivery, now)
                return
            if not message.qos:
                self._departures.tally.delivery_dropped["no member at qos 0"] += 1
                return
        present = any(member.outbound.link is not None for member in self.members)
        if not self.backlog.push(delivery, present=present):
            self._departures.tally.delivery_dropped["no room"] += 1
        self.pump(now)

    def deliver_retained(self, delivery: Delivery, now: float) -> None:
        """Not for groups."""

    def _next_member(self, topic: str) -> Member | None:
        members = self.members
        count = len(members)
        for step in range(count):
            index = (self._turn + step) % count
            outbound = members[index].outbound
            if outbound.can_take and outbound.may_read(topic):
                self._turn = index + 1
                return members[index]
        return None

    def _hand_out(self, member: Member, delivery: Delivery, now: float) -> None:
        message = delivery.message
        outbound, options, identifiers = member
        qos = min(options.qos, message.qos)  # [MQTT-4.8.2-3]
        own = Delivery(message, qos, delivery.retain and options.retain_as_published, identifiers)
        if qos:
            outbound.launch(own, now, self)
        else:
            outbound.deliver(own, now)

    def pump(self, now: float) -> None:
        """Hand out what waits, to whoever can take it."""
        if self._pumping:
            return
        if self._restored:
            self._reconcile()
        self._pumping = True
        backlog = self.backlog
        try:
            while backlog and self.can_take:
                delivery = backlog.pop()
                if delivery is None:
                    break
                message = delivery.message
                if message.expired(now):
                    self._departures.tally.delivery_dropped["expired"] += 1
                    continue
                member = self._next_member(message.topic)
                if member is not None:
                    self._hand_out(member, delivery, now)
                elif self.may_read(message.topic):
                    backlog.push_first(delivery)  # for one who cannot take it now
                    break
                else:
                    self._departures.tally.delivery_dropped["nobody may read it"] += 1
        finally:
            self._pumping = False
        self._departures.progress(self)
        if backlog.wants_read and self.can_take:
            self._departures.want(self)

    def handed_out(self, client_id: str, flight: Flight) -> None:
        if flight.tp is not None:
            self._out[flight.tp, flight.offset] = (client_id, flight.qos)
            self._stamp += 1

    def settled(self, flight: Flight) -> None:
        if flight.tp is not None:
            self._out.pop((flight.tp, flight.offset), None)
            self._stamp += 1

    def give_back(self, flight: Flight) -> None:
        """A member went with this in flight."""
        if flight.tp is not None and self.members:
            self.backlog.put_back(flight.tp, flight.offset)
            self._departures.want(self)

    # --- reading again ------------------------------------------------------------------------------------------------

    def next_read(self) -> tuple[TopicPartition, int] | None:
        return self.backlog.next_read() if self.can_take else None

    def loaded(self, tp: TopicPartition, offset: int, reading: Reading) -> None:
        lost = load(self.backlog, tp, offset, reading)
        self._departures.lost(self.name, tp, lost, "retired before it was read")

    def _match(self, record: StoredRecord, tp: TopicPartition) -> Delivery | None:
        topic = topic_or_none(record)
        if topic is None or record.offset < self._floor.get(tp, 0):
            return None
        if not matches(self.topic_filter, topic):
            return None
        departures = self._departures
        message = message_of(record, tp, now=departures.now, wall_ms=departures.clock.wall_ms())
        if not message.qos:
            return None
        departures.tally.replayed += 1
        return Delivery(message, message.qos, message.retain, ())

    # --- durable state --------------------------------------------------------------------------------------------------

    def state(self) -> ShareState:
        return ShareState(
            self.name,
            self._stamp,
            positions_of(self.backlog, self._departures, (self.topic_filter,)),
            [(tp.topic, tp.partition, at, who, qos) for (tp, at), (who, qos) in self._out.items()],
        )

    def restore(self, state: ShareState) -> None:
        """One member's copy; the newest counts."""
        self._restored = True
        if state.stamp < self._stamp:
            return
        self._stamp = state.stamp
        self.backlog.clear()
        restore_positions(self.backlog, self._departures, (self.topic_filter,), state.positions)
        self._out = {
            (TopicPartition(stream, partition), offset): (who, qos)
            for stream, partition, offset, who, qos in state.out
        }

    def _reconcile(self) -> None:
        """After a start, when all members are there: QoS 1 that was handed out and no member knows of goes out again."""
        self._restored = False
        members = {member.outbound.client_id: member.outbound for member in self.members}
        for (tp, offset), (who, qos) in tuple(self._out.items()):
            outbound = members.get(who)
            if outbound is not None and outbound.holds(tp, offset, self):
                continue
            del self._out[tp, offset]
            if qos == 1:
                self.backlog.put_back(tp, offset)
