"""The checkpoint: kept sessions and retained messages as they were at some commit, so that few notes need be read at start.

  state after a restart  =  the checkpoint, then all notes of commit `covers` and later

A round takes what changed since the last one (`Book.dirty_…`), row by row as it is *now*, waits until everything so
far is durable, and writes the rows in transactions of bounded size; the last one says `covers`, the commit after the
last that was durable when the round began. Rows may thus be younger than `covers` says. That is right because notes
are assignments: applying again those that a row has seen already changes nothing (notes.py). A row is never older
than its last note before `covers`. Nothing is written while nothing changes; then `covers` moves in memory alone.

Only notes since `covers` are pinned in the log. What a disk that refuses the checkpoint may pin is bounded: beyond it
the pins are let go, and it is said that a crash now would lose changes of state (records are never at stake here).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple, Protocol, TypeVar

import msgspec
import structlog

from ...core.errors import HeadwaterError
from ...core.record import TopicPartition
from ..mqtt.properties import NO_PROPERTIES, Properties
from . import notes
from .broker import Broker
from .messages import Message
from .moments import Moment, Moments
from .sessions import Session

_T = TypeVar("_T")
_log = structlog.get_logger("edge.state")

# While the checkpoint cannot be written: what the log may be kept from retiring, in checkpoints' worth.
PINNED_MAX = 4
# A checkpoint is due when notes pin this part of a log, if not sooner.
CHECKPOINTS_A_LOG = 8
# Of one transaction: a few milliseconds of this thread's time.
ROWS_MAX = 1000


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """`log_id`: to which log `covers` belongs. `next_number`: session numbers below were given."""

    log_id: str
    covers: int
    next_number: int


class RetainedRow(NamedTuple):
    """`about`: MessagePack of everything but topic and payload."""

    topic: str
    payload: bytes
    about: bytes


class Changes(NamedTuple):
    """One transaction. None: the row goes."""

    sessions: list[tuple[int, bytes | None]]
    retained: list[tuple[str, RetainedRow | None]]
    meta: Meta | None = None


class StateStore(Protocol):
    """Durable rows. Called from one thread at a time."""

    def meta(self) -> Meta | None:
        """None: nothing was ever written, or it is lost."""

    def sessions(self) -> Iterable[bytes]: ...
    def retained(self) -> Iterable[RetainedRow]: ...
    def finish_reading(self) -> list[str]:
        """What could not be read, in words. Called once, when both of the above were read."""

    @property
    def must_rewrite(self) -> bool:
        """What it holds is not what was read or written before: every row is to be written again."""

    @must_rewrite.setter
    def must_rewrite(self, value: bool, /) -> None: ...

    def save(self, changes: Changes) -> None:
        """All of it or nothing, durable on return. Raises Unavailable."""

    def close(self) -> None: ...


class Counters(Protocol):
    @property
    def bytes_written(self) -> int: ...


class Journal(Protocol):
    """What a checkpoint needs of the file journal."""

    @property
    def log_id(self) -> str: ...
    @property
    def bytes_limit(self) -> int: ...
    @property
    def newest_commit(self) -> int: ...
    @property
    def counters(self) -> Counters: ...
    def need_notes_from(self, commit: int, /) -> None: ...


class Committer(Protocol):
    @property
    def durable(self) -> int: ...
    async def wait_durable(self, commit: int, /) -> None: ...


class _About(msgspec.Struct, array_like=True):
    qos: int
    publisher: str
    stream: str
    partition: int
    offset: int
    properties: Properties | None
    at: Moment | None
    expires_in_s: float


class Checkpoints:
    def __init__(
        self,
        broker: Broker,
        journal: Journal,
        committer: Committer,
        store: StateStore,
        *,
        covers: int,
        pinned_bytes: int,
    ) -> None:
        """`pinned_bytes`: of the segments that the start had to read, from commit `covers` on."""
        self._broker = broker
        self._journal = journal
        self._committer = committer
        self._store = store
        self._covers = covers
        # pinned as well: a log that is full of it would never be written, nor a checkpoint ever due
        self._log_bytes = journal.counters.bytes_written - pinned_bytes
        self._at = broker.clock.monotonic()
        self._trouble: str | None = None
        self._log_id_written: str | None = None
        self._one = asyncio.Lock()
        self.rounds = 0
        self.rows = 0
        self.failures = 0
        self.forsaken = 0  # times that pins were let go without a checkpoint
        journal.need_notes_from(covers)

    @property
    def trouble(self) -> str | None:
        """Why the last round failed; None where it did not."""
        return self._trouble

    @property
    def due(self) -> bool:
        pinned = self._journal.counters.bytes_written - self._log_bytes
        waited_s = self._broker.clock.monotonic() - self._at
        return pinned >= self._worth or waited_s >= float(self._broker.settings.checkpoint_interval)

    @property
    def _worth(self) -> int:
        """Bytes of log after which a checkpoint is due."""
        return min(
            int(self._broker.settings.checkpoint_bytes),
            self._journal.bytes_limit // CHECKPOINTS_A_LOG,
        )

    async def round(self) -> bool:
        """False where it failed: tried again when due."""
        async with self._one:  # the last round may find another under way
            return await self._round()

    async def _round(self) -> bool:
        book = self._broker.book
        covers = self._committer.durable + 1
        if self._store.must_rewrite:
            self._store.must_rewrite = False
            book.all_dirty(self._broker.fanout.retained.topics())
        log_bytes = self._journal.counters.bytes_written
        sessions, book.dirty_sessions = book.dirty_sessions, set()
        topics, book.dirty_topics = book.dirty_topics, set()
        self._at = self._broker.clock.monotonic()
        try:
            if sessions or topics:
                await self._write(list(sessions), list(topics), covers)
        except BaseException as error:
            # also where the daemon's stop cancels a round half-way: what it took must be in the last one
            book.dirty_sessions |= sessions
            book.dirty_topics |= topics
            if not isinstance(error, HeadwaterError):
                raise
            self._failed(error)
            return False
        if self._trouble is not None:
            _log.info("state is written again")
            self._trouble = None
        self._pin(covers, log_bytes)
        return True

    def _pin(self, covers: int, log_bytes: int) -> None:
        self._covers = covers
        self._log_bytes = log_bytes
        self._journal.need_notes_from(covers)

    def _failed(self, error: HeadwaterError) -> None:
        self.failures += 1
        if self._trouble is None:
            _log.warning("state cannot be written; its notes stay in the log", reason=str(error))
        self._trouble = str(error)
        if self._journal.counters.bytes_written - self._log_bytes > PINNED_MAX * self._worth:
            self.forsaken += 1
            _log.error(
                "notes of sessions and retained messages are no longer kept from retirement: "
                "a crash before the state can be written would lose their changes",
                reason=str(error),
            )
            self._pin(self._committer.durable + 1, self._journal.counters.bytes_written)

    async def _write(self, sessions: list[int], topics: list[str], covers: int) -> None:
        while sessions or topics:
            changes = Changes(
                [(number, self._session_row(number)) for number in _cut(sessions)],
                [(topic, self._retained_row(topic)) for topic in _cut(topics)],
            )
            # rows may say what is in the open commit: never on disk before it
            await self._committer.wait_durable(self._journal.newest_commit)
            await asyncio.to_thread(self._store.save, changes)
            self.rows += len(changes.sessions) + len(changes.retained)
        meta = Meta(
            log_id=self._journal.log_id, covers=covers, next_number=self._broker.book.next_number
        )
        await asyncio.to_thread(self._store.save, Changes([], [], meta))
        self.rounds += 1

    def _session_row(self, number: int) -> bytes | None:
        session = self._broker.book.session(number)
        return None if session is None else notes.encode(state_of(session))

    def _retained_row(self, topic: str) -> RetainedRow | None:
        message = self._broker.fanout.retained.get(topic)
        if message is None:
            return None
        return retained_row(message, self._broker.moments, self._broker.now)

    async def close(self) -> None:
        """The last round of an orderly end: everything is durable by now."""
        await self.round()
        await asyncio.to_thread(self._store.close)


def _cut(rows: list[_T]) -> list[_T]:
    taken = rows[-ROWS_MAX:]
    del rows[-ROWS_MAX:]
    return taken


def state_of(session: Session) -> notes.SessionState:
    if session.will_number:
        return notes.SessionState(
            number=session.will_number,
            client_id=session.client_id,
            user=session.user,
            will=session.standing_will,
        )
    return notes.SessionState(
        number=session.number,
        client_id=session.client_id,
        user=session.user,
        expiry_s=session.expiry_s,
        left=session.left,
        subscriptions={
            topic_filter: notes.Subscription.of(*subscription)
            for topic_filter, subscription in session.filters.items()
        },
        will=session.standing_will,
        will_delay_s=session.will_delay_s,
        incoming=list(session.incoming),
        doubts=session.doubts.state() if session.doubts is not None else [],
        outbound=session.outbound_state(),
    )


def retained_row(message: Message, moments: Moments, now: float) -> RetainedRow:
    tp = message.tp or TopicPartition("", 0)
    plain = message.properties is NO_PROPERTIES
    expires = message.expires_at
    about = _About(
        message.qos,
        message.publisher,
        tp.topic,
        tp.partition,
        message.offset,
        None if plain else message.properties,
        None if expires is None else moments.now(),
        0.0 if expires is None else expires - now,
    )
    return RetainedRow(message.topic, message.payload, msgspec.msgpack.encode(about))


def retained_message(row: RetainedRow, moments: Moments, now: float) -> Message:
    """Raises msgspec.MsgspecError where the row says something else."""
    about = msgspec.msgpack.decode(row.about, type=_About)
    properties = NO_PROPERTIES if about.properties is None else about.properties
    message = Message(
        row.topic,
        row.payload,
        qos=about.qos,
        retain=True,
        properties=properties,
        publisher=about.publisher,
        now=now,
        tp=TopicPartition(about.stream, about.partition) if about.stream else None,
        offset=about.offset,
    )
    if about.at is not None:
        message.expires_at = now + about.expires_in_s - moments.elapsed_s(about.at)
    return message
