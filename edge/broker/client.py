"""One client: the joint between a transport, its protocol state, its session and the broker. By shape an asyncio
Protocol, but it knows no loop: a transport is anything that can write, close, and pause reading.

What it holds back: acknowledgements, until `release` says that their commit is durable. What stops it from being read
(`Pause`): the disk is behind, its own unacknowledged publishes, or its not reading what we write.

The hot path is `data_received` → `_take_run` → (the disk) → `release`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.errors import Closed, Refused, Unavailable
from ..mqtt.connection import Run, ServerConnection, State, forwarded
from ..mqtt.encoding import PINGRESP
from ..mqtt.packets import (
    Acknowledgement,
    Auth,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Pingreq,
    Publish,
    Subscribe,
    Unsubscribe,
    Version,
    Will,
)
from ..mqtt.reasons import Reason, Violation, protocol_error
from .messages import Message
from .routing import Route, Routes, TopicRefused, refusal
from .transport import Pause, Transport

if TYPE_CHECKING:
    from .broker import Broker
    from .deadlines import Deadline
    from .sessions import Session


class Client:
    __slots__ = (
        "_acks",
        "_broker",
        "_commit",
        "_connection",
        "_held",
        "_made_at",
        "_older",
        "_out",
        "_out_bytes",
        "_paused",
        "_pubrecs",
        "_routes",
        "_session",
        "_unread",
        "deadline",
        "heard_at",
        "keep_alive_s",
        "receive_maximum",
        "transport",
        "version",
        "will",
        "window",
        "writable",
    )

    def __init__(self, broker: Broker) -> None:
        settings = broker.settings
        self._broker = broker
        self._connection = ServerConnection(
            packet_bytes_max=settings.packet_bytes_max, topic_alias_max=settings.topic_alias_max
        )
        self._session: Session | None = None
        self._routes: Routes | None = None
        self.transport: Transport | None = None
        self.version = Version.V311
        self.will: Will | None = None
        self.window = settings.inflight_max
        self.receive_maximum = settings.receive_maximum
        self.writable = True
        self.keep_alive_s = 0.0
        self.heard_at = broker.now
        self._made_at = broker.now
        self.deadline: Deadline | None = None  # of CONNECT, then of the next packet
        self._paused = 0
        self._unread = 0
        # acknowledgements held: of the newest commit, and of those before it
        self._commit = -1
        self._acks: list[bytes] = []
        self._older: list[tuple[int, list[bytes]]] = []
        self._held = 0
        self._pubrecs = 0  # ... of which PUBREC
        self._out: list[bytes] = []
        self._out_bytes = 0

    @property
    def client_id(self) -> str:
        return "" if self._session is None else self._session.client_id

    @property
    def session(self) -> Session | None:
        return self._session

    @property
    def is_open(self) -> bool:
        return self._connection.state is State.OPEN

    # --- called by the transport ------------------------------------------------------------------------------

    def connection_made(self, transport: Transport) -> None:
        self.transport = transport
        self._broker.admit(self)

    def data_received(self, data: bytes) -> None:
        broker = self._broker
        self.heard_at = broker.now
        broker.tally.bytes_received += len(data)
        connection = self._connection
        try:
            connection.feed(data)
            while True:
                run = connection.publishes()
                if run:
                    self._take_run(run)
                packet = connection.next_packet()
                if packet is None:
                    break
                self._take(packet)
        except Violation as violation:
            self.close(violation.reason, str(violation))
        except Exception as error:  # the connection boundary: one client's trouble stays its own
            broker.crashed(self, error)
            self.close(Reason.UNSPECIFIED_ERROR, "internal error")
        broker.received()

    def eof_received(self) -> bool:
        """Half-open MQTT connections have no meaning: close, and do not wait for one that reads no more."""
        if self.transport is not None:
            self._connection.farewell(Reason.UNSPECIFIED_ERROR)
            self._shut()
            self._gone("closed by the client")
        return False

    def connection_lost(self, error: BaseException | None) -> None:
        if self.transport is not None:
            self._connection.farewell(Reason.UNSPECIFIED_ERROR)
            self._gone("connection lost")

    def pause_writing(self) -> None:
        self.writable = False
        self.pause(Pause.WRITE)

    def resume_writing(self) -> None:
        self.writable = True
        self.resume(Pause.WRITE)
        if self._session is not None:
            self._session.pump(self._broker.now)
        self._broker.flush()

    # --- publishes in -----------------------------------------------------------------------------------------

    def _take_run(self, run: Run) -> None:
        broker = self._broker
        routes = self._routes
        session = self._session
        assert routes is not None
        assert session is not None
        known = routes.young
        generation = broker.subscriptions.generation
        now_ms = broker.clock.wall_ms()
        published = broker.tally.published
        acks: list[bytes] = []
        unacknowledged = len(run)
        for topic, payload, puback in run:
            route = known.get(topic)
            try:
                if route is None:
                    route = routes.find(topic)
                route.append(now_ms, route.key, payload, route.headers)
            except (TopicRefused, Refused, Unavailable, Closed) as error:
                if isinstance(error, Violation) and not isinstance(error, TopicRefused):
                    raise
                # everything before it keeps its place in the order of acknowledgements
                self._hold(acks)
                published[1] += len(acks)
                unacknowledged -= len(acks) + 1
                acks = []
                self._refuse(error, 1 if puback else 0, int.from_bytes(puback[2:], "big"))
                continue
            if route.quiet != generation:
                self._offer(route, payload, 1 if puback else 0)
            if puback:
                acks.append(puback)
        published[1] += len(acks)
        published[0] += unacknowledged - len(acks)
        self._hold(acks)

    def _offer(self, route: Route, payload: bytes, qos: int) -> None:
        """Somebody may want it; where nobody does, the route remembers."""
        broker = self._broker
        if broker.subscriptions.targets(route.topic):
            message = Message(
                route.topic,
                payload,
                qos=qos,
                publisher=self.client_id,
                now=broker.now,
                generation=broker.subscriptions.generation,
            )
            broker.gate.wait_message(message)
        else:
            route.quiet = broker.subscriptions.generation

    def _take_publish(self, packet: Publish) -> None:
        """Any PUBLISH, with all that it may carry."""
        session, routes, broker = self._session, self._routes, self._broker
        assert session is not None
        assert routes is not None
        if packet.qos == 2 and packet.packet_id in session.incoming:
            broker.tally.repeated += 1  # [MQTT-4.3.3-10]: not a new message
            self._hold_pubrec(packet.packet_id, session.incoming[packet.packet_id])
            return
        try:
            route = routes.find(packet.topic.encode())
            route.append(broker.clock.wall_ms(), route.key, packet.payload, route.headers)
        except (TopicRefused, Refused, Unavailable, Closed) as error:
            self._refuse(error, packet.qos, packet.packet_id)
            return
        broker.tally.published[packet.qos] += 1
        commit = broker.gate.commit
        if packet.retain or broker.subscriptions.targets(packet.topic):
            message = Message.of(
                forwarded(packet), session.client_id, broker.now, broker.subscriptions.generation
            )
            broker.gate.wait_message(message)
        if packet.qos == 1:
            self._hold([b"\x40\x02" + packet.packet_id.to_bytes(2, "big")])
        elif packet.qos == 2:
            session.incoming[packet.packet_id] = commit
            self._hold_pubrec(packet.packet_id, commit)
            self._check_incoming(session)

    def _refuse(self, error: Exception, qos: int, packet_id: int) -> None:
        """A publish that is not taken. MQTT 5 can say so; 3.1.1 can only be closed ([MQTT-3.3.5-2])."""
        reason = refusal(error)
        self._broker.tally.refused[reason.name.lower()] += 1
        if qos == 0:
            return
        if self.version is Version.V311:
            raise Violation(reason, str(error))
        kind = PacketType.PUBACK if qos == 1 else PacketType.PUBREC
        answer = self._connection.encode(Acknowledgement(kind, packet_id, reason))
        if answer is None:
            return  # it takes no packet of five bytes: unacknowledged says the same
        if self._acks:
            self._acks.append(answer)
            self._held += 1
            self._pubrecs += qos == 2
        else:
            self.send(answer)

    def _hold_pubrec(self, packet_id: int, commit: int) -> None:
        pubrec = b"\x50\x02" + packet_id.to_bytes(2, "big")
        if commit <= self._broker.gate.durable:
            self.send(pubrec)
        else:
            self._pubrecs += 1
            self._hold_for(commit, pubrec)

    def _hold(self, acks: list[bytes]) -> None:
        """Keep acknowledgements until the open commit is durable."""
        if not acks:
            return
        gate = self._broker.gate
        if self._commit == gate.commit:
            self._acks += acks
        else:
            if self._acks:
                self._older.append((self._commit, self._acks))
            self._acks = acks
            self._commit = gate.wait(self)
        self._held += len(acks)
        if self._held >= self.receive_maximum:
            if self.version is Version.V5:
                assert self._session is not None
                self._check_incoming(self._session)
            else:
                self.pause(Pause.WINDOW)  # nobody told it of a limit

    def _hold_for(self, commit: int, ack: bytes) -> None:
        """Keep one until `commit` is durable; the open one may stay open until somebody else publishes."""
        gate = self._broker.gate
        if commit == gate.commit:
            self._hold([ack])
            return
        self._held += 1
        if commit == self._commit:
            self._acks.append(ack)
            return
        if not self._older or self._older[-1][0] != commit:
            # the disk has one commit at a time, so this is the newest of those before the open one
            self._older.append((commit, []))
            gate.wait_for(self, commit)
        self._older[-1][1].append(ack)

    def _check_incoming(self, session: Session) -> None:
        """[MQTT-3.3.4-7]. PUBREC frees nothing: a QoS 2 publish counts until its PUBCOMP ([MQTT-3.3.4-9]).

        Of a 3.1.1 client only what it never releases is counted against it.
        """
        unfinished = len(session.incoming)
        if self.version is Version.V5:
            unfinished += self._held - self._pubrecs
        if unfinished > self.receive_maximum:
            raise Violation(Reason.RECEIVE_MAXIMUM_EXCEEDED, f"{unfinished} publishes in flight")

    def release(self, commit: int) -> None:
        """Commit `commit` and all before it are on disk: their acknowledgements go out, in order."""
        acks = self._acks
        if self._commit > commit:
            acks = []
        else:
            self._acks = []
            self._commit = -1
        if self._older:
            acks = self._pop_older(commit) + acks
        self._held -= len(acks)
        if self._pubrecs:
            self._pubrecs -= sum(ack[0] == 0x50 for ack in acks)
        if self.transport is None or not acks:
            return
        self._broker.tally.acknowledged += len(acks)
        data = acks[0] if len(acks) == 1 else b"".join(acks)
        if self._out:
            self.send(data)
        else:
            self.transport.write(data)
        if self._paused & Pause.WINDOW and self._held <= self.receive_maximum // 2:
            self.resume(Pause.WINDOW)

    def _pop_older(self, commit: int) -> list[bytes]:
        acks: list[bytes] = []
        while self._older and self._older[0][0] <= commit:
            acks += self._older.pop(0)[1]
        return acks

    # --- everything else in -----------------------------------------------------------------------------------

    def _take(self, packet: Packet) -> None:
        match packet:
            case Publish():
                self._take_publish(packet)
            case Acknowledgement():
                self._take_acknowledgement(packet)
            case Pingreq():
                self.send(PINGRESP)
            case Subscribe():
                assert self._session is not None
                self._broker.subscribe(self._session, packet)
            case Unsubscribe():
                assert self._session is not None
                self._broker.unsubscribe(self._session, packet)
            case Connect():
                self.version = self._connection.version
                self._broker.connect(self, packet)
            case Disconnect():
                self._take_disconnect(packet)
            case Auth():
                raise protocol_error("AUTH without an authentication method in CONNECT")

    def _take_acknowledgement(self, packet: Acknowledgement) -> None:
        session = self._session
        assert session is not None
        if packet.kind is not PacketType.PUBREL:
            session.acknowledge(packet, self._broker.now)
            return
        commit = session.incoming.pop(packet.packet_id, None)
        if commit is not None and commit > self._broker.gate.durable:
            # released before we said PUBREC: nothing that says "I have it" goes out before the sync
            self._hold_for(commit, b"\x70\x02" + packet.packet_id.to_bytes(2, "big"))
            return
        reason = Reason.PACKET_IDENTIFIER_NOT_FOUND if commit is None else Reason.SUCCESS
        self.reply(Acknowledgement(PacketType.PUBCOMP, packet.packet_id, reason))

    def _take_disconnect(self, packet: Disconnect) -> None:
        session = self._session
        assert session is not None
        expiry = packet.properties.session_expiry_interval
        if expiry is not None:
            if expiry and not session.expiry_s:
                raise protocol_error("session expiry set at DISCONNECT after 0 at CONNECT")
            session.expiry_s = self._broker.session_expiry(expiry)
        if packet.reason is Reason.SUCCESS:
            self.will = (
                None  # [MQTT-3.14.4-3]; with any other reason it is published ([MQTT-3.1.2-8])
            )
        self._connection.farewell(Reason.SUCCESS)
        self._shut()
        self._gone("disconnected")

    # --- out --------------------------------------------------------------------------------------------------

    def attach(self, session: Session, routes: Routes) -> None:
        self._session = session
        self._routes = routes
        session.bind(self)

    @property
    def connection(self) -> ServerConnection:
        return self._connection

    def reply(self, packet: Packet) -> None:
        data = self._connection.encode(packet)
        if data is not None:
            self.send(data)

    def send(self, data: bytes) -> None:
        """Gather; the broker flushes when it has done what it does, one write for each connection."""
        out = self._out
        if not out:
            self._broker.dirty.append(self)
        out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > self._broker.settings.write_buffer_max:
            self.flush()

    def flush(self) -> None:
        out = self._out
        if out:
            self._out = []
            self._out_bytes = 0
            if self.transport is not None:
                self.transport.write(b"".join(out))

    def fits(self, size: int) -> bool:
        return self._connection.fits(size)

    def overflow(self) -> None:
        self.close(Reason.QUOTA_EXCEEDED, "subscriber's queue is full")

    # --- pausing, closing -------------------------------------------------------------------------------------

    def pause(self, why: int) -> None:
        if not self._paused and self.transport is not None:
            self.transport.pause_reading()
        self._paused |= why

    def resume(self, why: int) -> None:
        if not self._paused & why:
            return
        self._paused &= ~why
        self.heard_at = self._broker.now  # it could not be heard
        if not self._paused and self.transport is not None:
            self.transport.resume_reading()

    def silent_since(self, now: float) -> float:
        """When it was last heard, or could not be, or took something of what we wrote.

        Before CONNECT: when the connection was made, since bytes that lead nowhere are not worth waiting for.
        """
        if self._paused & (Pause.DISK | Pause.WINDOW):
            self.heard_at = now
        elif self._paused and self.transport is not None:
            unread = self.transport.get_write_buffer_size()
            if unread < self._unread:
                self.heard_at = now
            self._unread = unread
        if not self.is_open:
            self._made_at = now if self._paused else self._made_at
            return self._made_at
        return self.heard_at

    def close(self, reason: Reason, detail: str) -> None:
        """Close this connection, telling why where the protocol can. The will is published."""
        if self.transport is None:
            return
        farewell = self._connection.farewell(reason)
        if farewell:
            self.send(farewell)
        self._broker.tally.closed[reason.name.lower()] += 1
        self._shut()
        self._gone(f"{reason.name.lower().replace('_', ' ')}: {detail}")

    def _shut(self) -> None:
        self.flush()
        transport = self.transport
        if transport is not None:
            transport.close()
            if transport.get_write_buffer_size():
                # what it does not read in time it does not get
                self._broker.deadlines.at(self._broker.now + 5.0, lambda _: transport.abort())

    def _gone(self, why: str) -> None:
        self.transport = None
        self._out = []
        self._broker.gone(self, why)
