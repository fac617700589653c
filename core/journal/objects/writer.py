"""The one writer of a shard: gathers submissions into objects, takes slots with them, applies what became durable.

Single-use. Any doubt (a slot lost, a store that refuses, state that would not apply) closes it for good, and whoever
needs the shard opens another. One task writes, one object in flight; no client's disconnect can cancel it.

Who moves what: `seq`, the index and the state machine move in `_won` alone, together, without an await between.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from ...clock import Clock
from ...errors import Closed, HeadwaterError, Missing, Refused, Unavailable, Unknown
from ...objectstore import ObjectInfo, ObjectStore
from ...record import TopicPartition
from .boundary import read_boundary
from .cache import SegmentCache
from .checkpoints import Checkpoint, write_checkpoint
from .collection import Collector
from .entries import CommitResult, Entry, StateMachine
from .keys import wal_key
from .layout import Header, LogObject, encode_commit
from .opening import Opened, take_over
from .queue import SubmissionQueue
from .reader import ObjectJournal
from .settings import ObjectJournalSettings
from .slots import Attempts, claim

_DIRECTORY_FLUSH_S = 0.005  # an fsync or two; gathers what arrives together
_S3_FLUSH_S = 0.25
_WRITER_ID_BYTES = 16
_TAIL_ROUNDS = 3


class ShardWriter:
    """Made by `open`. `journal` reads what is durable."""

    def __init__(
        self,
        attempts: Attempts,
        shard: int,
        opened: Opened,
        *,
        state: StateMachine,
        settings: ObjectJournalSettings,
        clock: Clock,
    ) -> None:
        self._attempts = attempts
        self._shard = shard
        self._state = state
        self._settings = settings
        self._clock = clock
        self._index = opened.log_index
        self._head = opened.fence  # the newest durable object's header
        self._boundary_read = opened.boundary_read
        self._cache = SegmentCache(attempts, shard, settings)
        for seq, data in opened.recent:
            self._cache.keep_object(seq, data)
        self._collector = Collector(attempts, shard, opened.log_index)
        if opened.found.checkpoint is not None:
            self._collector.checkpoint_is_durable(opened.found.ordinal, opened.found.seq)
        self._next_ordinal = opened.found.next
        self._checkpoint_seq = opened.found.seq
        # the last attempt at a checkpoint, whether or not it came to be
        self._tried_seq, self._tried_at = opened.found.seq, clock.monotonic()
        self._one_at_a_time = asyncio.Lock()
        self.housekeeping_problem: str | None = None  # why the last checkpoint or collection failed
        self._queue = SubmissionQueue(
            bytes_max=settings.pending_bytes_max, durable_end=opened.log_index.end
        )
        remote = attempts.store.location.startswith("s3://")
        default = _S3_FLUSH_S if remote else _DIRECTORY_FLUSH_S
        self._flush_interval: float = (
            default if settings.flush_interval is None else settings.flush_interval
        )
        self._urgent = False
        self._in_flight: int | None = None  # the slot being tried for
        self._resolved = asyncio.Event()
        self._closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._closing = False
        self._housekeeping: asyncio.Task[None] | None = None
        self.journal = ObjectJournal(opened.log_index, self._cache, settings)
        self._writing = asyncio.get_running_loop().create_task(
            self._write_objects(), name=f"shard-{shard}-writer"
        )
        self._writing.add_done_callback(self._writer_ended)

    @classmethod
    async def open(
        cls,
        store: ObjectStore,
        shard: int,
        *,
        state: StateMachine,
        settings: ObjectJournalSettings,
        clock: Clock,
        rng: random.Random,
    ) -> ShardWriter:
        """Takes the shard from whoever has it. `rng` also makes the writer's identity: never seed it in production.

        Raises Closed when another writer is taking it at the same time, Unavailable, Corrupt, Refused.
        """
        attempts = Attempts(store, settings, rng)
        opened = await take_over(
            attempts,
            shard,
            writer=rng.randbytes(_WRITER_ID_BYTES),
            state=state,
            clock=clock,
            settings=settings,
        )
        return cls(attempts, shard, opened, state=state, settings=settings, clock=clock)

    @property
    def shard(self) -> int:
        return self._shard

    @property
    def epoch(self) -> int:
        """Grows with every takeover."""
        return self._head.epoch

    @property
    def seq(self) -> int:
        """The newest durable slot."""
        return self._head.seq

    @property
    def closed_reason(self) -> str | None:
        return self._closed.result() if self._closed.done() else None

    @property
    def pending_bytes(self) -> int:
        return self._queue.pending_bytes

    def next_offset(self, partition: TopicPartition) -> int:
        """Where the next submitted batch begins: counts what is not yet durable."""
        return self._queue.next_offset(partition)

    def submit(self, entries: Sequence[Entry]) -> asyncio.Future[CommitResult]:
        """Into one object, whole. The future gives the slot, or raises Closed (not in the log) or Unknown (may be).

        Raises Closed, Refused (offsets that do not follow), Unavailable (too much is pending: `await room()`).
        """
        if self._closed.done() or self._closing:
            raise Closed(f"shard {self._shard}: {self.closed_reason or 'closing'}")
        return self._queue.add(entries, now=self._clock.monotonic())

    async def room(self) -> None:
        """Returns when `submit` has room again, or the writer has closed."""
        await self._queue.room()

    async def flush(self) -> None:
        """Asks for the next object now; returns when all that was submitted before is resolved."""
        while len(self._queue) or self._in_flight is not None:
            if self._closed.done():
                return
            self._urgent = True
            self._queue.arrived.set()
            await self._resolution()

    async def wait_closed(self) -> str:
        """Returns the reason when the writer is closed, by whatever."""
        return await asyncio.shield(self._closed)

    async def tail_current(self) -> bool:
        """Whether this writer owned the shard at some moment after the call began. False closes the writer.

        One HEAD: the slot after the tail is free, so nobody has fenced us. Raises Closed, Unavailable.
        """
        for _ in range(_TAIL_ROUNDS):
            if self._closed.done():
                raise Closed(f"shard {self._shard}: {self.closed_reason}")
            slot = self._head.seq + 1
            taken = await self._head_of(wal_key(self._shard, slot))
            if taken is None:
                return True
            if self._in_flight == slot:
                await self._resolution()  # ours or theirs: the PUT knows
            elif self._head.seq < slot:
                self._shut(f"fenced: slot {slot} was taken by another writer")
                return False
        raise Unavailable(f"shard {self._shard}: the tail moved too fast to look at")

    async def _head_of(self, key: str) -> ObjectInfo | None:
        try:
            return await self._attempts.once(self._attempts.store.head(key), what=key)
        except Unknown as error:
            raise Unavailable(str(error)) from error  # a read that got no answer did nothing

    async def checkpoint(self) -> None:
        """Writes one if anything was committed since the last. Raises Unavailable, Unknown."""
        async with self._one_at_a_time:
            if self._checkpoint_seq == self._head.seq:
                return
            head = self._head
            self._tried_seq, self._tried_at = head.seq, self._clock.monotonic()
            snapshot = Checkpoint(
                shard=self._shard, seq=head.seq, epoch=head.epoch, digest=head.digest(),
                index=self._index.encode(), state=self._state.snapshot(),
            )  # fmt: skip
            ordinal = await write_checkpoint(self._attempts, snapshot, self._next_ordinal)
            self._next_ordinal = ordinal + 1
            self._checkpoint_seq = snapshot.seq
            self._collector.checkpoint_is_durable(ordinal, snapshot.seq)

    async def collect(self) -> int:
        """Deletes what is dead and covered by two checkpoints; how many objects went. Raises Unavailable, Unknown."""
        async with self._one_at_a_time:
            return await self._collector.collect()

    async def close(self) -> None:
        """Writes what was submitted, then stops. Cancel it (a timeout) to stop without: futures then get Unknown."""
        self._closing = True
        try:
            await self.flush()
        finally:
            self._shut("closed by its owner")
            await asyncio.gather(self._writing, return_exceptions=True)
            if self._housekeeping is not None:
                self._housekeeping.cancel()
                await asyncio.gather(self._housekeeping, return_exceptions=True)
            await self._cache.close()

    def kill(self) -> None:
        """Stops at once, as a crash would."""
        self._shut("killed")
        if self._housekeeping is not None:
            self._housekeeping.cancel()

    async def _write_objects(self) -> None:
        while True:
            await self._next_object()
            submissions = self._queue.take(self._settings.flush_bytes)
            entries = [entry for submission in submissions for entry in submission.entries]
            header = Header(
                shard=self._shard, seq=self._head.seq + 1, epoch=self._head.epoch,
                writer=self._head.writer, previous=self._head.digest(),
                written_ms=self._clock.wall_ms(),
            )  # fmt: skip
            log_object, data = encode_commit(header, entries)
            self._in_flight = log_object.header.seq
            try:
                holder = await claim(self._attempts, log_object.header, data)
            except (Missing, Refused) as error:
                self._shut(f"slot {header.seq}: {error}", in_flight=Unknown)
                return
            if holder is not None:
                self._shut(f"fenced: slot {header.seq} was taken by epoch {holder.epoch}")
                return
            if not await self._boundary_allows(header.seq):
                return
            self._won(log_object, data)

    async def _next_object(self) -> None:
        """Waits for something to write, then for company: until the interval is over or an object is full."""
        queue = self._queue
        interval = self._flush_interval
        while True:
            left: float | None = None
            if len(queue):
                left = queue.oldest_at + interval - self._clock.monotonic()
                if self._urgent or left <= 0 or queue.waiting_bytes >= self._settings.flush_bytes:
                    self._urgent = False
                    return
            else:
                self._urgent = False
            queue.arrived.clear()
            try:
                async with asyncio.timeout(left):
                    await queue.arrived.wait()
            except TimeoutError:
                pass

    async def _boundary_allows(self, seq: int) -> bool:
        """The look at the boundary after a win, when the last is old. Not needed while fences stand; see FORMAT.md."""
        now = self._clock.monotonic()
        if now - self._boundary_read <= self._settings.boundary_check_interval:
            return True
        boundary = await read_boundary(self._attempts, self._shard)
        if boundary.seq > seq:
            self._shut(
                f"slot {seq} is below the boundary {boundary.seq}: this writer was long replaced",
                in_flight=Unknown,
            )
            return False
        self._boundary_read = now
        return True

    def _won(self, log_object: LogObject, data: bytes) -> None:
        header = log_object.header
        self._head = header
        self._index.apply(log_object)
        self._state.apply(header.seq, log_object.entries)
        self._cache.keep_object(header.seq, data)
        self._in_flight = None
        self._queue.succeed(header.seq)
        self._resolve()
        due = self._clock.monotonic() - self._tried_at >= self._settings.checkpoint_interval
        many = header.seq - self._tried_seq >= self._settings.checkpoint_objects
        if (due or many) and (self._housekeeping is None or self._housekeeping.done()):
            self._housekeeping = asyncio.get_running_loop().create_task(
                self._keep_house(), name=f"shard-{self._shard}-housekeeping"
            )

    async def _keep_house(self) -> None:
        """Checkpoint and collection beside the commits; a store in trouble gets another chance at the next."""
        try:
            await self.checkpoint()
            await self.collect()
        except HeadwaterError as error:
            self.housekeeping_problem = str(error)
        else:
            self.housekeeping_problem = None

    async def _resolution(self) -> None:
        """Returns when the next slot is resolved, or the writer has closed."""
        await self._resolved.wait()

    def _resolve(self) -> None:
        """Wakes all who wait for a resolution, and makes the next one a new wait."""
        self._resolved.set()
        self._resolved = asyncio.Event()

    def _shut(self, reason: str, *, in_flight: type[HeadwaterError] = Closed) -> None:
        if self._closed.done():
            return
        self._closed.set_result(reason)
        message = f"shard {self._shard}: {reason}"
        if self._writing is not asyncio.current_task():
            self._writing.cancel()
            in_flight = Unknown  # its slot is abandoned without an answer
        self._in_flight = None
        self._queue.fail(in_flight(message), Closed(message))
        self._resolve()

    def _writer_ended(self, task: asyncio.Task[None]) -> None:
        """The supervisor of the writing task: an error of ours closes the writer and says so."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._shut(f"{type(error).__name__}: {error}", in_flight=Unknown)
        else:
            self._shut("cancelled", in_flight=Unknown)
