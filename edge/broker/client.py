"""One client: the joint between a transport, its protocol state, its session and the broker. By shape an asyncio
Protocol, but it knows no loop: a transport is anything that can write, close, and pause reading.

What it holds back: acknowledgements, until `release` says that their commit is durable. What stops it from being read
(`Pause`): its own unacknowledged publishes, or its not reading what we write; while the disk is behind, a PUBLISH, which is
held, and not more than `HELD_BYTES` behind it. Who sends none does not notice.

The hot path is `data_received` → `_take_plain` → (the disk) → `release`, all in plain.py.
"""

from __future__ import annotations

from ..mqtt.connection import RUN_BYTES, RUN_BYTES_COSTLY
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
)
from ..mqtt.reasons import Reason, Violation, protocol_error
from .gathering import SMALL_BYTES
from .intake import Intake
from .negotiation import granted_expiry
from .routing import Routes
from .sessions import Session
from .transport import Pause, Transport

_UNANSWERED = Pause.ACCESS | Pause.CONNECT | Pause.KNOCK | Pause.WORK | Pause.TURN
# From so many retained topics compared on, a SUBSCRIBE is paid for with nine times the time that it took: a tenth of the
# broker's time is the most that one client can have this way.
COMPARISONS_FREE = 50_000
PAYMENT_S = 3e-6
# While the disk takes nothing, one read and what may be held before it: together what no connection is asked to account for.
HELD_BYTES = SMALL_BYTES // 2
# What is not plain takes microseconds a packet, and a read may bring thirty thousand of them: so long, then others are heard
# (turns.py). The clock is looked at after so many packets, and after each that may be costly by itself.
TURN_S = 0.0003
TURN_PACKETS = 8
COSTLY_RUN_S = 0.002
_NOTED = (PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE, PacketType.PUBREL, PacketType.PUBREC)
_COSTLY = (Subscribe, Unsubscribe)


