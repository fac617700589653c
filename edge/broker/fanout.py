"""Fan-out: who subscribes, and to whom a message goes once its record is durable.

It owns the subscriptions and the retained messages. The gate calls `deliver`; SUBSCRIBE and UNSUBSCRIBE come from the
client that sent them. What a session does with a delivery is the session's affair.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from ..mqtt.packets import (
    RetainHandling,
    Suback,
    Subscribe,
    SubscriptionOptions,
    Unsuback,
    Unsubscribe,
)
from ..mqtt.properties import NO_PROPERTIES, Properties
from ..mqtt.reasons import Reason
from ..mqtt.topics import SHARED_PREFIX
from .backlog import Delivery
from .book import Book
from .departures import Departures
from .gate import Gate
from .groups import Group
from .messages import Message
from .retained import Glance, Retained
from .sessions import Session
from .settings import MqttSettings
from .subscriptions import Subscriptions, plain
from .systopics import PREFIX, SystemTopics
from .tally import Tally

if TYPE_CHECKING:
    from .peer import Peer


class Ticking(Protocol):
    """The broker: who has the time of the last tick, the gate and the book."""

    now: float
    gate: Gate
    book: Book


# Retained topics compared for one SUBSCRIBE, a third of a microsecond each, and as much again for each that matches, to put
# them in order: nobody else is served for a second at most. A site of a thousand retained topics may have three thousand
# wildcards in a packet, one of a hundred thousand thirty.
COMPARISONS_MAX = 3_000_000
# Why a filter was not taken, for SUBACK's reason string.
_REFUSALS = {
    Reason.NOT_AUTHORIZED: "not permitted",
    Reason.TOPIC_FILTER_INVALID: "more levels than we keep",
    Reason.QUOTA_EXCEEDED: "more subscriptions than one session may have, or more search than one packet",
}


def _why(packet: Subscribe, reasons: list[Reason]) -> Properties:
    """Of the first filter that was refused; the reason codes say which others were."""
    for options, reason in zip(packet.subscriptions, reasons, strict=True):
        if reason in _REFUSALS:
            return Properties(reason_string=f"{options.filter[:80]!r}: {_REFUSALS[reason]}")
    return NO_PROPERTIES


class Fanout:
    __slots__ = ("_settings", "_time", "departures", "retained", "subscriptions", "system")

    def __init__(
        self, settings: MqttSettings, tally: Tally, time: Ticking, departures: Departures
    ) -> None:
        self._time = time
        self.departures = departures
        self.subscriptions = Subscriptions(
            lambda name, topic_filter, since: Group(name, topic_filter, since, departures)
        )
        self.retained = Retained(
            messages_max=settings.retained_messages_max,
            bytes_max=settings.retained_bytes_max,
            tally=tally,
            changed=self._remember,
        )
        self.system: SystemTopics | None = None  # $SYS; None: it is not told
        self._settings = settings
        departures.retained_at = self.retained.at

    def _remember(self, topic: str) -> None:
        """What is retained of a topic changed."""
        self._time.book.dirty_topics.add(topic)

    def change(self, settings: MqttSettings) -> None:
        """Other limits from now on; what is held stays."""
        self._settings = settings
        self.retained.change(settings.retained_messages_max, settings.retained_bytes_max)

    def subscribe(self, client: Peer, packet: Subscribe) -> int:
        """Returns how many retained topics were compared, for the client to pay for (client.py)."""
        session = client.session
        assert session is not None
        identifiers = packet.properties.subscription_identifiers
        identifier = identifiers[0] if identifiers else 0
        reasons: list[Reason] = []
        wanted: list[tuple[SubscriptionOptions, Glance]] = []
        made: list[tuple[SubscriptionOptions, int]] = []
        compared = 0
        for options in packet.subscriptions:
            refusal = self._objection(session, options)
            search = self._search(options)
            if refusal is None and compared + search > COMPARISONS_MAX:
                refusal = Reason.QUOTA_EXCEEDED
            if refusal is not None:
                reasons.append(refusal)
                continue
            compared += search
            is_new = self.subscriptions.add(session, options, identifier)
            made.append((options, identifier))
            reasons.append(Reason(options.qos))
            handling = options.retain_handling
            if options.filter.startswith(SHARED_PREFIX):
                continue  # section 4.8.2: retained messages are not sent to a shared subscription
            if handling is RetainHandling.SEND or (
                is_new and handling is RetainHandling.SEND_IF_NEW
            ):
                # as it is now: what is retained from here on the subscription itself brings
                glance = self.retained.glance(options.filter)
                compared += len(glance.topics)
                wanted.append((options, glance))
                if options.qos:
                    session.outbound.owes(options.filter, glance)

        def answer() -> None:
            if session.link is not client:
                return
            properties = _why(packet, reasons)
            client.reply(
                Suback(packet_id=packet.packet_id, reasons=tuple(reasons), properties=properties)
            )
            for options, glance in wanted:
                came = self.retained.replaced(glance) if is_held else set()
                retained = self._retained_for(session, options, identifiers, glance, came)
                session.outbound.offer_retained(options.filter, retained, self._time.now)

        commit = self._time.book.subscribed(session, made)
        is_held = commit > self._time.gate.durable
        self._time.gate.promise(commit, answer)
        return compared

    def resume(self, session: Session) -> int:
        """It goes on: what its subscriptions are still owed of what is retained at QoS 1 and 2. Returns how many were
        compared; where that would be too many at once, the rest stays owed."""
        outbound, compared = session.outbound, 0
        for topic_filter, owed in tuple(outbound.owed.items()):
            options, identifier = session.filters[topic_filter]
            compared += self._compared(topic_filter)
            if compared > COMPARISONS_MAX:
                break
            glance = self.retained.glance(topic_filter, owed)
            compared += len(glance.topics)
            identifiers = (identifier,) if identifier else ()
            outbound.draw(
                topic_filter,
                self._retained_for(session, options, identifiers, glance, set(), is_first=False),
            )
        return compared

    def _search(self, options: SubscriptionOptions) -> int:
        """How many retained topics must be looked at for what this filter is sent."""
        if options.retain_handling is RetainHandling.DO_NOT_SEND:
            return 0
        return self._compared(options.filter)

    def _compared(self, topic_filter: str) -> int:
        return len(self.retained) if "+" in topic_filter or "#" in topic_filter else 0

    def _objection(self, session: Session, options: SubscriptionOptions) -> Reason | None:
        if session.rights is not None and not session.rights.may_subscribe(plain(options.filter)):
            return Reason.NOT_AUTHORIZED
        if options.filter.count("/") >= self._settings.filter_levels_max:
            return Reason.TOPIC_FILTER_INVALID
        is_new = options.filter not in session.filters
        if is_new and len(session.filters) >= self._settings.subscriptions_max:
            return Reason.QUOTA_EXCEEDED
        return None

    def _retained_for(
        self,
        session: Session,
        options: SubscriptionOptions,
        identifiers: tuple[int, ...],
        glance: Glance,
        came: set[str],
        *,
        is_first: bool = True,
    ) -> Iterator[Delivery]:
        """For a subscription just acknowledged. What was retained after SUBSCRIBE came by the subscription itself, before
        SUBACK (`came`) or after it, and does not come again; but for QoS 0 after SUBACK: of that the slowness that leaves
        something to be drawn here has dropped the newest."""
        if self.system is not None and is_first and options.filter.startswith(PREFIX):
            for message in self.system.matching(options.filter):
                if session.rights is None or session.rights.may_read(message.topic):
                    yield Delivery(message, 0, True, identifiers)
        for message, is_another in self.retained.draw(glance, lambda: self._time.now):
            if options.filter not in session.filters:
                return  # [MQTT-3.10.4-2]
            qos = min(options.qos, message.qos)
            if is_another and (qos or message.topic in came):
                continue
            if not qos and not is_first:
                continue  # it may have been sent, and QoS 0 is at most once
            if session.rights is None or session.rights.may_read(message.topic):
                yield Delivery(message, qos, True, identifiers)

    def unsubscribe(self, client: Peer, packet: Unsubscribe) -> None:
        session = client.session
        assert session is not None
        reasons = tuple(
            Reason.SUCCESS
            if self.subscriptions.remove(session, topic_filter)
            else Reason.NO_SUBSCRIPTION_EXISTED
            for topic_filter in packet.filters
        )
        gone = [
            topic_filter
            for topic_filter, reason in zip(packet.filters, reasons, strict=True)
            if reason is Reason.SUCCESS
        ]

        def answer() -> None:
            if session.link is client:
                client.reply(Unsuback(packet_id=packet.packet_id, reasons=reasons))

        self._time.gate.promise(self._time.book.unsubscribed(session, gone), answer)

    def deliver(self, message: Message) -> None:
        """A message whose record is durable."""
        now = self._time.now
        is_news = message.retain and (bool(message.payload) or message.topic in self.retained)
        retained = message.retain and self.retained.put(message)
        if message.expires_at is not None and message.expired(now):
            self.departures.tally.delivery_dropped["expired"] += (
                1  # while it waited for the disk ([MQTT-3.3.2-5])
            )
            return
        subscriptions = self.subscriptions
        message_qos, message_retain = message.qos, message.retain
        delivery: Delivery | None = None  # that of the target before: usually the same serves all
        for target in subscriptions.takers(message):
            taker, qos, no_local, as_published, identifiers = target
            if no_local and taker.client_id == message.publisher:
                own = subscriptions.others(taker, message)
                if own is None:
                    continue  # [MQTT-3.8.3-3]
                _, qos, _, as_published, identifiers = own
            retain = message_retain and as_published
            qos = min(qos, message_qos)
            if (
                delivery is None
                or delivery.qos != qos
                or delivery.retain != retain
                or delivery.identifiers != identifiers
            ):
                delivery = Delivery(message, qos, retain, identifiers)
            taker.deliver(delivery, now)
        if retained and is_news:
            # an empty one as well: they may have been sent what it removed, which was retained still when they subscribed
            for taker, options, identifier, _ in subscriptions.latecomers(message):
                identifiers = (identifier,) if identifier else ()
                retain = bool(message.payload) or options.retain_as_published
                delivery = Delivery(message, min(options.qos, message_qos), retain, identifiers)
                taker.deliver_retained(delivery, now)
