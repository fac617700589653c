"""The second judge: a daemon that was started on a crash state, and clients that came back to it.

  sessions     one whose CONNACK was read before the cut is present
  repeats      what had no acknowledgement and was sent again as DUP is acknowledged (and the log then holds it once)
  retained     a topic shows what was retained last, or what was sent later
  subscribers  get all that was acknowledged for a SUBACKed subscription, before the cut or after it; at QoS 1 perhaps again,
               at QoS 2 once over both lives
  unsubscribed nothing that was sent after an UNSUBACK

Knows neither sockets nor files. What a count says about the world at a cut: story.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .publishers import Message
from .story import Delivery, Story, happened


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


def to_repeat(messages: Mapping[str, Message], client: str, cut: int) -> list[Message]:
    """What a client sends again: surely not acknowledged in that world. In the order of sending."""
    return sorted(
        (
            each
            for each in messages.values()
            if each.client == client
            and each.lasting
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
    story: Story
    messages: Mapping[str, Message]  # as they stand after the repeats
    cut: int
    claims: Counter[str] = field(default_factory=Counter)

    def violations(self, met: Returned) -> list[str]:
        return [
            *self._sessions(met),
            *self._repeats(met),
            *self._retained(met),
            *self._subscribers(met),
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
        for client, deliveries in met.deliveries.items():
            before = [
                each
                for each in self.story.deliveries
                if each.client == client and happened(each.received, self.cut)
            ]
            if client in met.silent:
                yield f"undelivered: {client} waits in vain for what was published after the start"
            yield from self._deliveries(client, before, deliveries, met.released.get(client, []))

    def _deliveries(
        self,
        client: str,
        before: list[Delivery],
        deliveries: list[tuple[bytes, int, int]],
        released: list[tuple[int, int]],
    ) -> Iterator[str]:
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
        yield from self._undelivered(client, names)

    def _allowed(self, client: str, message: Message) -> bool:
        return any(
            each.client == client and each.allows(message.topic, message.sent, self.cut)
            for each in self.story.subscriptions
        )

    def _undelivered(self, client: str, names: set[str]) -> Iterator[str]:
        subscriptions = [each for each in self.story.subscriptions if each.client == client]
        self.claims["subscriptions"] += sum(
            happened(each.acked, self.cut) for each in subscriptions
        )
        for message in self.messages.values():
            if not happened(message.acked, self.cut) or not any(
                each.promises(message.topic, message.sent, self.cut) for each in subscriptions
            ):
                continue
            self.claims["promised to subscribers"] += 1
            if message.name not in names:
                yield f"undelivered: {message.name} to {client}"
