"""The broker: who is connected and what sessions exist. One thread; no call in here waits.

It owns what clients share: the gate, routes, the fan-out, deadlines, and the decision to pause reading. The rim
(`listener.py`) calls `tick` and gives each TCP connection a `Client`; the committer calls `on_durable`. Time moves in
ticks: `now` is the time of the last one, and nothing times out early for it.
"""

from __future__ import annotations

import random
from typing import Protocol

from ...core.clock import Clock
from ...core.errors import HeadwaterError
from ..mqtt.packets import Connack, Connect, Version
from ..mqtt.properties import Properties
from ..mqtt.reasons import Reason, Violation
from ..streams import StreamTable
from .client import Client
from .deadlines import Deadlines
from .fanout import Fanout
from .gate import Gate
from .journal import Committer, Journal
from .peer import Peer
from .routing import Router
from .sessions import Session
from .settings import MqttSettings
from .tally import Tally
from .transport import Pause
from .wills import Wills

# How often the rim calls `tick`: the coarseness of every time-out.
TICK_S = 0.5
# MQTT 5: this session expiry means never.
NEVER = 0xFFFFFFFF
# A client identifier is a dictionary key and part of records: 1 KiB is more than any scheme needs.
CLIENT_ID_BYTES_MAX = 1024


class Observer(Protocol):
    """Who is told of connections: logs at the rim."""

    def connected(self, client: Client, packet: Connect) -> None: ...
    def disconnected(self, client: Peer, why: str) -> None: ...
    def crashed(self, client: Client, error: Exception) -> None: ...


