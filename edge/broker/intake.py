"""Publishes in: from packets to records of the journal, and the acknowledgement put aside for their commit."""

from __future__ import annotations

from ...core.errors import Closed, Refused, Unavailable
from ...core.record import TopicPartition
from ..mqtt.connection import REASON_STRING_MAX, Run, forwarded
from ..mqtt.packets import Acknowledgement, PacketType, Publish, Version
from ..mqtt.properties import Properties
from ..mqtt.reasons import Violation
from .holding import Holding
from .messages import Message
from .routing import Route, TopicRefused, refusal
from .stored import headers_of, marked_with_client

# The user property of a PUBACK or PUBREC that names the record (negotiation.py has how to ask for it).
RECEIPT = "hw.receipt"


class Intake(Holding):
    __slots__ = ()

    def _published(self) -> None:
        assert self._session is not None
        self._broker.book.publishing(self._session)

    def _take_run(self, run: Run) -> None:
        broker = self._broker
        routes = self._routes
        session = self._session
        assert routes is not None
        assert session is not None
        known = routes.young
        no_local = session.no_local
        receipts = self.receipts
        generation = broker.subscriptions.generation
        now_ms = broker.clock.wall_ms()
        published = broker.tally.published
        acks: list[bytes] = []
        unacknowledged = len(run)
        early = counted = 0
        told = 0  # of the run's publishes at QoS 1, to what may come again
        fleeting: set[bytes] = set()  # PUBACKs of those that are in memory alone
        for topic, payload, puback in run:
            route = known.get(topic)
            try:
                if route is None:
                    route = routes.find(topic)
                headers = route.headers if puback else route.headers_qos_0
                if no_local:
                    headers = marked_with_client(headers, route.topic, self.client_id, no_local)
                offset = route.append(now_ms, route.key, payload, headers)
            except (TopicRefused, Refused, Unavailable, Closed) as error:
                # whatever becomes of this one, those before it are in the log and may come again
                stored = len(acks) + early - counted
                told = self._doubt(run, told, stored, fleeting) + (1 if puback else 0)
                if isinstance(error, Violation) and not isinstance(error, TopicRefused):
                    raise
                counted = early
                # everything before it keeps its place in the order of acknowledgements
                self._hold(acks)
                published[1] += len(acks)
                unacknowledged -= len(acks) + 1
                acks = []
                self._refuse(error, 1 if puback else 0, int.from_bytes(puback[2:], "big"))
                continue
            if route.quiet != generation:
                self._offer(route, payload, 1 if puback else 0, offset)
                passed = puback and route.early is not None and route.early.passed
                if passed and route.early is not None and route.early.volatile:
                    fleeting.add(puback)
                if passed and not acks:
                    answer = puback
                    if receipts:
                        answer = self._with_receipt(puback, route.tp, offset)
                    self._pass(answer)
                    early += 1
                    continue
            if puback:
                if receipts:
                    puback = self._with_receipt(puback, route.tp, offset)  # noqa: PLW2901
                acks.append(puback)
        published[1] += len(acks) + early
        published[0] += unacknowledged - len(acks) - early
        if session.doubts is not None:
            self._doubt(run, told, len(acks) + early - counted, fleeting)
        self._hold(acks)

    def _doubt(self, run: Run, first: int, count: int, fleeting: set[bytes]) -> int:
        """Of a kept session's run, `count` publishes at QoS 1 from the `first` on were appended: until their PUBACK has
        arrived they may come again. Returns the next one."""
        session = self._session
        if session is not None and session.doubts is not None and count:
            at_least_once = [each for each in run if each[2]]
            session.doubts.took(at_least_once[first : first + count], fleeting)
            self._broker.book.publishing(session)
        return first + count

    def _offer(self, route: Route, payload: bytes, qos: int, offset: int) -> None:
        """Somebody may want it; where nobody does, the route remembers."""
        broker = self._broker
        subscriptions = broker.subscriptions
        if targets := subscriptions.targets(route.topic):
            message = Message.plain(
                route, payload, qos, self.client_id, subscriptions.generation, offset
            )
            if route.early is not None and route.early.passed:
                broker.gate.pass_message(message)
            else:
                broker.gate.wait_message(message, len(targets))
        elif route.early is None:
            route.quiet = broker.subscriptions.generation

    def _take_publish(self, packet: Publish) -> None:
        """Any PUBLISH, with all that it may carry."""
        session, routes, broker = self._session, self._routes, self._broker
        assert session is not None
        assert routes is not None
        if packet.qos == 2 and packet.packet_id in session.incoming:
            broker.tally.repeated += 1  # [MQTT-4.3.3-10]: not a new message
            plain = b"\x50\x02" + packet.packet_id.to_bytes(2, "big")
            self._hold_pubrec(plain, session.incoming[packet.packet_id])
            return
        if packet.dup and packet.qos == 1 and self._is_repetition(packet):
            return
        try:
            route = routes.find(packet.topic.encode())
            headers = headers_of(route.headers, packet)
            if session.no_local:
                headers = marked_with_client(
                    headers, packet.topic, session.client_id, session.no_local
                )
            offset = route.append(broker.clock.wall_ms(), route.key, packet.payload, headers)
        except (TopicRefused, Refused, Unavailable, Closed) as error:
            self._refuse(error, packet.qos, packet.packet_id)
            return
        broker.tally.published[packet.qos] += 1
        commit = broker.gate.commit
        # never at QoS 2: who asks for exactly once gets the disk
        passed = route.early is not None and route.early.passed and packet.qos < 2
        if route.early is not None and packet.qos == 2:
            route.early.hurry()
        if packet.retain:
            broker.book.retained(route.tp, offset)
        targets = broker.subscriptions.targets(packet.topic)
        if packet.retain or targets:
            message = Message.of(
                forwarded(packet),
                session.client_id,
                broker.now,
                broker.subscriptions.generation,
                tp=route.tp,
                offset=offset,
            )
            if passed:
                broker.gate.pass_message(message)
            else:
                broker.gate.wait_message(message, 1 + len(targets))
        if packet.qos == 0:
            return
        answer = (b"\x40\x02" if packet.qos == 1 else b"\x50\x02") + packet.packet_id.to_bytes(
            2, "big"
        )
        if self.receipts:
            answer = self._with_receipt(answer, route.tp, offset)
        if packet.qos == 1 and session.doubts is not None:
            is_fleeting = passed and route.early is not None and route.early.volatile
            session.doubts.took_publish(packet, fleeting=is_fleeting)
            broker.book.publishing(session)
        if packet.qos == 1 and passed:
            self._pass(answer)
        elif packet.qos == 1:
            self._hold([answer])
        else:
            session.incoming[packet.packet_id] = commit
            broker.book.received2(session, packet.packet_id)
            self._hold_pubrec(answer, commit)
            self._check_incoming(session)

    def _is_repetition(self, packet: Publish) -> bool:
        """Stored already, before the PUBACK was lost with the connection (doubts.py): acknowledged again, not stored."""
        assert self._session is not None
        doubts = self._session.doubts
        commit = None if doubts is None else doubts.repeated(packet)
        if doubts is None or commit is None:
            return False
        self._broker.tally.repeated += 1
        puback = b"\x40\x02" + packet.packet_id.to_bytes(2, "big")
        newest = self._commit if self._acks else self._older[-1][0] if self._older else 0
        if max(commit, newest) > self._broker.gate.durable:
            self._hold_for(max(commit, newest), puback)  # in the order of the publishes
            doubts.promised(packet.packet_id, max(commit, newest))
        else:
            self.send(puback)
            doubts.answered(packet.packet_id, self._written + self._out_bytes)
        self._broker.book.answered(self._session)
        return True

    def _with_receipt(self, plain: bytes, tp: TopicPartition, offset: int) -> bytes:
        """A PUBACK or PUBREC that says where the record lies; the plain one where the client takes none so large."""
        receipt = (RECEIPT, f"{tp.topic}/{tp.partition}/{offset}")
        kind, packet_id = PacketType(plain[0] >> 4), int.from_bytes(plain[2:], "big")
        properties = Properties(user_properties=(receipt,))
        answer = Acknowledgement(kind, packet_id, properties=properties)
        return self._connection.encode(answer) or plain

    def _refuse(self, error: Exception, qos: int, packet_id: int) -> None:
        """A publish that is not taken. MQTT 5 can say so; 3.1.1 can only be closed ([MQTT-3.3.5-2])."""
        reason = refusal(error)
        self._broker.tally.refused[reason.name.lower()] += 1
        if qos == 0:
            return
        if self.version is Version.V311:
            raise Violation(reason, str(error))
        kind = PacketType.PUBACK if qos == 1 else PacketType.PUBREC
        why = Properties(reason_string=str(error)[:REASON_STRING_MAX])
        answer = self._connection.encode(Acknowledgement(kind, packet_id, reason, why))
        if answer is None:
            return  # it takes no packet of five bytes: unacknowledged says the same
        behind = self._acks or (self._older[-1][1] if self._older else None)
        if behind is None:
            self.send(answer)
            return
        behind.append(answer)  # acknowledgements leave in the order of the publishes
        self._held += 1
        self._pubrecs += qos == 2
