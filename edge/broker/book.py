"""The book: every change of a kept session, and every retained record, noted in the journal with the commit it belongs to.

Each call puts a note into the open commit and returns its number: what promises the change to a client (CONNACK, SUBACK,
UNSUBACK, PUBCOMP) waits at the gate for that commit. For sessions that are not kept every call is free and returns 0, which
is durable from the start; but for the will of one, if it has one: that CONNACK took, and it is to be said also where the
connection ended with the edge.

What happens with each message (QoS 1 publishes in doubt, QoS 2 identifiers, retained records) is gathered and becomes one
note per commit, made just before it is sealed. That the peer's TCP has an acknowledgement (doubts.py) is noted in whatever
commit comes next; where none comes for `evidence_quiet`, one is made for it, so that after a crash little is in doubt.

`dirty` is what has changed since the last checkpoint (checkpoints.py): session numbers and topics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

import msgspec

from ...core.errors import Refused
from ...core.record import TopicPartition
from ..mqtt.packets import SubscriptionOptions, Will
from . import notes
from .doubts import Allowance, Doubts
from .journal import Committer, Journal
from .moments import Moments
from .uncertain import ENTRY_BYTES

if TYPE_CHECKING:
    from .peer import Peer
    from .sessions import Session

_T = TypeVar("_T")

DURABLE = 0
_RETAINED_PER_NOTE = 10_000
# A note is no larger than a record may be; what grows with the number of clients is told in several.
_NOTE_BYTES = 128 * 1024
_FILTERS_PER_NOTE = 15  # of 64 KiB at the very most


class Book:
    __slots__ = (
        "_committer",
        "_evidence_quiet_s",
        "_identifiers",
        "_journal",
        "_moments",
        "_monotonic",
        "_next_number",
        "_numbered",
        "_publishing",
        "_quiet_since",
        "_retained",
        "_uncertain",
        "_unsaid",
        "dirty_sessions",
        "dirty_topics",
        "doubted",
        "said",
    )

    def __init__(
        self,
        journal: Journal,
        committer: Committer,
        moments: Moments,
        *,
        monotonic: Callable[[], float],
        evidence_quiet_s: float,
    ) -> None:
        self._monotonic = monotonic
        self._evidence_quiet_s = evidence_quiet_s
        self._journal = journal
        self._committer = committer
        self._moments = moments
        self._next_number = 1
        self._numbered: dict[int, Session] = {}
        # of the open commit
        self._publishing: set[Session] = set()
        self._identifiers: dict[
            Session, dict[int, bool]
        ] = {}  # QoS 2 identifier: taken or released
        self._retained: dict[TopicPartition, list[int]] = {}
        # sessions with something in doubt that TCP may settle; those settled that no note says yet
        self._uncertain: set[Session] = set()
        self._unsaid: set[Session] = set()
        self._quiet_since = 0.0
        self.dirty_sessions: set[int] = set()
        self.dirty_topics: set[str] = set()
        self.doubted = Allowance()
        self.said = 0  # notes made
        journal.before_seal(self._seal)

    # --- sessions ----------------------------------------------------------------------------------------------

    def opened(self, session: Session, *, fresh: bool, will: Will | None) -> int:
        """CONNECT was accepted, with the session's expiry as granted."""
        if not session.kept and not session.number:
            if will is None:
                return DURABLE
            session.will_number = number = self._number(session)
        else:
            session.number = number = session.number or self._number(session)
            self._attach(session)
        session.standing_will = will
        note = notes.Opened(number, session.client_id, fresh, session.expiry_s, will, session.user)
        return self._note(number, notes.OPENED, note)

    def _number(self, session: Session) -> int:
        number = self._next_number
        self._next_number += 1
        self._numbered[number] = session
        return number

    def _attach(self, session: Session) -> None:
        if session.doubts is None:
            session.doubts = Doubts(session.receive_maximum, self.doubted)
        session.doubts.carry(self._journal.open_commit, self._monotonic())

    def subscribed(self, session: Session, made: Iterable[tuple[SubscriptionOptions, int]]) -> int:
        """`made`: (options, subscription identifier or 0)."""
        subscriptions = [notes.Subscription.of(options, identifier) for options, identifier in made]
        if not session.number or not subscriptions:
            return DURABLE
        for first in range(0, len(subscriptions), _FILTERS_PER_NOTE):
            part = subscriptions[first : first + _FILTERS_PER_NOTE]
            self._note(session.number, notes.SUBSCRIBED, notes.Subscribed(session.number, part))
        return self._journal.open_commit

    def unsubscribed(self, session: Session, filters: Iterable[str]) -> int:
        gone = list(filters)
        if not session.number or not gone:
            return DURABLE
        for first in range(0, len(gone), _FILTERS_PER_NOTE):
            part = gone[first : first + _FILTERS_PER_NOTE]
            self._note(session.number, notes.UNSUBSCRIBED, notes.Unsubscribed(session.number, part))
        return self._journal.open_commit

    def left(self, session: Session) -> int:
        """Its connection ended; or, without one, its will was published."""
        if not session.number:
            return DURABLE
        if session.left is None:
            session.left = self._moments.now()
        session.standing_will = session.will
        note = notes.Left(
            session.number, session.left, session.expiry_s, session.will, session.will_delay_s
        )
        return self._note(session.number, notes.LEFT, note)

    def ended(self, session: Session) -> int:
        number = session.number or session.will_number
        if not number:
            return DURABLE
        commit = self._note(number, notes.ENDED, notes.Ended(number))
        self._numbered.pop(number, None)
        for sessions in (self._publishing, self._uncertain, self._unsaid):
            sessions.discard(session)
        self._identifiers.pop(session, None)
        session.number = session.will_number = 0
        if session.doubts is not None:
            session.doubts.ended()
        session.doubts = None
        return commit

    def outbound(self, session: Session) -> int:
        """Where its deliveries stand now (`session.outbound_state`)."""
        if not session.number:
            return DURABLE
        note = notes.Outbound(session.number, session.outbound_state())
        return self._note(session.number, notes.OUTBOUND, note)

    def _note(self, number: int, kind: int, note: object) -> int:
        self.dirty_sessions.add(number)
        self.said += 1
        return self._journal.note(kind, notes.encode(note))

    # --- messages ----------------------------------------------------------------------------------------------

    def publishing(self, session: Session) -> None:
        """`session.doubts` was told of publishes."""
        self._publishing.add(session)

    def answered(self, session: Session) -> None:
        """A repetition was acknowledged again: when that has arrived it is no longer in doubt."""
        self._uncertain.add(session)

    def received2(self, session: Session, packet_id: int) -> int:
        return self._identifier(session, packet_id, taken=True)

    def released2(self, session: Session, packet_id: int) -> int:
        return self._identifier(session, packet_id, taken=False)

    def _identifier(self, session: Session, packet_id: int, *, taken: bool) -> int:
        if not session.number:
            return DURABLE
        if not self._identifiers:
            # of a released identifier there is no record that would make a commit: the first brings it about
            self._journal.note(notes.INBOUND, notes.encode([]))
        self._identifiers.setdefault(session, {})[packet_id] = taken
        return self._journal.open_commit

    def retained(self, tp: TopicPartition, offset: int) -> None:
        """The record just appended there is to be retained."""
        self._retained.setdefault(tp, []).append(offset)

    def _seal(self, commit: int) -> None:
        """The journal is about to seal `commit`: one note for all that happened with messages."""
        for session in self._publishing:
            self._look(session)
        said: list[notes.Inbound] = []
        identifiers = self._identifiers
        sessions = self._publishing
        if self._unsaid or identifiers:
            sessions = sessions | self._unsaid | identifiers.keys()
        for session in sessions:
            doubts = session.doubts
            if doubts is None or not session.number:
                continue
            packed = doubts.seal(commit, self._monotonic())
            is_fresh = doubts.holds(commit)
            if is_fresh and session.link is not None and (end := session.link.spoken()) is not None:
                doubts.written(
                    commit, end
                )  # acknowledged before the disk has it, by its stream's choice
            received: list[int] = []
            released: list[int] = []
            if identifiers:
                for packet_id, is_taken in identifiers.get(session, {}).items():
                    (received if is_taken else released).append(packet_id)
            said.append(notes.Inbound(session.number, received, released, doubts.settled, packed))
            self.dirty_sessions.add(session.number)
            if is_fresh:
                self._uncertain.add(session)
        self._publishing.clear()
        self._unsaid.clear()
        self._identifiers.clear()
        self._say(said)
        for tp, offsets in self._retained.items():
            for first in range(0, len(offsets), _RETAINED_PER_NOTE):
                at = notes.RetainedAt(*tp, offsets[first : first + _RETAINED_PER_NOTE])
                self._put(notes.RETAINED, [at], _halves_of_retained)
        self._retained.clear()
        self._quiet_since = -1.0

    def _say(self, said: list[notes.Inbound]) -> None:
        part: list[notes.Inbound] = []
        size = 0
        for inbound in said:
            part.append(inbound)
            size += len(inbound.doubts) + 64 + 3 * len(inbound.received + inbound.released)
            if size > _NOTE_BYTES:
                self._put(notes.INBOUND, part, _halves_of_inbound)
                part, size = [], 0
        if part:
            self._put(notes.INBOUND, part, _halves_of_inbound)

    def _put(self, kind: int, said: list[_T], halves: Callable[[_T], list[_T]]) -> None:
        """In as many notes as it takes: no hook of a seal may fail, for the commit is everybody's."""
        try:
            self._journal.note(kind, notes.encode(said))
        except Refused:
            middle = len(said) // 2
            parts = (
                [said[:middle], said[middle:]] if middle else [[each] for each in halves(said[0])]
            )
            for part in parts:
                self._put(kind, part, halves)

    # --- evidence ----------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Look at what TCP delivered; note it, in a commit of its own where none came for a while."""
        for session in tuple(self._uncertain):
            self._look(session)
        if self._quiet_since < 0:
            self._quiet_since = now
        elif self._unsaid and now - self._quiet_since >= self._evidence_quiet_s:
            self._journal.note(notes.INBOUND, notes.encode([]))
            self._committer.request()

    def _look(self, session: Session) -> None:
        doubts, link = session.doubts, session.link
        if doubts is None or not doubts.open:
            self._uncertain.discard(session)
            return
        position = None if link is None else link.delivered()
        if position is not None and doubts.arrived(position, self._monotonic()):
            self._unsaid.add(session)
            if not doubts.open:
                self._uncertain.discard(session)

    def closing(self, session: Session, peer: Peer) -> None:
        """Its connection is about to end: the last chance to ask what arrived."""
        doubts = session.doubts
        if doubts is None:
            return
        # first what it published last: with that it may stutter
        doubts.seal(self._journal.open_commit, self._monotonic())
        if doubts.open or doubts.carries:
            position = peer.delivered()
            if position is not None and doubts.arrived(position, self._monotonic()):
                self._unsaid.add(session)
        doubts.carry(self._journal.open_commit, self._monotonic())
        self._uncertain.discard(session)

    # --- the checkpoint ----------------------------------------------------------------------------------------

    def session(self, number: int) -> Session | None:
        """None: it ended."""
        return self._numbered.get(number)

    def all_dirty(self, topics: Iterable[str]) -> None:
        self.dirty_sessions.update(self._numbered)
        self.dirty_topics.update(topics)

    @property
    def next_number(self) -> int:
        return self._next_number

    def resume(self, session: Session, number: int) -> None:
        """A session as it was before the restart."""
        session.number = number
        self._numbered[number] = session
        self._next_number = max(self._next_number, number + 1)
        session.doubts = Doubts(session.receive_maximum, self.doubted)
        self.dirty_sessions.add(number)

    def number_from(self, number: int) -> None:
        """Numbers below were given before, if only to sessions that ended."""
        self._next_number = max(self._next_number, number)


def _halves_of_retained(said: notes.RetainedAt) -> list[notes.RetainedAt]:
    middle = len(said.offsets) // 2
    if not middle:
        return []
    return [
        notes.RetainedAt(said.stream, said.partition, part)
        for part in (said.offsets[:middle], said.offsets[middle:])
    ]


def _halves_of_inbound(said: notes.Inbound) -> list[notes.Inbound]:
    """Identifiers first, they may be told in any number of notes. What is in doubt is told in one: where that may not be
    large enough (10 KiB are, for a client that keeps to its receive maximum), of the newest."""
    received, released = len(said.received) // 2, len(said.released) // 2
    if received or released:
        first = notes.Inbound(
            said.session, said.received[:received], said.released[:released], said.settled
        )
        rest = msgspec.structs.replace(
            said, received=said.received[received:], released=said.released[released:]
        )
        return [first, rest]
    newest = len(said.doubts) // ENTRY_BYTES // 2 * ENTRY_BYTES
    if not newest:
        return []
    return [msgspec.structs.replace(said, doubts=said.doubts[-newest:])]