class Broker:
    def __init__(
        self,
        journal: Journal,
        committer: Committer,
        *,
        streams: StreamTable,
        settings: MqttSettings,
        clock: Clock,
        rng: random.Random,
        observer: Observer | None = None,
    ) -> None:
        settings.check()
        self.settings = settings
        self.clock = clock
        self.now = clock.monotonic()
        self.tally = Tally()
        self.deadlines = Deadlines()
        self.fanout = Fanout(settings, self.tally, self)
        self.subscriptions = self.fanout.subscriptions
        self.gate = Gate(journal, committer, self.fanout.deliver)
        self.sessions: dict[str, Session] = {}
        self.clients: set[Peer] = set()
        self.dirty: list[Peer] = []  # clients with gathered output
        self.paused: str | None = None  # why nobody is read
        self._router = Router(streams, journal)
        self._wills = Wills(self.gate, self._router, clock, self.tally)
        self._journal = journal
        self._committer = committer
        self._rng = rng
        self._observer = observer
        self._closing = False
        committer.add_listener(self.on_durable)

    # --- the rim calls ----------------------------------------------------------------------------------------

    def client(self) -> Client:
        """For a connection just accepted."""
        return Client(self)

    def tick(self) -> None:
        self.now = self.clock.monotonic()
        self.deadlines.run(self.now)
        self._review_disk()
        self.flush()

    def on_durable(self, commit: int) -> None:
        self.gate.on_durable(commit)
        if self.paused is not None:
            self._review_disk()
        if self.dirty:
            self.flush()

    def received(self) -> None:
        """After each read of a client: ask for the commit, write what gathered, look at the disk's backlog."""
        if self._journal.pending_bytes:
            self._committer.request()
        if self.dirty:
            self.flush()
        if self._journal.overfull and self.paused is None:
            self._review_disk()

    @property
    def pending(self) -> bool:
        """Something was taken that is not durable yet."""
        return self._journal.pending_bytes > 0

    def flush(self) -> None:
        dirty = self.dirty
        while dirty:
            dirty.pop().flush()

    def pause_all(self, why: str) -> None:
        if self.paused is None:
            self.tally.paused += 1
            for client in self.clients:
                client.pause(Pause.DISK)
        self.paused = why

    def resume_all(self) -> None:
        self.paused = None
        for client in self.clients:
            client.resume(Pause.DISK)

    def _review_disk(self) -> None:
        if self._closing:
            return
        if self._committer.stalled is not None:
            self.pause_all(self._committer.stalled)
        elif self._journal.overfull:
            self.pause_all("the disk is slower than the publishers")
        elif self.paused is not None:
            self.resume_all()

    def stop_reading(self) -> None:
        """First half of an orderly end: take nothing more; what was taken can still be acknowledged."""
        self._closing = True
        self.pause_all("shutting down")

    def close(self) -> None:
        """Second half: say goodbye to everybody. Wills are published: the clients did not choose to go."""
        for client in tuple(self.clients):
            client.close(Reason.SERVER_SHUTTING_DOWN, "the broker is stopping")
        for session in self.sessions.values():
            if session.will is not None:
                self._publish_will(session)  # its delay outlives us, its session does not

    # --- connections ------------------------------------------------------------------------------------------

    def admit(self, client: Client) -> None:
        self.tally.accepted += 1
        self.clients.add(client)
        if self._closing or len(self.clients) > self.settings.connections_max:
            # before CONNECT: there is no version to answer in
            client.close(Reason.SERVER_BUSY, "too many connections")
            return
        if self.paused is not None:
            client.pause(Pause.DISK)
        self._watch(client, self.now)

    def _watch(self, client: Client, now: float) -> None:
        """Connect time-out, then keep-alive at one and a half times ([MQTT-3.1.2-22]); each at its next tick."""
        if client.deadline is not None:
            client.deadline.cancel()
            client.deadline = None
        if client.transport is None:
            return
        limit = (
            client.keep_alive_s * 1.5 if client.is_open else float(self.settings.connect_timeout)
        )
        # a connection opened with keep-alive 0 is never closed for silence; TCP's own keep-alive finds the dead
        if client.is_open and not client.keep_alive_s:
            return
        due = client.silent_since(now) + limit + TICK_S
        if now >= due:
            silent = "no packet in 1.5 x keep alive" if client.is_open else "no CONNECT in time"
            client.close(Reason.KEEP_ALIVE_TIMEOUT, silent)
        else:
            client.deadline = self.deadlines.at(due, lambda later: self._watch(client, later))

    def connect(self, client: Client, packet: Connect) -> None:
        """CONNECT. Raises Violation with the reason for CONNACK."""
        client_id = self._identify(packet)
        self._check_will(packet)
        session = self.sessions.get(client_id)
        if session is not None and isinstance(session.link, Client):
            # [MQTT-3.1.4-3]: the newcomer has it; its will follows the rules of a closed connection
            if packet.clean_start:
                session.expiry_s = 0.0
            session.link.close(Reason.SESSION_TAKEN_OVER, "connected again elsewhere")
            session = self.sessions.get(client_id)
        if session is not None and packet.clean_start:
            self._end(session)  # [MQTT-3.1.2-4]
            session = None
        present = session is not None
        if session is None:
            if len(self.sessions) >= self.settings.sessions_max:
                raise Violation(Reason.QUOTA_EXCEEDED, "too many sessions")
            session = self.sessions[client_id] = Session(client_id, self.settings, self.tally)
        session.settle()
        session.will = None  # [MQTT-3.1.3-9]: it came back before the delay was over
        connack = self._negotiate(client, packet, session, present)
        client.attach(session, self._router.routes(client_id))
        client.send(client.connection.accept(connack))
        client.will = packet.will
        if self._observer is not None:
            self._observer.connected(client, packet)
        if present:
            session.resend(self.now)
        self._watch(client, self.now)

    def _identify(self, packet: Connect) -> str:
        if packet.properties.authentication_method is not None:
            raise Violation(Reason.BAD_AUTHENTICATION_METHOD, "no enhanced authentication here")
        if len(packet.client_id.encode()) > CLIENT_ID_BYTES_MAX:
            raise Violation(
                Reason.CLIENT_IDENTIFIER_NOT_VALID,
                f"client identifier above {CLIENT_ID_BYTES_MAX} bytes",
            )
        if packet.client_id:
            return packet.client_id
        if packet.version is Version.V311 and not packet.clean_start:
            # [MQTT-3.1.3-8]
            raise Violation(Reason.CLIENT_IDENTIFIER_NOT_VALID, "a kept session needs a name")
        while True:
            assigned = f"hw-{self._rng.getrandbits(64):016x}"  # [MQTT-3.1.3-6], [-7]
            if assigned not in self.sessions:
                return assigned

    def _check_will(self, packet: Connect) -> None:
        if packet.will is not None and packet.will.topic.startswith("$"):
            raise Violation(Reason.TOPIC_NAME_INVALID, "a will must not be published to $ topics")

    def _negotiate(
        self, client: Client, packet: Connect, session: Session, present: bool
    ) -> Connack:
        settings, wanted = self.settings, packet.properties
        client.keep_alive_s = float(packet.keep_alive)
        if packet.version is Version.V311:
            session.expiry_s = 0.0 if packet.clean_start else float(settings.session_expiry_max)
            return Connack(session_present=present)
        client.window = min(client.window, wanted.receive_maximum or 0xFFFF)
        asked_s = wanted.session_expiry_interval or 0
        session.expiry_s = self.session_expiry(asked_s)
        keep_alive = None
        if 0 < settings.keep_alive_max < (packet.keep_alive or 0x10000):
            keep_alive = settings.keep_alive_max  # [MQTT-3.1.2-21]
            client.keep_alive_s = float(keep_alive)
        properties = Properties(
            session_expiry_interval=None if asked_s == session.expiry_s else int(session.expiry_s),
            receive_maximum=settings.receive_maximum,
            maximum_packet_size=settings.packet_bytes_max,
            topic_alias_maximum=settings.topic_alias_max,
            shared_subscription_available=0,
            assigned_client_identifier=None if packet.client_id else session.client_id,
            server_keep_alive=keep_alive,
        )
        return Connack(session_present=present, properties=properties)

    def session_expiry(self, asked_s: int) -> float:
        """What we grant. `NEVER` is not granted: what is bounded by nothing fills the memory of something."""
        return min(float(asked_s), float(self.settings.session_expiry_max))

    def gone(self, client: Peer, why: str) -> None:
        """The connection is over, for whatever reason; called once."""
        self.clients.discard(client)
        if client.deadline is not None:
            client.deadline.cancel()
        session = client.session
        if session is not None and session.link is client:
            session.unbind(self.now)
            will = client.will
            client.will = None
            if will is not None:
                delay_s = min(
                    float(will.properties.will_delay_interval or 0),
                    float(self.settings.will_delay_max),
                    session.expiry_s,  # [MQTT-3.1.3-9]: at the session's end at the latest
                )
                session.will = will
                if delay_s > 0:
                    due = self.now + delay_s
                    session.will_due = self.deadlines.at(due, lambda _: self._will_due(session))
                else:
                    self._publish_will(session)
            if session.expiry_s <= 0:
                self._end(session)
            else:
                session.end_due = self.deadlines.at(session.ends_at, lambda _: self._end(session))
        if self._observer is not None:
            self._observer.disconnected(client, why)

    def crashed(self, client: Client, error: Exception) -> None:
        self.tally.crashes += 1
        if self._observer is not None:
            self._observer.crashed(client, error)

    def _end(self, session: Session) -> None:
        """The session and all that hangs on it; a will that still waits is due ([MQTT-3.1.2-8])."""
        if self.sessions.get(session.client_id) is not session:
            return
        del self.sessions[session.client_id]
        session.settle()
        self.subscriptions.remove_session(session)
        if session.will is not None:
            self._publish_will(session)

    def _will_due(self, session: Session) -> None:
        if session.will is not None and session.link is None:
            self._publish_will(session)

    def _publish_will(self, session: Session) -> None:
        try:
            self._wills.publish(session, self.now, self.subscriptions.generation)
        except HeadwaterError as error:
            self.tally.refused[f"will: {type(error).__name__.lower()}"] += 1
        else:
            self._committer.request()
