"""The journal of connections: who came, from where, who was refused and why, who went and why. Log lines, and records.

Records of the stream `_connections` in the same log as everything else, so they reach the lake with it:

    {"event": "connected", "client": "k1", "user": "kitchen", "listener": "tls", "address": "10.0.0.7:50122",
     "protocol": "mqtt 5", "reason": ""}

`connected`; `disconnected`: a session was open, `reason` says how it ended; `refused`: CONNECT was answered with a refusal,
or never came (`client` and `user` are then only what it claimed); `turned away`: closed at the door. `many`: `count` events
of one kind that were too many to be written one by one.

Flash: nothing is written while nobody comes and goes. Events gather in memory and are appended together every `interval`;
of one interval at most `records_max` are written one by one, the rest as one record for each (event, listener, reason). So
a flood of any size costs one commit and some kilobytes an interval. What was gathered when the power goes is lost: it is a
journal of connections, not of what they brought. The end of the process writes what was gathered.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import structlog

from ..core.errors import HeadwaterError, Misconfigured
from ..core.record import TopicPartition
from ..core.units import Duration
from .broker.client import Client
from .broker.listening.door import Door
from .broker.peer import Peer
from .mqtt.packets import Connect, Version

if TYPE_CHECKING:
    from .broker.broker import Broker
    from .broker.journal import Journal

CONNECTIONS_STREAM = "_connections"
CONNECTIONS_PARTITION = TopicPartition(CONNECTIONS_STREAM, 0)
# Kinds of events that are counted apart within an interval; the rest are "other". Reasons are our own words: few.
KINDS_MAX = 64
# Of a reason or a claimed name: a client identifier may have 64 KiB.
TEXT_CHARACTERS_MAX = 200
_PROTOCOLS = {Version.V311: "mqtt 3.1.1", Version.V5: "mqtt 5"}


class VisitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    journal: bool = True
    """Write who connected, was refused and went as records of the stream _connections."""
    interval: Duration = Duration(10)
    """How long events gather before they are written: one commit at most for each, and none while nothing happens."""
    records_max: int = 50
    """Events of one interval written one by one, about 250 bytes each; beyond it they are counted by kind."""

    def check(self) -> None:
        """Raises Misconfigured."""
        if self.records_max < 0:
            raise Misconfigured("edge.connections.records_max must be at least 0")


class Visit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    event: str
    client: str = ""
    user: str | None = None
    listener: str = ""
    address: str = ""
    protocol: str = ""
    reason: str = ""
    count: int = 1


class Visits:
    """An Observer of the broker, told by doors as well."""

    def __init__(self, settings: VisitSettings) -> None:
        self.settings = settings
        self._log = structlog.get_logger("edge.mqtt")
        self._broker: Broker | None = None
        self._journal: Journal | None = None
        self._gathered: list[tuple[int, Visit]] = []
        self._beyond: Counter[tuple[str, str, str]] = Counter()
        self._is_due = False
        self.lost = 0  # events that the log had no room for

    def attach(self, broker: Broker, journal: Journal) -> None:
        self._broker = broker
        self._journal = journal

    # --- Observer ---------------------------------------------------------------------------------------------

    def connected(self, client: Client, packet: Connect) -> None:
        self._tell(client, "connected", "", _PROTOCOLS[packet.version])

    def disconnected(self, client: Peer, why: str) -> None:
        if client.session is not None:
            self._tell(client, "disconnected", why, "")
        else:
            self._tell(client, "refused", why, "")

    def crashed(self, client: Client, error: Exception) -> None:
        self._log.error(
            "client closed for an internal error", client=client.client_id, exc_info=error
        )

    def missed(self, who: str, tp: TopicPartition, count: int) -> None:
        self._log.warning(
            "messages were gone from the log before their subscriber came for them",
            subscriber=who,
            partition=str(tp),
            messages_at_most=count,
        )

    def turned_away(self, door: Door, address: str, reason: str) -> None:
        visit = Visit(event="turned away", listener=door.label, address=address, reason=reason)
        self._log.debug("client turned away", listener=door.label, address=address, reason=reason)
        self._gather(visit)

    def _tell(self, client: Peer, event: str, reason: str, protocol: str) -> None:
        visitor = client.visitor
        name, user = client.client_id, client.user
        if event == "refused" and visitor is not None:
            name, user = visitor.claimed[0], visitor.claimed[1] or None
        visit = Visit(
            event=event,
            client=name[:TEXT_CHARACTERS_MAX],
            user=None if user is None else user[:TEXT_CHARACTERS_MAX],
            listener="" if visitor is None else visitor.door.label,
            address="" if visitor is None else visitor.address,
            protocol=protocol,
            reason=reason[:TEXT_CHARACTERS_MAX],
        )
        self._log.debug(
            f"client {event}",
            client=visit.client,
            user=visit.user,
            listener=visit.listener,
            address=visit.address,
            reason=visit.reason,
        )
        self._gather(visit)

    # --- records ----------------------------------------------------------------------------------------------

    def _gather(self, visit: Visit) -> None:
        broker = self._broker
        if not self.settings.journal or broker is None:
            return
        if len(self._gathered) < self.settings.records_max:
            self._gathered.append((broker.clock.wall_ms(), visit))
        else:
            kind = (visit.event, visit.listener, visit.reason.partition(":")[0])
            if kind not in self._beyond and len(self._beyond) >= KINDS_MAX:
                kind = ("other", "", "")
            self._beyond[kind] += 1
        if not self._is_due:
            self._is_due = True
            due = broker.clock.monotonic() + float(self.settings.interval)
            broker.deadlines.at(due, lambda _: self.flush())

    def flush(self) -> None:
        """Append what gathered; the caller's next commit takes it."""
        self._is_due = False
        broker, journal = self._broker, self._journal
        if broker is None or journal is None or not (self._gathered or self._beyond):
            return
        now_ms = broker.clock.wall_ms()
        counted = [
            (
                now_ms,
                Visit(event="many", listener=listener, reason=f"{event}: {reason}", count=count),
            )
            for (event, listener, reason), count in self._beyond.items()
        ]
        visits = [*self._gathered, *counted]
        self._gathered = []
        self._beyond.clear()
        writer = journal.writer(CONNECTIONS_PARTITION)
        try:
            while visits:
                at_ms, visit = visits[0]
                writer.append(at_ms, visit.client.encode() or None, msgspec.json.encode(visit))
                visits.pop(0)
        except HeadwaterError as error:
            self.lost += sum(visit.count for _, visit in visits)
            self._log.warning("connections not written down", count=self.lost, reason=str(error))
        broker.received()
