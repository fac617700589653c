"""Acknowledgements kept until the disk has what they acknowledge: PUBACK, PUBREC and some PUBCOMP of one client.

They leave in the order in which their publishes came, and never before `release` (plain.py, with what is held in the plain
case) says that their commit is durable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..mqtt.packets import Version
from ..mqtt.reasons import Reason, Violation
from .peer import Peer
from .transport import Pause

if TYPE_CHECKING:
    from .sessions import Session

# Some libraries send all they are given at once, thousands of publishes at QoS 2, before the first PUBREL. An identifier is
# less than a hundred bytes: a megabyte for a client that never releases any.
UNTOLD = 10


class Holding(Peer):
    __slots__ = ()

    def _hold_pubrec(self, pubrec: bytes, commit: int) -> None:
        if commit <= self._broker.gate.durable:
            self.send(pubrec)
        else:
            self._pubrecs += 1
            self._hold_for(commit, pubrec)

    def _filled(self) -> None:
        if self.version is Version.V5:
            assert self._session is not None
            self._check_incoming(self._session)
        else:
            self.pause(Pause.WINDOW)  # nobody told it of a limit

    def _emptied(self) -> None:
        if self._paused & Pause.WINDOW and self._held <= self.receive_maximum // 2:
            self.resume(Pause.WINDOW)

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

        Of a 3.1.1 client only what it never releases is counted against it, and more of that: nobody told it of a limit, and
        not to read it would keep its PUBREL from coming.
        """
        unfinished, limit = len(session.incoming), self.receive_maximum
        if self.version is Version.V5:
            unfinished += self._held - self._pubrecs
        else:
            limit *= UNTOLD
        if unfinished > limit:
            raise Violation(Reason.RECEIVE_MAXIMUM_EXCEEDED, f"{unfinished} publishes in flight")

    def _pop_older(self, commit: int) -> list[bytes]:
        acks: list[bytes] = []
        while self._older and self._older[0][0] <= commit:
            acks += self._older.pop(0)[1]
        return acks
