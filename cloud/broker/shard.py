"""One shard as its owner sees it: the writer, the state that its log makes, and what is under way.

Every change goes through here: `append` for records, `propose` for events. Both assign at once and become durable
later; who asked waits on the future. The order of calls is the order of the log.

Watermarks: a partition's next offset is moved by `append` alone; its end offset, which readers see, by the commit of the
object that holds the records; its start offset by a trim in the log.

A shard is single-use. Once the writer is closed (fenced by another node, or shut down) every call answers Closed, its
waiters are failed by the journal, and the node that held it opens a new one or stops.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ...core.batch import BatchHeader, Buffer, rebase
from ...core.clock import Clock
from ...core.errors import Closed, Unavailable
from ...core.journal.objects import (
    Batch,
    Entry,
    Event,
    ObjectJournal,
    ObjectJournalSettings,
    ShardWriter,
    Trim,
)
from ...core.journal.reading import Bounds
from ...core.kafka.errors import ErrorCode
from ...core.objectstore import ObjectStore
from ...core.record import TopicPartition
from .epochs import LEADER_EPOCH
from .events import AnyEvent, TimeMarked, encode_event
from .inflight import Commit, Inflight
from .producers import Producer, Verdict
from .state import TIME_MARK_MS, ShardState
from .waiting import Watchers


class Accepted(NamedTuple):
    """The batch has its offset; it is in the log when `commit` is done. A duplicate under way shares the original's."""

    base_offset: int
    commit: Commit
    duplicate: bool = False


class Held(NamedTuple):
    """A duplicate of a batch that is durable, at the original's offset."""

    base_offset: int


class Rejected(NamedTuple):
    error: ErrorCode
    message: str


Appended = Accepted | Held | Rejected


class _Machine:
    """The journal's state machine: the shard's state, and a word to those who wait once it has moved."""

    def __init__(self, state: ShardState, moved: Callable[[Sequence[Entry]], None]) -> None:
        self._state = state
        self._moved = moved

    def apply(self, seq: int, entries: Sequence[Entry]) -> None:
        self._state.apply(seq, entries)
        self._moved(entries)

    def snapshot(self) -> bytes:
        return self._state.snapshot()

    def restore(self, snapshot: bytes) -> None:
        self._state.restore(snapshot)


