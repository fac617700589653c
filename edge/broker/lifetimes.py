"""Connections and sessions come and go: CONNECT with its negotiation, silence, the end of a connection, expiry, wills.

A connection is watched until it ends; a session lives as long as its connection and `expiry_s` beyond; a will waits
for its delay or for the session's end, whichever is first ([MQTT-3.1.3-9]). `Broker` holds the sessions and the
connections, this file alone decides which of them begin and end.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Protocol

from ...core.errors import HeadwaterError
from ...core.record import TopicPartition
from ..mqtt.packets import Connack, Connect, Version, Will
from ..mqtt.reasons import Reason, Violation
from ..mqtt.topics import is_ours
from .access.rules import Rights
from .client import Client
from .flights import Link
from .journal import Committer
from .negotiation import negotiate
from .peer import Peer
from .routing import Router
from .sessions import Session
from .settings import MqttSettings
from .transport import Pause
from .wills import Wills

if TYPE_CHECKING:
    from .broker import Broker

# How often the rim calls `tick`: the coarseness of every time-out.
TICK_S = 0.5
# A client identifier is a dictionary key and part of records: 1 KiB is more than any scheme needs.
CLIENT_ID_BYTES_MAX = 1024


class Observer(Protocol):
    """Who is told of connections: logs at the rim."""

    def connected(self, client: Client, packet: Connect) -> None: ...
    def disconnected(self, client: Peer, why: str) -> None: ...
    def crashed(self, client: Client, error: Exception) -> None: ...
    def missed(self, who: str, tp: TopicPartition, count: int) -> None:
        """So many messages that waited for a session or a group were retired, or damaged, before they were read."""


def will_delay(will: Will, session: Session, settings: MqttSettings) -> float:
    """Seconds from the end of the connection."""
    return min(
        float(will.properties.will_delay_interval or 0),
        float(settings.will_delay_max),
        session.expiry_s,  # [MQTT-3.1.3-9]: at the session's end at the latest
    )


def _is_ours(link: Link | None) -> bool:
    """Who came through no door is a part of this edge (`sources/`)."""
    return isinstance(link, Client) and link.visitor is None


class Lifetimes:
    __slots__ = ("_broker", "_committer", "_observer", "_rng", "_router", "_wills")

    def __init__(
        self,
        broker: Broker,
        router: Router,
        committer: Committer,
        *,
        rng: random.Random,
        observer: Observer | None,
    ) -> None:
        self._broker = broker
        self._router = router
        self._committer = committer
        self._rng = rng
        self._observer = observer
        self._wills = Wills(broker.gate, router, broker.book, broker.clock, broker.tally)

    def watch(self, client: Client, now: float) -> None:
        """Connect time-out, then keep-alive at one and a half times ([MQTT-3.1.2-22]); each at its next tick."""
        if client.deadline is not None:
            client.deadline.cancel()
            client.deadline = None
        if client.transport is None:
            return
        limit = (
            client.keep_alive_s * 1.5
            if client.is_open
            else float(self._broker.settings.connect_timeout)
        )
        # a connection opened with keep-alive 0 is never closed for silence; TCP's own keep-alive finds the dead
        if client.is_open and not client.keep_alive_s:
            return
        due = client.silent_since(now) + limit + TICK_S
        if now >= due:
            silent = "no packet in 1.5 x keep alive" if client.is_open else "no CONNECT in time"
            client.close(Reason.KEEP_ALIVE_TIMEOUT, silent)
        else:
            client.deadline = self._broker.deadlines.at(
                due, lambda later: self.watch(client, later)
            )

    def connect(self, client: Client, packet: Connect) -> None:
        """CONNECT. Raises Violation with the reason for CONNACK."""
        if client.surplus:
            raise Violation(Reason.SERVER_BUSY, "too many connections")
        client_id = self._identify(client, packet)
        rights = self._rights(client, client_id)
        self._check_will(packet, rights)
        session = self._broker.sessions.get(client_id)
        if session is not None and client.visitor is not None and _is_ours(session.link):
            raise Violation(Reason.CLIENT_IDENTIFIER_NOT_VALID, "it is that of a source here")
        # what one user's session holds is not for another who calls itself the same
        is_fresh = packet.clean_start or (session is not None and session.user != client.user)
        number = 0 if session is None else session.number
        if session is not None and isinstance(session.link, Client):
            # [MQTT-3.1.4-3]: the newcomer has it; its will follows the rules of a closed connection
            if is_fresh:
                session.expiry_s = 0.0
            session.link.close(Reason.SESSION_TAKEN_OVER, "connected again elsewhere")
            session = self._broker.sessions.get(client_id)
        if session is not None and is_fresh:
            self._end(session)  # [MQTT-3.1.2-4]
            session = None
        present = session is not None
        if session is None:
            if len(self._broker.sessions) >= self._broker.settings.sessions_max:
                raise Violation(Reason.QUOTA_EXCEEDED, "too many sessions")
            session = self._broker.sessions[client_id] = Session(client_id, self._broker.departures)
        session.user, session.rights = client.user, rights
        session.settle()
        session.will = None  # [MQTT-3.1.3-9]: it came back before the delay was over
        session.left = None
        connack = negotiate(client, packet, session, self._broker.settings, present=present)
        client.attach(session, self._router.routes(client_id, rights))
        commit = self._broker.book.opened(session, fresh=not present, will=packet.will)
        if number and self._broker.book.session(number) is None:
            # a kept one ended just now; no crash may bring it back after this CONNACK ([MQTT-3.1.2-4])
            commit = max(commit, self._broker.gate.commit)
        if commit <= self._broker.gate.durable:
            self._open(client, packet, connack)
        else:
            client.writable = False  # nothing goes out before CONNACK
            client.hold_off(Pause.CONNECT)
            self._broker.gate.promise(commit, lambda: self._go_on(client, packet, connack))

    def _go_on(self, client: Client, packet: Connect, connack: Connack) -> None:
        """What CONNACK says of the session is durable."""
        if client.transport is None:
            return
        client.writable = True
        try:
            self._open(client, packet, connack)
        except Violation as violation:
            client.close(violation.reason, str(violation))
        else:
            client.go_on(Pause.CONNECT)

    def _open(self, client: Client, packet: Connect, connack: Connack) -> None:
        client.send(client.connection.accept(connack))
        client.will = packet.will
        client.resumed = connack.session_present
        if self._observer is not None:
            self._observer.connected(client, packet)
        if connack.session_present and client.session is not None:
            compared = self._broker.fanout.resume(client.session)
            client.session.resend(self._broker.now)
            client.pay_for(compared)
        self.watch(client, self._broker.now)

    def _identify(self, client: Client, packet: Connect) -> str:
        if packet.properties.authentication_method is not None:
            raise Violation(Reason.BAD_AUTHENTICATION_METHOD, "no enhanced authentication here")
        visitor = client.visitor
        if visitor is not None and visitor.user and visitor.door.settings.user_as_client_id:
            return visitor.user
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
            if assigned not in self._broker.sessions:
                return assigned

    def _check_will(self, packet: Connect, rights: Rights | None) -> None:
        will = packet.will
        if will is None:
            return
        if is_ours(will.topic):
            raise Violation(Reason.TOPIC_NAME_INVALID, f"a will to {will.topic[:80]!r}")
        if rights is not None and not rights.may_write(will.topic):
            raise Violation(Reason.NOT_AUTHORIZED, f"a will to {will.topic[:80]!r}")

    def gone(self, client: Peer, why: str) -> None:
        """The connection is over, for whatever reason; called once."""
        self._broker.clients.discard(client)
        if client.deadline is not None:
            client.deadline.cancel()
        session = client.session
        if session is not None and session.link is client:
            # not the tick's: what is counted from here may end late, but not before its time
            now = self._broker.clock.monotonic()
            session.unbind(now)
            will = client.will
            client.will = None
            if will is not None:
                delay_s = will_delay(will, session, self._broker.settings)
                session.will = will
                session.will_delay_s = delay_s
                if delay_s > 0:
                    self._let_will_wait(session, now + delay_s)
                else:
                    self._publish_will(session)
            if session.expiry_s <= 0:
                is_noted = session.will_number > 0
                self._end(session)
                if is_noted:
                    self._committer.request()  # it was said, or given up: not again after a restart
            else:
                self._broker.book.left(session)
                self._committer.request()
                self._let_expire(session)
        if self._observer is not None:
            self._observer.disconnected(client, why)

    def _rights(self, client: Client, client_id: str) -> Rights | None:
        """Who came through no door is a part of this edge (`sources/`): whoever wrote its settings has let it in."""
        return None if client.visitor is None else self._broker.rights(client.user, client_id)

    def judge_again(self) -> None:
        """The access rules changed: at once for publishes and deliveries; who is connected stays so."""
        broker = self._broker
        for session in broker.sessions.values():
            client = session.link
            if isinstance(client, Client):
                session.rights = self._rights(client, session.client_id)
            else:
                session.rights = broker.rights(session.user, session.client_id)
            session.outbound.filters_generation += (
                1  # what it remembers of topics is of the old rules
            )
            if isinstance(client, Client):
                client.use(self._router.routes(session.client_id, session.rights))

    def _let_will_wait(self, session: Session, due: float) -> None:
        session.will_due = self._broker.deadlines.at(due, lambda _: self._will_due(session))

    def _let_expire(self, session: Session) -> None:
        session.end_due = self._broker.deadlines.at(session.ends_at, lambda _: self._end(session))

    def adopt(self, session: Session) -> None:
        """A session that was here before the restart: what it waits for goes on waiting."""
        left = session.left
        away_s = 0.0 if left is None else self._broker.moments.elapsed_s(left)
        if left is None:
            # its connection ended with us, in no orderly way: since when is not known, so since now
            session.left = self._broker.moments.now()
            if session.will is not None:
                session.will_delay_s = will_delay(session.will, session, self._broker.settings)
        session.ends_at = self._broker.clock.monotonic() + max(0.0, session.expiry_s - away_s)
        if session.expiry_s <= away_s:
            self._end(session)
            return
        self._let_expire(session)
        if session.will is not None:
            if session.will_delay_s > away_s:
                self._let_will_wait(session, self._broker.now + session.will_delay_s - away_s)
            else:
                self._publish_will(session)
        self._broker.book.left(session)

    def _end(self, session: Session) -> None:
        """The session and all that hangs on it; a will that still waits is due ([MQTT-3.1.2-8])."""
        if self._broker.sessions.get(session.client_id) is not session:
            return
        del self._broker.sessions[session.client_id]
        session.settle()
        self._broker.subscriptions.remove_session(session)
        self._broker.book.ended(session)
        session.outbound.close()
        if session.will is not None:
            self._publish_will(session)

    def _will_due(self, session: Session) -> None:
        if session.will is not None and session.link is None:
            self._publish_will(session)
            self._broker.book.left(session)  # in the same commit: it is published once

    def _publish_will(self, session: Session) -> None:
        try:
            self._wills.publish(session, self._broker.now, self._broker.subscriptions.generation)
        except HeadwaterError as error:
            self._broker.tally.refused[f"will: {type(error).__name__.lower()}"] += 1
        else:
            self._committer.request()
