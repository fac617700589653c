"""After a restart: kept sessions and retained messages from the checkpoint and the notes since, before anybody may connect.

  1. rows of the checkpoint      sessions, then retained messages
  2. notes since `covers`        in order; a retained record is read from the log where the note says it lies
  3. sessions made               subscriptions, rights, deliveries (outbound.py), what may come again (doubts.py)
  4. time goes on                expiry and will delays from when the connection ended (moments.py); sessions that had a
                                 connection when the power went begin to wait now, and their wills are due
Nothing here refuses to start. What cannot be read is left out and said, once, in `Restored.losses`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from ...core.batch import decode_batch
from ...core.belief import Stamp
from ...core.errors import HeadwaterError
from ...core.record import StoredRecord, TopicPartition
from . import notes
from .broker import Broker
from .checkpoints import StateStore, retained_message
from .messages import Message
from .sessions import Session
from .stored import expires, message_of

_LOSSES_TOLD = 20


class Note(Protocol):
    @property
    def kind(self) -> int: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def commit(self) -> int: ...


class Journal(Protocol):
    @property
    def log_id(self) -> str: ...
    def notes(self, since: int, /) -> Iterable[Note]: ...
    def read_noted(self, partition: TopicPartition, offset: int, /) -> list[bytes]: ...


@dataclass(slots=True)
class Restored:
    """What was found. `losses`: in words, what was there and is not; `covers`: from where notes are still needed."""

    covers: int = 0
    sessions: int = 0
    retained: int = 0
    notes: int = 0
    losses: list[str] = field(default_factory=list)

    def lost(self, what: str) -> None:
        if len(self.losses) < _LOSSES_TOLD:
            self.losses.append(what)
        elif len(self.losses) == _LOSSES_TOLD:
            self.losses.append("and more")


def restore(
    broker: Broker, journal: Journal, store: StateStore, *, far_enough: int = 0
) -> Restored:
    """Everything, in order. Once, before the listener opens.

    `far_enough`: the commit from which notes are looked for without a checkpoint.
    """
    report = Restored()
    replay = _Replay(broker, journal, report)
    meta = store.meta()
    same_log = meta is not None and meta.log_id == journal.log_id
    if meta is not None:
        broker.book.number_from(meta.next_number)
        if not same_log:
            report.lost("the state belongs to another log: deliveries under way are not resumed")
    replay.rows(store, same_log=same_log)
    if meta is not None and same_log:
        report.covers = meta.covers
    else:
        report.covers = far_enough
    for note in journal.notes(report.covers):
        replay.apply(note)
        report.notes += 1
    replay.make_sessions()
    report.retained = len(broker.fanout.retained)
    report.sessions = len(broker.sessions)
    return report


class _Replay:
    def __init__(self, broker: Broker, journal: Journal, report: Restored) -> None:
        self._broker = broker
        self._journal = journal
        self._report = report
        self._states: dict[int, notes.SessionState] = {}
        self._numbers: dict[str, int] = {}
        self._batches: dict[TopicPartition, dict[int, StoredRecord]] = {}
        # opened again, and nothing of it is known; a row may be younger than that note, and say that it ended since
        self._unknown: dict[int, str] = {}
        self._kinds: dict[int, Callable[[Note], None]] = {
            notes.INBOUND: self._inbound,
            notes.OPENED: self._opened,
            notes.SUBSCRIBED: self._subscribed,
            notes.UNSUBSCRIBED: self._unsubscribed,
            notes.LEFT: self._left,
            notes.ENDED: self._ended,
            notes.OUTBOUND: self._outbound,
            notes.RETAINED: self._retained,
        }

    # --- the checkpoint ----------------------------------------------------------------------------------------

    def rows(self, store: StateStore, *, same_log: bool) -> None:
        for row in store.sessions():
            try:
                state = notes.decode(row, notes.SessionState)
            except msgspec.MsgspecError as error:
                self._report.lost(f"a session: its row cannot be read: {error}")
                continue
            if not same_log:
                state.outbound, state.doubts = b"", []
            self._put(state)
        moments, now = self._broker.moments, self._broker.now
        for retained in store.retained():
            try:
                self._retain(retained_message(retained, moments, now))
            except (msgspec.MsgspecError, UnicodeError) as error:
                self._report.lost(f"retained {retained.topic!r}: its row cannot be read: {error}")
        for loss in store.finish_reading():
            self._report.lost(loss)
        # what was just read is on disk as it is
        self._broker.book.dirty_topics.clear()

    def _put(self, state: notes.SessionState) -> None:
        old = self._numbers.get(state.client_id)
        if old is not None and old != state.number:
            self._states.pop(old, None)
            self._broker.book.dirty_sessions.add(old)
        self._numbers[state.client_id] = state.number
        self._states[state.number] = state

    def _retain(self, message: Message) -> None:
        retained = self._broker.fanout.retained
        if message.expired(self._broker.now):
            retained.forget(message.topic)
        else:
            retained.put(message)

    # --- notes -------------------------------------------------------------------------------------------------

    def apply(self, note: Note) -> None:
        act = self._kinds.get(note.kind)
        if act is None:
            return
        try:
            act(note)
        except msgspec.MsgspecError as error:
            self._report.lost(f"note of kind {note.kind} in commit {note.commit}: {error}")

    def _opened(self, note: Note) -> None:
        said = notes.decode(note.payload, notes.Opened)
        state = self._states.get(said.session)
        if state is None or said.fresh:
            if not said.fresh:
                self._unknown[said.session] = said.client_id
            state = notes.SessionState(number=said.session, client_id=said.client_id)
            self._put(state)
        state.expiry_s, state.will, state.left = said.expiry_s, said.will, None
        state.user = said.user
        self._broker.book.number_from(said.session + 1)

    def _subscribed(self, note: Note) -> None:
        said = notes.decode(note.payload, notes.Subscribed)
        if (state := self._states.get(said.session)) is not None:
            state.subscriptions |= {each.filter: each for each in said.subscriptions}

    def _unsubscribed(self, note: Note) -> None:
        said = notes.decode(note.payload, notes.Unsubscribed)
        if (state := self._states.get(said.session)) is not None:
            for topic_filter in said.filters:
                state.subscriptions.pop(topic_filter, None)

    def _left(self, note: Note) -> None:
        said = notes.decode(note.payload, notes.Left)
        if (state := self._states.get(said.session)) is not None:
            state.left, state.expiry_s = said.at, said.expiry_s
            state.will, state.will_delay_s = said.will, said.will_delay_s

    def _ended(self, note: Note) -> None:
        said = notes.decode(note.payload, notes.Ended)
        self._unknown.pop(said.session, None)
        state = self._states.pop(said.session, None)
        if state is not None:
            self._numbers.pop(state.client_id, None)
            self._broker.book.dirty_sessions.add(said.session)

    def _outbound(self, note: Note) -> None:
        said = notes.decode(note.payload, notes.Outbound)
        if (state := self._states.get(said.session)) is not None:
            state.outbound = said.state

    def _inbound(self, note: Note) -> None:
        for said in notes.decode(note.payload, list[notes.Inbound]):
            state = self._states.get(said.session)
            if state is None:
                continue
            released = set(said.released)
            kept = [each for each in state.incoming if each not in released]
            state.incoming = kept + [each for each in said.received if each not in kept]
            _doubt(state.doubts, said, note.commit)

    def _retained(self, note: Note) -> None:
        for said in notes.decode(note.payload, list[notes.RetainedAt]):
            tp = TopicPartition(said.stream, said.partition)
            for offset in said.offsets:
                record = self._record(tp, offset)
                if record is None:
                    self._report.lost(f"a retained message: {tp} offset {offset} cannot be read")
                    continue
                wall_ms = self._broker.clock.wall_ms()
                self._retain(message_of(record, tp, now=self._broker.now, wall_ms=wall_ms))

    def _record(self, tp: TopicPartition, offset: int) -> StoredRecord | None:
        held = self._batches.get(tp)
        if held is None or offset not in held:
            try:
                held = {}
                for batch in self._journal.read_noted(tp, offset):
                    header, found = decode_batch(batch)
                    stamp = Stamp(header.producer_id, header.producer_epoch, header.base_sequence)
                    held |= {each.offset: each for each in found}
                    held |= {
                        each.offset: self._broker.moments.redated(each, stamp)
                        for each in found
                        if expires(each)
                    }
            except HeadwaterError as error:
                self._report.lost(f"{tp} offset {offset}: {error}")
                held = {}
            if len(self._batches) > 64:
                self._batches.clear()
            self._batches[tp] = held
        return held.get(offset)

    # --- sessions ----------------------------------------------------------------------------------------------

    def make_sessions(self) -> None:
        for client_id in self._unknown.values():
            self._report.lost(f"session {client_id!r}: what was kept before it came back")
        made = [self._make(state) for state in self._states.values()]
        for session in made:
            self._broker.adopt(session)

    def _make(self, state: notes.SessionState) -> Session:
        broker = self._broker
        session = Session(state.client_id, broker.departures)
        broker.sessions[state.client_id] = session
        session.expiry_s = state.expiry_s
        session.left = state.left
        session.will, session.will_delay_s = state.will, state.will_delay_s
        session.user = state.user
        session.rights = broker.rights(state.user, state.client_id)
        for subscription in state.subscriptions.values():
            broker.subscriptions.add(session, subscription.unpacked(), subscription.identifier)
        session.incoming = dict.fromkeys(state.incoming, 0)  # commit 0: durable
        broker.book.resume(session, state.number)
        if session.doubts is not None:
            session.doubts.restore(state.doubts)
        try:
            session.restore_outbound(state.outbound)
        except (HeadwaterError, msgspec.MsgspecError) as error:
            self._report.lost(f"session {state.client_id!r}: deliveries under way: {error}")
            session.restore_outbound(b"")
        return session


def _doubt(doubts: list[tuple[int, bytes]], said: notes.Inbound, commit: int) -> None:
    """In place, in the order of commits: what is settled goes, what `commit` stored is what the note says."""
    settled = 0
    while settled < len(doubts) and doubts[settled][0] <= said.settled:
        settled += 1
    del doubts[:settled]
    if said.doubts and commit > said.settled:
        place = len(doubts)  # a row may be younger than the note
        while place and doubts[place - 1][0] >= commit:
            place -= 1
        known = place < len(doubts) and doubts[place][0] == commit
        doubts[place : place + known] = [(commit, said.doubts)]
