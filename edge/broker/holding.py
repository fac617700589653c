"""Acknowledgements kept until the disk has what they acknowledge: PUBACK, PUBREC and some PUBCOMP of one client.

They leave in the order in which their publishes came, and never before `release` says that their commit is durable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..mqtt.packets import Version
from ..mqtt.reasons import Reason, Violation
from .peer import Peer
from .transport import Pause

if TYPE_CHECKING:
    from .broker import Broker
    from .listening.door import Visitor
    from .sessions import Session


class Holding(Peer):
    __slots__ = ("_acks", "_commit", "_held", "_older", "_pubrecs")

    def __init__(self, broker: Broker, visitor: Visitor | None = None) -> None:
        super().__init__(broker, visitor)
        # acknowledgements held: of the newest commit, and of those before it
        self._commit = -1
        self._acks: list[bytes] = []
        self._older: list[tuple[int, list[bytes]]] = []
        self._held = 0
        self._pubrecs = 0  # ... of which PUBREC

    def _hold_pubrec(self, pubrec: bytes, commit: int) -> None:
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
        held = gate.open or gate.begin()
        if self._commit == held.commit:
            self._acks += acks
        else:
            if self._acks:
                self._older.append((self._commit, self._acks))
            self._acks = acks
            self._commit = held.commit
            held.waiters.append(self)
        self._held += len(acks)
        if self._held >= self.receive_maximum:
            if self.version is Version.V5:
                assert self._session is not None
                self._check_incoming(self._session)
            else:
                self.pause(Pause.WINDOW)  # nobody told it of a limit

    def _pass(self, ack: bytes) -> None:
        """Acknowledge at once what need not wait for the disk; behind those of this client that do, for PUBACKs leave in
        the order of their publishes ([MQTT-4.6.0-2])."""
        self._broker.tally.early += 1
        if self._acks:
            self._acks.append(ack)
        elif self._older:
            self._older[-1][1].append(ack)
        else:
            self._broker.tally.acknowledged += 1
            self.send(ack)
            return
        self._held += 1

    def spoken(self) -> int | None:
        return None if self._held else super().spoken()

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
            self._written += len(data)
            self.transport.write(data)
        doubts = self._session.doubts if self._session is not None else None
        if doubts is not None:
            doubts.written(commit, self._written + self._out_bytes)
        if self._paused & Pause.WINDOW and self._held <= self.receive_maximum // 2:
            self.resume(Pause.WINDOW)

    def _pop_older(self, commit: int) -> list[bytes]:
        acks: list[bytes] = []
        while self._older and self._older[0][0] <= commit:
            acks += self._older.pop(0)[1]
        return acks
