"""Departures: what all outbound sides share: a memory for queues and chunks, a few reads at a time, what is to be noted.

Reading. A session or a group that is behind asks with `want`; at most `replay_reads_max` reads run at a time, in the order
of asking, and only while the shared memory has room for one more. Who holds what it cannot hand out (its client does not
read, or acknowledges nothing) while others wait gives it back after `STALLED_S`. So a thousand sessions that return
at once cost the memory of the budget, and the loop gets one bounded piece of work at a time, between the publishers'.

Noting. Before a QoS 2 packet leaves for a session that outlives its connection, its state is in the journal: `write_down`
gathers such sessions, `settle` asks the book for one note each and lets the gate release them with that commit. Progress
at QoS 1 may be noted late, since a repeat is allowed: every `progress_interval`.

`settle` and `run` are called from the top of the broker (after a read, a commit, a tick), never from within a delivery.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ...core.clock import Clock
from ...core.errors import HeadwaterError
from ...core.journal.reading import Bounds
from ...core.record import StoredRecord, TopicPartition
from .backlog import Backlog
from .messages import Message
from .settings import MqttSettings
from .tally import Tally

if TYPE_CHECKING:
    from .flights import Flights
    from .gate import Gate
    from .sessions import Session

# Held so long without handing any of it out, a chunk is given back when others wait.
STALLED_S = 1.0
# A state that nothing changed is noted again after so long: after a kill the records since its note are read again, and a
# session that waited quietly for a week would have a week of them. Some hundred bytes an hour for each kept session.
REFRESH_S = 3600.0
# ... and no more than this many at a tick.
REFRESHED_MAX = 100
# After a read that failed: the disk is in trouble, and the journal itself reports it.
PAUSE_S = 1.0


class Reading(NamedTuple):
    """What one read brought. Where it is nothing: what lies before `start` is gone, or (`failed`) try again."""

    records: list[StoredRecord]
    size: int = 0
    start: int = 0
    failed: bool = False


class Source(Protocol):
    """The journal's reading side, off the loop; `done` is called in the loop, from its top, or never once closed."""

    def read(
        self,
        tp: TopicPartition,
        offset: int,
        *,
        bytes_max: int,
        done: Callable[[Reading], None],
    ) -> None: ...


class Ends(Protocol):
    """Where partitions end, asked in the loop."""

    def partitions(self) -> list[TopicPartition]: ...
    def bounds(self, tp: TopicPartition, /) -> Bounds: ...
    def unsettled(self) -> list[tuple[TopicPartition, int]]:
        """Partitions with records that are not durable yet, and their next offsets."""

    @property
    def overfull(self) -> bool:
        """More waits for the disk than may."""


class Book(Protocol):
    """Who makes small state durable."""

    def outbound(self, session: Session) -> int:
        """Note the session's outbound state; the commit that will hold it."""


class Replayer(Protocol):
    """A session's outbound side, or a group."""

    backlog: Backlog

    @property
    def name(self) -> str: ...
    @property
    def can_take(self) -> bool: ...
    def next_read(self) -> tuple[TopicPartition, int] | None: ...
    def loaded(self, tp: TopicPartition, offset: int, reading: Reading) -> None: ...
    def pump(self, now: float) -> None: ...


