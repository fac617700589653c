"""The edge at a glance: what `/status` answers with and `headwater edge status` shows.

Derived when asked from what the parts say of themselves; nothing is kept but the time of the start. Imported only where
there is an HTTP port.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..core.address import url_of
from ..core.anchor import trust_name
from ..core.disk import Disk, replace_whole
from ..core.errors import HeadwaterError
from .uplink.status import LinkOverview
from .wear.wear import WearStatus

if TYPE_CHECKING:
    from .daemon import Edge

URL_FILE = "http.url"


class JournalStatus(msgspec.Struct, frozen=True, kw_only=True):
    used_bytes: int
    limit_bytes: int
    records: int
    """Made durable since the start."""
    commits: int
    full: str | None
    stalled: str | None


class ClientsStatus(msgspec.Struct, frozen=True, kw_only=True):
    connected: int
    sessions: int
    subscriptions: int
    queued_messages: int
    published: int
    refused: int


class ListenerStatus(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    address: str
    connections: int


class EdgeStatus(msgspec.Struct, frozen=True, kw_only=True):
    edge: str
    log: str
    uptime_s: float
    not_ready: list[str]
    clock: str
    wall_ms: int
    mqtt: str
    """Where the first listener listens."""
    listeners: list[ListenerStatus]
    clients: ClientsStatus
    journal: JournalStatus
    uplink: LinkOverview | None
    wear: WearStatus | None


class Reporter:
    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._began = edge.outside.clock.monotonic()

    def status(self) -> EdgeStatus:
        edge = self._edge
        clock = edge.outside.clock
        return EdgeStatus(
            edge=edge.name,
            log=edge.journal.log_id,
            uptime_s=clock.monotonic() - self._began,
            not_ready=edge.readiness(),
            clock=trust_name(edge.anchoring.keeper.trust),
            wall_ms=clock.wall_ms(),
            mqtt=_written(edge.mqtt),
            listeners=[
                ListenerStatus(
                    name=listener.door.label,
                    address=_written(listener.address),
                    connections=listener.door.open,
                )
                for listener in edge.entrance.listeners.all
            ],
            clients=self._clients(),
            journal=self._journal(),
            uplink=None if edge.uplink is None else edge.uplink.overview(),
            wear=None if edge.wear is None else edge.wear.status(),
        )

    def json(self) -> bytes:
        return msgspec.json.encode(self.status())

    def _clients(self) -> ClientsStatus:
        broker = self._edge.broker
        return ClientsStatus(
            connected=len(broker.clients),
            sessions=len(broker.sessions),
            subscriptions=broker.subscriptions.count,
            queued_messages=sum(session.queued for session in broker.sessions.values()),
            published=sum(broker.tally.published),
            refused=sum(broker.tally.refused.values()),
        )

    def _journal(self) -> JournalStatus:
        journal = self._edge.journal
        return JournalStatus(
            used_bytes=journal.used_bytes,
            limit_bytes=journal.bytes_limit,
            records=journal.counters.records,
            commits=journal.counters.commits,
            full=journal.full,
            stalled=self._edge.committer.stalled,
        )


def _written(address: tuple[str, int]) -> str:
    """Of a unix socket the path alone."""
    host, port = address
    return f"{host}:{port}" if port else f"unix:{host}"


def write_url(disk: Disk, data_dir: str, address: tuple[str, int]) -> None:
    """Where this edge answers, for `headwater edge status --data-dir`. An edge does not fail for want of it."""
    try:
        replace_whole(disk, f"{data_dir}/{URL_FILE}", f"{url_of(address)}\n".encode())
    except HeadwaterError:
        return
