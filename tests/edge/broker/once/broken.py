"""Brokers that are wrong in one way each: the lives must condemn every one of them, or they prove nothing."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from headwater.edge.broker import checkpoints, doubts, notes, restoring
from headwater.edge.broker.book import Book
from headwater.edge.broker.doubts import Doubts
from headwater.edge.broker.holding import Holding
from headwater.edge.broker.intake import Intake
from headwater.edge.broker.peer import Peer
from headwater.edge.broker.restoring import _Replay
from headwater.edge.broker.sessions import Session
from headwater.edge.mqtt.connection import Run
from headwater.edge.mqtt.packets import Publish

Break = Callable[[pytest.MonkeyPatch], None]


def only_the_last_ten(patch: pytest.MonkeyPatch) -> None:
    real = Doubts.__init__
    patch.setattr(Doubts, "__init__", lambda self, _, *rest: real(self, 10, *rest))


def whole_commits_too_soon(patch: pytest.MonkeyPatch) -> None:
    """The bound as it was."""

    def bound(self: Doubts) -> None:
        left, commits = self._stored.count, 0
        for group in list(self._stored.groups())[:-1]:
            if left <= self._entries_max:
                break
            left -= group.entries
            commits += 1
        self._drop(commits)

    patch.setattr(Doubts, "_bound", bound)


def not_what_came_with_a_fatal_packet(patch: pytest.MonkeyPatch) -> None:
    real = Intake._doubt

    def doubt(self: Intake, run: Run, first: int, count: int, fleeting: set[bytes]) -> int:
        is_whole = not first and count == sum(bool(each[2]) for each in run)
        return real(self, run, first, count, fleeting) if is_whole else first + count

    patch.setattr(Intake, "_doubt", doubt)


def not_over_a_restart(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Doubts, "restore", lambda self, state: None)


def not_in_the_checkpoint(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Doubts, "state", lambda self: [])


def not_of_the_open_commit(patch: pytest.MonkeyPatch) -> None:
    """A takeover before the seal."""
    real = Doubts.carry

    def carry(self: Doubts, commit: int, now: float) -> None:
        fresh, self.fresh = self.fresh, []
        real(self, commit, now)
        self.fresh = fresh

    patch.setattr(Doubts, "carry", carry)
    patch.setattr(Book, "closing", lambda self, session, peer: None)


def without_the_topic(patch: pytest.MonkeyPatch) -> None:
    real = doubts._hash
    patch.setattr(doubts, "_hash", lambda topic, content: real(b"", content))


def without_the_payload(patch: pytest.MonkeyPatch) -> None:
    real = doubts._hash
    patch.setattr(doubts, "_hash", lambda topic, content: real(topic, b""))


def by_identifier_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(doubts, "_hash", lambda topic, content: bytes(8))


def acknowledged_by_tcp_is_read(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(doubts, "LATEST", 0)
    patch.setattr(doubts, "UNREAD_S", 0.0)


def a_burst_is_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(doubts, "UNREAD_S", 0.0)


def without_dup(patch: pytest.MonkeyPatch) -> None:
    """Every publish is new."""
    patch.setattr(Intake, "_is_repetition", lambda self, packet: False)


def acknowledged_before_the_disk(patch: pytest.MonkeyPatch) -> None:
    """A repetition of what is in a commit that is not durable yet."""

    def is_repetition(self: Intake, packet: Publish) -> bool:
        session = self._session
        if session is None or session.doubts is None or session.doubts.repeated(packet) is None:
            return False
        if self._held:
            return False
        self.send(b"\x40\x02" + packet.packet_id.to_bytes(2, "big"))
        return True

    patch.setattr(Intake, "_is_repetition", is_repetition)


def memory_noted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Doubts, "_noted", lambda self, commit, packed: packed)


def covers_too_late(patch: pytest.MonkeyPatch) -> None:
    """A checkpoint that says that notes are needed from its end on."""
    real = checkpoints.Checkpoints._write

    async def write(
        self: checkpoints.Checkpoints, sessions: list[int], topics: list[str], covers: int
    ) -> None:
        store, committer = self._store, self._committer
        save = store.save

        def later(changes: checkpoints.Changes) -> None:
            meta = changes.meta
            if meta is not None:
                meta = msgspec.structs.replace(meta, covers=committer.durable + 1)
            save(changes._replace(meta=meta))

        store.save = later  # type: ignore[method-assign]
        try:
            await real(self, sessions, topics, covers)
        finally:
            store.save = save  # type: ignore[method-assign]

    patch.setattr(checkpoints.Checkpoints, "_write", write)


def notes_of_a_commit_replace_nothing(patch: pytest.MonkeyPatch) -> None:
    """What a commit stored is told only by the first note."""
    real = Doubts.seal

    def seal(self: Doubts, commit: int, now: float) -> bytes:
        before = len(self._stored)
        packed = real(self, commit, now)
        return packed if len(self._stored) > before else b""

    patch.setattr(Doubts, "seal", seal)


def taken_identifiers_not_restored(patch: pytest.MonkeyPatch) -> None:
    real = _Replay._make

    def make(self: _Replay, state: notes.SessionState) -> Session:
        state.incoming = []
        return real(self, state)

    patch.setattr(_Replay, "_make", make)


def taken_identifiers_not_noted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Book, "received2", lambda self, session, packet_id: 0)


def pubcomp_before_the_disk(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Book, "released2", lambda self, session, packet_id: 0)


def pubrec_before_the_disk(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Holding, "_hold_pubrec", lambda self, pubrec, commit: self.send(pubrec))


def nobody_asks_tcp(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Peer, "delivered", lambda self: None)


def evidence_is_not_noted(patch: pytest.MonkeyPatch) -> None:
    real = restoring._doubt

    def doubt(state: list[tuple[int, bytes]], said: notes.Inbound, commit: int) -> None:
        real(state, msgspec.structs.replace(said, settled=0), commit)

    patch.setattr(restoring, "_doubt", doubt)


def an_older_one_takes_the_place_of_what_is_proven(patch: pytest.MonkeyPatch) -> None:
    def newest(self: Doubts, packet_id: int) -> tuple[int, bytes] | None:
        for commit, digest in self._stored.newest_with(packet_id, self._carried):
            if (commit, packet_id) not in self._proven:
                return commit, digest
        return None

    patch.setattr(Doubts, "_newest", newest)


BREAKS: tuple[Break, ...] = (
    only_the_last_ten,
    whole_commits_too_soon,
    not_what_came_with_a_fatal_packet,
    not_over_a_restart,
    not_in_the_checkpoint,
    not_of_the_open_commit,
    without_the_topic,
    without_the_payload,
    by_identifier_alone,
    acknowledged_by_tcp_is_read,
    a_burst_is_not_waited_for,
    without_dup,
    acknowledged_before_the_disk,
    memory_noted,
    covers_too_late,
    notes_of_a_commit_replace_nothing,
    taken_identifiers_not_restored,
    taken_identifiers_not_noted,
    pubcomp_before_the_disk,
    pubrec_before_the_disk,
)

STUTTERING: tuple[Break, ...] = (
    without_dup,
    not_over_a_restart,
    nobody_asks_tcp,
    evidence_is_not_noted,
    an_older_one_takes_the_place_of_what_is_proven,
)