class Departures:
    def __init__(
        self,
        *,
        settings: MqttSettings,
        tally: Tally,
        clock: Clock,
        source: Source,
        ends: Ends,
        streams: Mapping[str, Sequence[str]],
        on_lost: Callable[[str, TopicPartition, int], None],
    ) -> None:
        self.settings = settings
        self.tally = tally
        self.clock = clock
        self.ends = ends
        self.streams = streams  # those that MQTT topics are routed to, and their filters
        self.now = clock.monotonic()
        self.gate: Gate | None = None
        self.book: Book | None = None
        # of these offsets, what is still retained
        self.retained_at: Callable[[TopicPartition, Set[int]], dict[int, Message]] = (
            lambda tp, offsets: {}
        )
        self.messages_max = settings.burst_messages_max
        self.bytes_max = int(settings.burst_bytes_max)
        self.memory = 0  # bytes that queues and chunks hold
        self._memory_max = int(settings.replay_memory_max)
        self._source = source
        self._on_lost = on_lost
        self._waiting: dict[Replayer, None] = {}
        self._reading: dict[Replayer, None] = {}
        self._pausing: list[tuple[float, Replayer]] = []
        self._holding: dict[Replayer, float] = {}  # since when, without progress
        self._reserved = 0
        self._unwritten: dict[Flights, None] = {}
        self._progressed: dict[Flights, None] = {}
        self._noted_at: dict[Flights, float] = {}  # oldest first
        self._progress_at = self.now + float(settings.progress_interval)

    # --- the shared memory ----------------------------------------------------------------------------------------

    def take(self, size: int) -> bool:
        if self.memory + self._reserved + size > self._memory_max:
            return False
        self.memory += size
        return True

    def charge(self, size: int) -> None:
        """What was read is there, whether it fits or not: over by one chunk for each read under way at most."""
        self.memory += size

    def give(self, size: int) -> None:
        self.memory -= size

    # --- reading --------------------------------------------------------------------------------------------------

    @property
    def replaying(self) -> int:
        return len(self._reading) + len(self._waiting) + len(self._holding) + len(self._pausing)

    def want(self, replayer: Replayer) -> None:
        if replayer not in self._reading:
            self._waiting[replayer] = None

    def forget(self, replayer: Replayer) -> None:
        self._waiting.pop(replayer, None)
        self._holding.pop(replayer, None)

    def progress(self, replayer: Replayer) -> None:
        """It handed something out."""
        if replayer in self._holding:
            if replayer.backlog.memory:
                self._holding[replayer] = self.now
            else:
                del self._holding[replayer]

    def run(self) -> None:
        """Start what reads may start."""
        waiting, settings = self._waiting, self.settings
        while waiting and len(self._reading) < settings.replay_reads_max:
            # where the memory is in queues of live sessions alone, which drain, one read at a time goes on beside them
            if not self._has_room(int(settings.replay_read_bytes)) and (
                self._holding or self._reading
            ):
                return
            replayer = next(iter(waiting))
            del waiting[replayer]
            self._read(replayer)

    def _read(self, replayer: Replayer) -> None:
        place = replayer.next_read()
        if place is None:
            return
        tp, offset = place
        reserved = int(self.settings.replay_read_bytes)
        self._reading[replayer] = None
        self._reserved += reserved

        def done(reading: Reading) -> None:
            self._reserved -= reserved
            del self._reading[replayer]
            self._done(replayer, tp, offset, reading)

        self._source.read(tp, offset, bytes_max=reserved, done=done)

    def _done(self, replayer: Replayer, tp: TopicPartition, offset: int, reading: Reading) -> None:
        if reading.failed:
            self._pausing.append((self.now + PAUSE_S, replayer))
            return
        self.now = max(self.now, self.clock.monotonic())
        replayer.loaded(tp, offset, reading)
        replayer.pump(self.now)
        if replayer.backlog.memory and replayer.can_take is False:
            self._holding[replayer] = self.now
        else:
            self._holding.pop(replayer, None)

    def _has_room(self, size: int) -> bool:
        """For one more read; who holds memory and cannot use it gives it back."""
        if self.memory + self._reserved + size <= self._memory_max:
            return True
        for replayer, since in tuple(self._holding.items()):
            if self.now - since >= STALLED_S and not replayer.can_take:
                del self._holding[replayer]
                replayer.backlog.collapse()
                if self.memory + self._reserved + size <= self._memory_max:
                    return True
        return False

    def lost(self, who: str, tp: TopicPartition, count: int, why: str) -> None:
        """Messages that waited in the journal and are there no more."""
        if count:
            self.tally.delivery_dropped[why] += count
            self._on_lost(who, tp, count)

    # --- noting ---------------------------------------------------------------------------------------------------

    def progressed(self, outbound: Flights) -> None:
        self._progressed[outbound] = None

    def write_down(self, outbound: Flights) -> None:
        self._unwritten[outbound] = None

    def settled(self, outbound: Flights) -> None:
        """It is over."""
        self._unwritten.pop(outbound, None)
        self._progressed.pop(outbound, None)
        self._noted_at.pop(outbound, None)

    def settle(self) -> bool:
        """Put what is to be noted into the open commit, if that has room. True where something was."""
        if not self._unwritten or self.ends.overfull:
            return False
        return self._settle()

    def _settle(self) -> bool:
        book, gate = self.book, self.gate
        unwritten, self._unwritten = self._unwritten, {}
        noted = False
        for outbound in unwritten:
            self._progressed.pop(outbound, None)
            if book is None or gate is None or not outbound.durable:
                outbound.release(1 << 62)
                continue
            try:
                commit = book.outbound(outbound.session)
            except HeadwaterError:
                self._unwritten[outbound] = (
                    None  # a full log, or one that is closed: again at the next tick
                )
                continue
            noted = noted or commit > gate.durable
            self._noted_at.pop(outbound, None)
            self._noted_at[outbound] = self.now
            if commit <= gate.durable:
                outbound.noted(commit)
                outbound.release(commit)
            elif outbound.noted(commit):
                gate.wait_for(outbound, commit) if commit != gate.commit else gate.wait(outbound)
        return noted

    def settle_all(self) -> None:
        """At an orderly end: every state as it is, so that nothing is read again after the start."""
        self._unwritten |= dict.fromkeys(self._noted_at)
        self._settle()

    def tick(self, now: float) -> bool:
        """Time passes. True where something was noted."""
        self.now = now
        for due, replayer in tuple(self._pausing):
            if due <= now:
                self._pausing.remove((due, replayer))
                self.want(replayer)
        if now >= self._progress_at:
            self._progress_at = now + float(self.settings.progress_interval)
            self._unwritten |= self._progressed
            self._progressed = {}
        for outbound, noted_at in tuple(islice(self._noted_at.items(), REFRESHED_MAX)):
            if now - noted_at < REFRESH_S:
                break
            self._unwritten[outbound] = None
        return self.settle()
