"""The second judge: a daemon that was started on a crash state, and clients that came back to it.

  sessions     one whose CONNACK was read before the cut is present
  repeats      what had no acknowledgement and was sent again as DUP is acknowledged (and the log then holds it once)
  retained     a topic shows what was retained last, or what was sent later
  subscribers  get all that was acknowledged for a SUBACKed subscription, before the cut or after it; at QoS 1 perhaps again,
               at QoS 2 once over both lives
  groups       each message acknowledged for a shared subscription reaches a member; at QoS 2 one, once, over both lives
  expiry       what was over is not delivered to who was away; what is not says how much is left
  topics       a message comes by the topic that it was published to
  unsubscribed nothing that was sent after an UNSUBACK
  retention    of a stream that gives way, all is delivered that is still in the log at the end

Knows neither sockets nor files. What a count says about the world at a cut: story.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .publishers import Message
from .story import Delivery, LastWill, Story, Subscription, happened

# a clock's second, the tick of the edge, and a machine that is slow to notice
SLACK_S = 2.5
# what a check waits for
SOON_S = 1


@dataclass
class Returned:
    """What the clients met. `acknowledged`: name of a repeated message → its receipt."""

    present: dict[str, bool] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)
    retained: dict[str, bytes] = field(default_factory=dict)
    # subscriber → (payload, identifier, QoS) of each PUBLISH, in order, without those of the check itself
    deliveries: dict[str, list[tuple[bytes, int, int]]] = field(default_factory=dict)
    released: dict[str, list[tuple[int, int]]] = field(
        default_factory=dict
    )  # after so many, PUBREL of identifier
    silent: list[str] = field(default_factory=list)  # subscribers that did not hear the markers
    # (subscriber, message, seconds that it says are left, monotonic clock) of each PUBLISH with a message expiry
    expiries: list[tuple[str, str, int, float]] = field(default_factory=list)
    misdirected: list[str] = field(default_factory=list)
    began: float = 0.0  # the monotonic clock when the daemon was started
    ended: float = 0.0  # the monotonic clock when all was over


def to_repeat(messages: Mapping[str, Message], client: str, cut: int) -> list[Message]:
    """What a client sends again: surely not acknowledged in that world. In the order of sending."""
    return sorted(
        (
            each
            for each in messages.values()
            if each.client == client
            and (each.lasting or each.is_bridged)
            and happened(each.sent, cut)
            and not happened(each.heard if each.qos == 1 else each.acked, cut)
        ),
        key=lambda each: each.sequence,
    )


def to_release(messages: Mapping[str, Message], client: str, cut: int) -> list[Message]:
    """QoS 2: PUBREC was read, PUBCOMP was not."""
    return [
        each
        for each in messages.values()
        if each.client == client
        and each.lasting
        and each.qos == 2
        and happened(each.acked, cut)
        and not happened(each.completed, cut)
    ]


def held(story: Story, client: str, cut: int) -> dict[int, str]:
    """The QoS 2 identifiers that a subscriber keeps, and of which message."""
    found: dict[int, str] = {}
    for each in story.deliveries:
        if each.client == client and each.qos == 2 and happened(each.received, cut):
            if happened(each.released, cut):
                found.pop(each.packet_id, None)
            else:
                found[each.packet_id] = each.message
    return found


@dataclass
class Promises:
    """`kept`: the names of what the log holds at the end; `retires`: of these streams it need not hold all."""

    story: Story
    messages: Mapping[str, Message]  # as they stand after the repeats
    cut: int
    kept: frozenset[str] = frozenset()
    retires: Collection[str] = ()
    claims: Counter[str] = field(default_factory=Counter)

    def violations(self, met: Returned) -> list[str]:
        return [
            *self._sessions(met),
            *self._repeats(met),
            *self._retained(met),
            *self._subscribers(met),
            *self._groups(met),
            *self._expiries(met),
            *(f"misdirected: {each}" for each in met.misdirected),
        ]

    def _sessions(self, met: Returned) -> Iterator[str]:
        for client, present in met.present.items():
            self.claims["sessions"] += 1
            if not present:
                yield f"forgotten: the session of {client}"

    def _repeats(self, met: Returned) -> Iterator[str]:
        for name in met.repeated:
            self.claims["repeats"] += 1
            if name not in met.acknowledged:
                yield f"unanswered: {name}, sent again"

    def _retained(self, met: Returned) -> Iterator[str]:
        last: dict[str, int] = {}
        for each in self.messages.values():
            if each.retain and happened(each.acked, self.cut):
                last[each.topic] = max(last.get(each.topic, 0), each.sequence)
        for topic, sequence in last.items():
            self.claims["retained topics"] += 1
            payload = met.retained.get(topic, b"").decode("utf-8", "replace")
            message = self.messages.get(payload.partition(" ")[0])
            if message is None or message.payload != payload or message.topic != topic:
                yield f"retained: {topic} shows {payload[:40]!r}"
            elif message.sequence < sequence:
                yield f"retained: {topic} shows {message.name}, {sequence} was acknowledged"

    def _subscribers(self, met: Returned) -> Iterator[str]:
        for client in met.deliveries:
            before = [
                each
                for each in self.story.deliveries
                if each.client == client and happened(each.received, self.cut)
            ]
            if client in met.silent:
                yield f"undelivered: {client} waits in vain for what was published after the start"
            yield from self._deliveries(client, before, met)

    def _deliveries(
        self,
        client: str,
        before: list[Delivery],
        met: Returned,
    ) -> Iterator[str]:
        deliveries, released = met.deliveries[client], met.released.get(client, [])
        names = {each.message for each in before}
        exactly = {each.message for each in before if each.qos == 2}
        keeping = held(self.story, client, self.cut)
        releases = iter([*released, (1 << 62, 0)])
        at, identifier = next(releases)
        for index, (payload, packet_id, qos) in enumerate(deliveries):
            while at <= index:
                keeping.pop(identifier, None)
                at, identifier = next(releases)
            text = payload.decode("utf-8", "replace")
            name = text.partition(" ")[0]
            message = self.messages.get(name)
            if message is None or message.payload != text or message.sent > self.cut:
                yield f"invented: {client} gets {text[:40]!r}"
                continue
            if qos == 2 and packet_id in keeping:
                if keeping[packet_id] != name:
                    yield f"identifier: {packet_id} of {client} is {name}, was {keeping[packet_id]}"
                continue
            if qos == 2:
                keeping[packet_id] = name
                self.claims["deliveries at QoS 2"] += 1
                if name in exactly:
                    yield f"delivered twice: {name} to {client}"
                exactly.add(name)
            names.add(name)
            if not self._allowed(client, message):
                yield f"unasked: {client} gets {name}"
        yield from self._undelivered(client, names, met)

    def _allowed(self, client: str, message: Message) -> bool:
        return any(
            each.client == client and each.allows(message.topic, message.sent, self.cut)
            for each in self.story.subscriptions
        )

    def _undelivered(self, client: str, names: set[str], met: Returned) -> Iterator[str]:
        subscriptions = [each for each in self.story.subscriptions if each.client == client]
        self.claims["subscriptions"] += sum(
            happened(each.acked, self.cut) for each in subscriptions
        )
        alone = [each for each in subscriptions if not each.is_shared]
        for message in self.messages.values():
            if not self._owed(message, alone, met):
                continue
            self.claims["wills heard" if message.is_will else "promised to subscribers"] += 1
            if message.name not in names:
                yield f"undelivered: {message.name} to {client}"

    def _owed(self, message: Message, subscriptions: list[Subscription], met: Returned) -> bool:
        return (
            happened(message.acked, self.cut)
            and any(each.promises(message.topic, message.sent, self.cut) for each in subscriptions)
            and (message.expiry_s < 0 or met.ended + SLACK_S < message.clock + message.expiry_s)
            and (message.topic.partition("/")[0] not in self.retires or message.name in self.kept)
        )

    def _groups(self, met: Returned) -> Iterator[str]:
        for group in groups(self.story, self.cut):
            if not group.members & met.deliveries.keys():
                continue
            got: dict[str, set[str]] = {}  # message → members
            for each in self.story.deliveries:
                if each.client in group.members and happened(each.received, self.cut):
                    got.setdefault(each.message, set()).add(each.client)
            for client in group.members & met.deliveries.keys():
                for payload, _, _ in met.deliveries[client]:
                    name = payload.decode("utf-8", "replace").partition(" ")[0]
                    got.setdefault(name, set()).add(client)
            for message in self.messages.values():
                if self._owed(message, group.staying, met):
                    self.claims["shared"] += 1
                    if message.name not in got:
                        yield f"unshared: {message.name} to nobody of {group.name}"
            if group.qos == 2:
                self.claims["shared at QoS 2"] += len(got)
                for name, clients in got.items():
                    if len(clients) > 1:
                        yield f"shared twice: {name} to {' and '.join(sorted(clients))}"

    def _expiries(self, met: Returned) -> Iterator[str]:
        for client, name, left_s, clock in met.expiries:
            message = self.messages.get(name)
            if message is None or message.repeats or name in met.repeated:
                continue  # whose life may have begun at any of them
            left = message.expiry_s - (clock - message.clock)
            if left > SLACK_S:
                self.claims["expiries"] += 1
                if abs(left_s - left) > SLACK_S:
                    yield f"expiry: {name} says {left_s} s to {client}, {left:.1f} s are left"
        for client, (count, clock) in self.story.partings.items():
            if client not in met.deliveries or not happened(count, self.cut):
                continue
            names = {name for each, name, _, _ in met.expiries if each == client}
            names -= {name for name in names if name in met.repeated or self._repeated(name)}
            for message in self.messages.values():
                is_over = 0 <= message.expiry_s < met.began - SLACK_S - message.clock
                if not is_over or message.clock < clock + SLACK_S or message.sent > self.cut:
                    continue
                self.claims["expired"] += 1
                if message.name in names:
                    yield f"expired: {message.name} is begun with {client}, who was away"

    def _repeated(self, name: str) -> bool:
        message = self.messages.get(name)
        return message is not None and message.repeats > 0


class Group(NamedTuple):
    """A shared subscription. `staying`: those of its members that nobody was about to end."""

    name: str
    qos: int
    members: set[str]
    staying: list[Subscription]


def groups(story: Story, cut: int) -> list[Group]:
    found: dict[str, Group] = {}
    for each in story.subscriptions:
        if each.is_shared and happened(each.asked, cut):
            group = found.setdefault(
                each.topic_filter, Group(each.topic_filter, each.qos, set(), [])
            )
            group.members.add(each.client)
            # a guest's membership ends with its connection, whatever it says
            if each.client in story.sessions and happened(each.acked, cut):
                group.staying.append(each)
    return list(found.values())


def owed_wills(story: Story, messages: Mapping[str, Message], cut: int) -> list[Message]:
    """Of connections that were open at the cut or had ended without a word: said soon after the start."""
    last: dict[str, LastWill] = {}
    again: dict[str, bool] = {}  # its client may have connected again
    for each in story.last_wills:
        if happened(each.connected, cut):
            last[each.client], again[each.client] = each, False
        elif messages[each.message].sent <= cut:
            again[each.client] = True
    return [
        messages[each.message]
        for client, each in last.items()
        if not happened(each.parted, cut)
        and min(each.delay_s, each.expiry_s) <= SOON_S
        and (each.delay_s == 0 or not again[client])
    ]