class Client(Intake):
    __slots__ = ()

    # --- called by the transport ------------------------------------------------------------------------------

    def connection_made(self, transport: Transport) -> None:
        self.transport = transport
        self._broker.admit(self)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, Violation):
            self.close(error.reason, str(error))
            return
        # the connection boundary: one client's trouble stays its own
        self._broker.crashed(self, error)
        self.close(Reason.UNSPECIFIED_ERROR, "internal error")

    def _take_rest(self, data: bytes) -> None:
        connection, broker = self._connection, self._broker
        broker.look_at_time()  # what expires does so to the second
        connection.feed(data)
        if self in broker.held:
            self._look_at_held()
        began, packets = broker.clock.monotonic(), 0
        while True:
            if broker.paused is not None and self._must_wait(connection.next_type):
                connection.hold_off()
                broker.held[self] = None
                self._look_at_held()
            run = connection.publishes()
            packet = None
            if run:
                self._take_run(run)
            else:
                packet = connection.next_packet()
                if packet is None:
                    break
                self._take(packet)
            packets += 1
            if run or packets % TURN_PACKETS == 0 or packet.__class__ in _COSTLY:
                now = broker.clock.monotonic()
                if run:
                    is_costly = now - began > COSTLY_RUN_S
                    connection.run_bytes = RUN_BYTES_COSTLY if is_costly else RUN_BYTES
                if now - began > TURN_S and connection.next_type:
                    self.hold_off(Pause.TURN)
                    broker.turns.waits(self)
                    break
        if connection.partial is not None or self._gathering:
            size = connection.wanted
            if size != self._gathering:
                self._gathering = size
                broker.gathering.ask(self, size)

    def _must_wait(self, kind: int) -> bool:
        """Nothing more can be taken for the disk now: a PUBLISH has to wait, and so, where memory for the disk is used
        up, has what a kept session's notes would be made of."""
        session = self._session
        if session is None or not self.is_open:
            return False
        if kind == PacketType.PUBLISH:
            return True
        return kind in _NOTED and session.number > 0 and self._broker.is_overfull

    def _look_at_held(self) -> None:
        """It is read on while little is held of it, for the sake of its PINGREQ: those are answered out of their turn."""
        pings = self._connection.take_pings()
        if pings:
            self.send(PINGRESP * pings)
        if self.gathered > HELD_BYTES:
            self.pause(Pause.DISK)

    def disk_accepts(self) -> None:
        """What was held is taken."""
        self.resume(Pause.DISK)
        if self.transport is not None:
            self._connection.go_on()
            self.data_received(b"")

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
            self._gone("it does not read what we write" if self._cut else "connection lost")

    def pause_writing(self) -> None:
        self.writable = False
        self.pause(Pause.WRITE)

    def resume_writing(self) -> None:
        self.writable = True
        self.resume(Pause.WRITE)
        if self._session is not None:
            self._session.outbound.pump(self._broker.now)
        self._broker.departed()

    def hold_off(self, why: int) -> None:
        """Its CONNECT cannot be answered yet, or it pays for work: what it sends meanwhile is kept, and it is not read."""
        if not self._paused & _UNANSWERED:
            self._connection.hold_off()
        self.pause(why)

    def go_on(self, why: int) -> None:
        """That reason is gone; where it was the last, what came after CONNECT is heard."""
        self.resume(why)
        if not self._paused & _UNANSWERED and self.transport is not None:
            self._connection.go_on()
            self.data_received(b"")

    def pay_for(self, compared: int) -> None:
        if compared > COMPARISONS_FREE:
            self._broker.tally.rested += 1
            self.hold_off(Pause.WORK)
            due = self._broker.now + compared * PAYMENT_S
            self._broker.deadlines.at(due, lambda _: self.go_on(Pause.WORK))

    def judged(self, packet: Connect, refusal: Violation | None) -> None:
        """The late answer to its CONNECT; then what it sent after it."""
        if self.transport is None:
            return  # it did not wait
        try:
            if refusal is not None:
                raise refusal
            self._broker.connect(self, packet)
        except Exception as error:
            self._failed(error)
        else:
            self.go_on(Pause.ACCESS)
        self._broker.received()

    def knocks_again(self, packet: Connect) -> None:
        """Its CONNECT waited for the disk."""
        try:
            self._broker.knock(self, packet)
        except Exception as error:
            self._failed(error)
        else:
            self.go_on(Pause.KNOCK)

    # --- packets in --------------------------------------------------------------------------------------------

    def _take(self, packet: Packet) -> None:
        match packet:
            case Publish():
                self._take_publish(packet)
            case Acknowledgement():
                self._take_acknowledgement(packet)
            case Pingreq():
                self.send(PINGRESP)
            case Subscribe():
                self.pay_for(self._broker.fanout.subscribe(self, packet))
            case Unsubscribe():
                self._broker.fanout.unsubscribe(self, packet)
            case Connect():
                self.version = self._connection.version
                if self._broker.must_wait(packet):
                    self.hold_off(Pause.KNOCK)
                    self._broker.knocking[self] = packet
                else:
                    self._broker.knock(self, packet)
            case Disconnect():
                self._take_disconnect(packet)
            case Auth():
                raise protocol_error("AUTH without an authentication method in CONNECT")

    def _take_acknowledgement(self, packet: Acknowledgement) -> None:
        session = self._session
        assert session is not None
        if packet.kind is not PacketType.PUBREL:
            session.outbound.acknowledge(packet, self._broker.now)
            return
        commit = session.incoming.pop(packet.packet_id, None)
        if commit is not None:
            # the identifier is free when PUBCOMP says so: a crash must not bring it back, or the next publish under it
            # would be taken for a repetition
            commit = max(commit, self._broker.book.released2(session, packet.packet_id))
        if commit is not None and commit > self._broker.gate.durable:
            # nor, where it was released before we said PUBREC, goes out before the sync what says "I have it"
            self._hold_for(commit, b"\x70\x02" + packet.packet_id.to_bytes(2, "big"))
            return
        reason = Reason.SUCCESS
        if commit is None and not self.resumed:
            # in a session that goes on it was completed, and that PUBCOMP was lost: the publish did not fail (5.0: 3.7.2.1)
            reason = Reason.PACKET_IDENTIFIER_NOT_FOUND
        self.reply(Acknowledgement(PacketType.PUBCOMP, packet.packet_id, reason))

    def _take_disconnect(self, packet: Disconnect) -> None:
        session = self._session
        assert session is not None
        expiry = packet.properties.session_expiry_interval
        if expiry is not None:
            if expiry and not session.expiry_s:
                raise protocol_error("session expiry set at DISCONNECT after 0 at CONNECT")
            session.expiry_s = granted_expiry(expiry, self._broker.settings)
        if packet.reason is Reason.SUCCESS:
            self.will = (
                None  # [MQTT-3.14.4-3]; with any other reason it is published ([MQTT-3.1.2-8])
            )
        self._connection.farewell(Reason.SUCCESS)
        self._shut()
        self._gone("disconnected")

    def use(self, routes: Routes) -> None:
        """Others from now on: what it may publish to has changed."""
        self._routes = routes

    def attach(self, session: Session, routes: Routes) -> None:
        self._session = session
        self._routes = routes
        session.bind(self)