class Shard:
    def __init__(self, number: int, *, clock: Clock) -> None:
        self.number = number
        self.state = ShardState()
        self.watchers = Watchers()
        self._clock = clock
        self._inflight = Inflight()
        self._writer: ShardWriter | None = None
        self._marked_ms = 0
        self._pending: deque[float] = deque()
        self._active: dict[tuple[TopicPartition, int], float] = {}

    @classmethod
    async def open(
        cls,
        store: ObjectStore,
        number: int,
        *,
        settings: ObjectJournalSettings,
        clock: Clock,
        rng: random.Random,
    ) -> Shard:
        """Take the shard over: fence whoever held it, replay. Raises Unavailable, Unknown, Closed, Corrupt."""
        shard = cls(number, clock=clock)
        machine = _Machine(shard.state, shard._moved)
        shard._writer = await ShardWriter.open(
            store, number, state=machine, settings=settings, clock=clock, rng=rng
        )
        shard._marked_ms = shard.state.marked_ms
        return shard

    # -- reading

    @property
    def writer(self) -> ShardWriter:
        assert self._writer is not None, "opened"
        return self._writer

    @property
    def journal(self) -> ObjectJournal:
        return self.writer.journal

    @property
    def closed_reason(self) -> str | None:
        return self.writer.closed_reason

    def bounds(self, tp: TopicPartition) -> Bounds:
        """What can be read; an empty log for a partition that nobody wrote to yet."""
        partition = self.state.partition(tp)
        return Bounds(partition.start, partition.end) if partition is not None else Bounds(0, 0)

    def producers(self, tp: TopicPartition) -> dict[int, Producer]:
        """Durable ones; call `settled` first where what is under way matters."""
        partition = self.state.partition(tp)
        return partition.producers if partition is not None else {}

    async def settled(self, tp: TopicPartition, *, timeout_s: float) -> None:
        """Until everything submitted for the partition so far is durable. Raises Closed, Unavailable."""
        commit = self._inflight.latest(tp)
        if commit is None:
            return
        await asyncio.wait([commit], timeout=timeout_s)
        if not commit.done():
            raise Unavailable(f"{tp}: the store has not answered for {timeout_s:g} s")
        await asyncio.shield(commit)

    async def confirm(self) -> None:
        """That no other node has taken the shard over: before an answer that must not be stale. Raises Closed."""
        await self.writer.tail_current()
        self._check_open()

    # -- writing

    def append(self, tp: TopicPartition, batch: Buffer, header: BatchHeader) -> Appended:
        """Judge a validated batch, give it its offset and submit it. Raises Closed, Unavailable (nothing happened)."""
        self._check_open()
        partition = self.state.partition(tp)
        durable = partition.producers.get(header.producer_id) if partition is not None else None
        (verdict, original), commit = self._inflight.judge(tp, durable, header)
        if verdict is Verdict.DUPLICATE:
            assert original is not None
            if commit is not None:
                return Accepted(original.base_offset, commit, duplicate=True)
            return Held(original.base_offset)
        if verdict is not Verdict.ACCEPTED:
            return _rejected(verdict, tp, header)
        base_offset = self.writer.next_offset(tp)
        data = rebase(batch, base_offset=base_offset, leader_epoch=LEADER_EPOCH)
        commit = self._submit([Batch(tp, data)])
        self._inflight.add(tp, durable, header, base_offset=base_offset, commit=commit)
        if header.producer_id >= 0:
            self._active[tp, header.producer_id] = self._clock.monotonic()
        return Accepted(base_offset, commit)

    def propose(self, *events: AnyEvent, trims: Iterable[Trim] = ()) -> Commit:
        """Raises Closed, Unavailable (nothing happened)."""
        self._check_open()
        return self._submit([*trims, *(Event(encode_event(event)) for event in events)])

    def idle_producers(self, idle_s: float) -> list[tuple[str, int, int]]:
        """Those not heard of for so long. After a restart everyone counts as just heard of."""
        now = self._clock.monotonic()
        idle = []
        for tp in self.state.partitions():
            for producer_id in self.producers(tp):
                since = self._active.setdefault((tp, producer_id), now)
                if now - since >= idle_s and self._inflight.latest(tp) is None:
                    idle.append((tp.topic, tp.partition, producer_id))
        known = {(TopicPartition(t, p), i) for t, p, i in idle}
        for key in known:
            self._active.pop(key, None)
        return idle

    def oldest_pending_s(self) -> float:
        """How long the store has owed us an answer; 0 where nothing is under way."""
        return self._clock.monotonic() - self._pending[0] if self._pending else 0.0

    async def wait_closed(self) -> str:
        """Returns the reason."""
        return await self.writer.wait_closed()

    async def close(self) -> None:
        """Submissions under way are finished first."""
        await self.writer.close()
        self.watchers.wake_all()

    def _submit(self, entries: list[Entry]) -> Commit:
        now_ms = self._clock.wall_ms()
        marked = now_ms - self._marked_ms >= TIME_MARK_MS
        if marked:
            entries.insert(0, Event(encode_event(TimeMarked(at_ms=now_ms))))
        commit = self.writer.submit(entries)
        if marked:
            self._marked_ms = now_ms
        self._pending.append(self._clock.monotonic())
        commit.add_done_callback(self._decided)
        return commit

    def _decided(self, commit: Commit) -> None:
        """Submissions are decided in their order."""
        self._pending.popleft()
        if not commit.cancelled():
            commit.exception()  # seen: nobody need wait for it

    def _moved(self, entries: Sequence[Entry]) -> None:
        self.watchers.wake({entry.partition for entry in entries if isinstance(entry, Batch)})

    def _check_open(self) -> None:
        reason = self.writer.closed_reason
        if reason is not None:
            raise Closed(f"shard {self.number}: {reason}")


def _rejected(verdict: Verdict, tp: TopicPartition, header: BatchHeader) -> Rejected:
    who = f"{tp}: producer {header.producer_id} epoch {header.producer_epoch}"
    if verdict is Verdict.STALE_EPOCH:
        return Rejected(ErrorCode.INVALID_PRODUCER_EPOCH, f"{who}: a newer epoch is known")
    return Rejected(
        ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
        f"{who}: sequence {header.base_sequence} does not follow the last one",
    )
