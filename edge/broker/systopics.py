"""`$SYS`: the broker about itself, under Mosquitto's names where it has one, so that dashboards made for it work.

Values are worked out only when somebody subscribes to a filter that begins with `$SYS` (no other matches them,
[MQTT-4.7.2-1]): at once for a new subscription, then every `sys_interval`, what changed. They are retained in the sense
that a new subscriber gets them, but nothing is kept; QoS 0, never stored in the log, never queued. Clients cannot publish
there, and access rules apply as to any topic. Loads are the averages of Mosquitto: per minute, over 1, 5 and 15 minutes.
Not told, because counting it would cost every message: `bytes/sent`, `publish/bytes/…`; and what has no meaning here:
`heap/…`, `clients/expired`, `store/messages/bytes` (what waits lies in the log).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..mqtt.topics import matches
from .backlog import Delivery
from .messages import Message

if TYPE_CHECKING:
    from .broker import Broker

PREFIX = "$SYS"
_MINUTES = (1, 5, 15)


class SystemTopics:
    def __init__(self, broker: Broker, *, interval_s: float, version: str) -> None:
        self._broker = broker
        self._interval_s = interval_s
        self._version = version
        self._began = broker.clock.monotonic()
        self._clients_maximum = 0
        self._loads = {name: [0.0] * len(_MINUTES) for name in self._counts()}
        self._before = self._counts()
        self._last_at = self._began
        self._told: dict[str, str] = {}
        self._walk = (0, 0)
        self._walk_at = self._began
        broker.fanout.system = self
        self._wait()

    def matching(self, topic_filter: str) -> Iterator[Message]:
        """What a new subscription is sent."""
        for topic, text in self._values().items():
            if matches(topic_filter, topic):
                yield self._message(topic, text)

    def _wait(self) -> None:
        due = self._broker.clock.monotonic() + self._interval_s
        self._broker.deadlines.at(due, lambda _: self._round())

    def _round(self) -> None:
        broker = self._broker
        now = broker.clock.monotonic()
        self._clients_maximum = max(self._clients_maximum, len(broker.clients))
        self._average(now)
        if broker.subscriptions.has_under(PREFIX):
            values = self._values()
            for topic, text in values.items():
                if self._told.get(topic) != text:
                    self._tell(self._message(topic, text))
            self._told = values
        elif self._told:
            self._told = {}
        self._wait()

    def _tell(self, message: Message) -> None:
        for taker, _, _, as_published, identifiers in self._broker.subscriptions.targets(
            message.topic
        ):
            taker.deliver(Delivery(message, 0, as_published, identifiers), self._broker.now)

    def _message(self, topic: str, text: str) -> Message:
        broker = self._broker
        return Message(
            topic,
            text.encode(),
            retain=True,
            now=broker.now,
            generation=broker.subscriptions.generation,
        )

    def _counts(self) -> dict[str, int]:
        """What loads are taken of."""
        tally = self._broker.tally
        return {
            "messages/received": sum(tally.published),
            "messages/sent": sum(tally.delivered),
            "publish/received": sum(tally.published),
            "publish/sent": sum(tally.delivered),
            "publish/dropped": sum(tally.delivery_dropped.values()),
            "bytes/received": tally.bytes_received,
            "sockets": tally.accepted,
        }

    def _average(self, now: float) -> None:
        """Mosquitto's: an exponential mean of the rate per minute."""
        elapsed = now - self._last_at
        if elapsed <= 0:
            return
        counts = self._counts()
        for name, averages in self._loads.items():
            rate = (counts[name] - self._before[name]) * 60 / elapsed
            for index, minutes in enumerate(_MINUTES):
                decay = math.exp(-elapsed / (60 * minutes))
                averages[index] = rate + decay * (averages[index] - rate)
        self._before = counts
        self._last_at = now

    def _values(self) -> dict[str, str]:
        broker, tally = self._broker, self._broker.tally
        connected = len(broker.clients)
        waiting, groups = self._walked()
        stored = len(broker.fanout.retained) + waiting
        uptime_s = int(broker.clock.monotonic() - self._began)
        counters = {
            "clients/active": connected,
            "clients/connected": connected,
            "clients/inactive": max(0, len(broker.sessions) - connected),
            "clients/disconnected": max(0, len(broker.sessions) - connected),
            "clients/maximum": max(self._clients_maximum, connected),
            "clients/total": max(len(broker.sessions), connected),
            "messages/received": sum(tally.published),
            "messages/sent": sum(tally.delivered),
            "publish/messages/received": sum(tally.published),
            "publish/messages/sent": sum(tally.delivered),
            "publish/messages/dropped": sum(tally.delivery_dropped.values()),
            "bytes/received": tally.bytes_received,
            "messages/stored": stored,
            "store/messages/count": stored,
            "retained messages/count": len(broker.fanout.retained),
            "subscriptions/count": broker.subscriptions.count,
            "shared_subscriptions/count": groups,
        }
        values = {f"{PREFIX}/broker/{name}": str(count) for name, count in counters.items()}
        values[f"{PREFIX}/broker/version"] = self._version
        values[f"{PREFIX}/broker/uptime"] = f"{uptime_s} seconds"
        for name, averages in self._loads.items():
            for minutes, average in zip(_MINUTES, averages, strict=True):
                values[f"{PREFIX}/broker/load/{name}/{minutes}min"] = f"{average:.2f}"
        return values

    def _walked(self) -> tuple[int, int]:
        """(messages that wait, shared subscriptions): found by walking all sessions, so not for each who subscribes."""
        now = self._broker.clock.monotonic()
        if now >= self._walk_at:
            self._walk_at = now + self._interval_s
            groups = self._broker.subscriptions.groups()
            backlogs = [each.outbound.backlog for each in self._broker.sessions.values()]
            backlogs += [each.backlog for each in groups]
            self._walk = (sum(each.queued + each.behind for each in backlogs), len(groups))
        return self._walk
