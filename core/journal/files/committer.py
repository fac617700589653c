"""The asyncio rim of the journal: self-clocking group commit.

While one sync runs in the disk thread, arrivals gather into the next commit; when it returns, they go. So the
batch size finds itself: a slow card gets large commits, a fast one small ones. Clients that wait for each
acknowledgement would settle into two groups, one waiting for the disk while the other is answered, and pay for twice
the syncs; so after a commit of many records the next waits, for about one sync at most, until as many are there as
were last served (`_gather`). `commit_interval` sets a floor to save flash. Records acknowledged early (early.py) cause
no commit until their interval is over, and go along with any other. Only this class calls seal, write and complete; only
its one thread touches the disk for writing.

A disk that refuses stalls the rim, it does not stop it: the same commit is tried again with growing pauses, `stalled`
says why, `pending_bytes` grows until the broker stops reading. Nothing is acknowledged meanwhile, nothing is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

import structlog

from ...backoff import Backoff
from ...clock import Clock
from ...errors import Closed, HeadwaterError, Unavailable
from ...gap import GAPS_PARTITION
from ...record import Record, TopicPartition
from .carrying import carried
from .compaction import steps
from .diskthread import DiskThread
from .journal import FileJournal
from .planning import RetentionPlan, plan
from .reservations import NOTE_END
from .retention import give_up, settle
from .settings import StreamRetention, WhenFull
from .shelf import Loss
from .thinning import thinned, thinned_partition
from .writing import Commit

_log = structlog.get_logger()
_T = TypeVar("_T")

# Below this many records a commit is not worth waiting for: a lone sensor gets its answer at once.
COMPANY_MIN = 16
# The longest wait for company: about a sync, but no less than a hundred answers take to come back over loopback; and a
# card that pauses for seconds must not make the commit after it wait as well.
GATHER_S_MIN, GATHER_S_MAX = 0.002, 0.005
# Whoever freed space, or mounted the disk again, wants the answer now; a refused write every two seconds harms nobody.
STALL_S_MAX = 2.0
# A spare is zeros by the megabyte: on a full disk not tried again after every commit.
SPARE_RETRY_S = 5.0
# Segments compacted without a turn for commits: an ordinary round needs no more, a second or two of a slow card. A limit
# lowered in the configuration makes runs of the whole log.
STEPS_MAX = 8


class Committer:
    """`start` inside a running loop; `task` fails only by a fault of ours, and then the daemon must stop."""

    def __init__(self, journal: FileJournal, *, clock: Clock, rng: random.Random) -> None:
        self.stalled: str | None = None
        self.task: asyncio.Task[None] | None = None
        self._journal = journal
        self._clock = clock
        self._backoff = Backoff(rng, first_s=float(journal.settings.stall_pause), cap_s=STALL_S_MAX)
        self._disk_thread = DiskThread("headwater-disk")
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._listeners: list[Callable[[int], None]] = []
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._last_seal = float("-inf")
        self.interval_s = float(journal.settings.commit_interval)
        """The floor between two syncs now: the wear budget may raise it (edge/wear)."""
        self._keeping = False
        self._marked = False  # the end of an orderly stop is written
        self._early_since: float | None = None  # since when all that is pending may wait
        self._alarm: asyncio.TimerHandle | None = None
        self._spare_trouble = False
        self._spare_again_at = float("-inf")
        self._company = 0  # requests wake the rim only when so many records are pending
        self._failure: Unavailable | None = None
        self._giving_up: asyncio.Task[None] | None = None

    @property
    def durable(self) -> int:
        """The highest durable commit number."""
        return self._journal.durable_commit

    @property
    def resting(self) -> bool:
        """What is pending waits because it may: for its interval, or for the floor between two syncs."""
        return self._alarm is not None or self._keeping

    @property
    def gathering(self) -> bool:
        """Waits until as many records are pending as were just answered: nobody's record is in a hurry."""
        return self._company > 0

    def start(self) -> None:
        self.task = asyncio.create_task(self._run(), name="committer")
        self.request()

    def request(self) -> None:
        """Something was appended. Cheap; call it as often as wanted."""
        if self._journal.pending_records >= self._company:
            if self._alarm is not None and self._journal.patience_s is not None:
                return  # it is set already
            self._wake.set()

    def add_listener(self, listener: Callable[[int], None]) -> None:
        """Called in the loop with each durable commit number, in order."""
        self._listeners.append(listener)

    async def wait_durable(self, commit: int) -> None:
        """Until `commit` is durable, or all that was appended is. Raises Closed where the rim ended before."""
        # an open commit that is empty never comes
        commit = min(commit, self._journal.newest_commit)
        if commit <= self.durable:
            return
        if self.task is None or self.task.done():
            raise Closed("the committer is not running")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((commit, future))
        self._journal.hurry()
        self.request()
        await future

    async def run(self, work: Callable[[], _T]) -> _T:
        """In the disk thread, between commits."""
        return await self._disk_thread.run(work)

    async def enforce_retention(
        self,
        now_ms: int,
        *,
        rules: Mapping[str, StreamRetention],
        sent: Mapping[TopicPartition, int] | None,
        declare: Callable[[Sequence[Loss]], None],
        free_bytes: int | None = None,
    ) -> list[Loss]:
        """Both phases: `declare` appends a gap record for each loss, which is durable before anything goes.

        Raises Unavailable: nothing was dropped, call it again later.
        """
        journal = self._journal
        agreed = await self.run(
            lambda: plan(journal, now_ms, rules=rules, sent=sent, free_bytes=free_bytes)
        )
        if agreed.carry is not None:
            first, end = agreed.carry
            for record in await self.run(lambda: carried(journal, first, end, now_ms=now_ms)):
                journal.append(GAPS_PARTITION, record)
        if agreed.losses:
            for partition, record in await self._thin(agreed.losses, rules):
                journal.append(partition, record)
            declare(agreed.losses)
        # what is declared is given up, also where the caller is cancelled: an orderly stop tells no loss that is none
        self._giving_up = asyncio.create_task(
            self._give_up(agreed, journal.open_commit), name="giving up"
        )
        await asyncio.shield(self._giving_up)
        return agreed.losses

    async def _give_up(self, agreed: RetentionPlan, declared_in: int) -> None:
        journal = self._journal
        if agreed.losses:
            await self.wait_durable(declared_in)
        if agreed or journal.appender.covered:
            await self.run(lambda: give_up(journal, agreed))
        try:
            for run in agreed.runs:
                compacting = steps(journal, run)
                while await self.run(partial(self._advance, compacting)):  # commits have their turn
                    if self._closing.is_set():
                        # nothing has happened: the next start plans it again, and loses nothing by it
                        await self.run(compacting.close)
                        break
                if self._closing.is_set():
                    break
        finally:
            try:
                await self.run(lambda: settle(journal))
            finally:
                journal.update_full()

    def _advance(self, compacting: Iterator[None]) -> bool:
        """One step, or some more while a commit could use the last of the room: then whoever publishes waits for what is
        being made, instead of being refused. Whether there are more."""
        for count, _ in enumerate(compacting, 1):
            is_urgent = self._journal.rolls_left <= 0 and not self._closing.is_set()
            if not is_urgent or count >= STEPS_MAX:
                return True
        return False

    async def _thin(
        self, losses: Sequence[Loss], rules: Mapping[str, StreamRetention]
    ) -> list[tuple[TopicPartition, Record]]:
        """What is to be appended in place of records that go."""
        found: list[tuple[TopicPartition, Record]] = []
        for loss in losses:
            rule = rules.get(loss.partition.topic)
            if rule is not None and rule.when_full is WhenFull.THIN_OLDEST:
                work = partial(
                    thinned, self._journal, loss, interval_ms=int(rule.thin_interval * 1000)
                )
                target = thinned_partition(loss.partition)
                found += [(target, record) for record in await self.run(work)]
        return found

    async def close(self) -> None:
        """Commit what is pending, then end. Raises Unavailable where the disk refused: it was never acknowledged, but
        for records of streams that are not `sync`."""
        self._closing.set()
        self._journal.renounce()
        self.request()
        if self.task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
        if self._giving_up is not None:
            with contextlib.suppress(
                HeadwaterError
            ):  # told to whoever asked for it, if anybody still waits
                await self._giving_up
        self._disk_thread.close()
        self._end_waiters()
        if self._failure is not None:
            raise self._failure

    async def _run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if self._may_wait():
                    continue
                await self._keep_interval()
                self._early_since = None
                commit = self._journal.seal()
                if commit is not None:
                    self._last_seal = self._clock.monotonic()
                    if not await self._write(commit):
                        return
                    self._journal.complete(commit)
                    served = commit.records + self._journal.pending_records
                    self._tell(commit.number)
                    await self._gather(served)
                    self._wake.set()  # what arrived meanwhile goes now
                elif self._closing.is_set():
                    if self._marked or not self._journal.counters.commits:
                        return
                    self._marked = True
                    self._journal.note(NOTE_END, b"")
                    self._wake.set()
                else:
                    await self._prepare()
        finally:
            self._end_waiters()

    def _may_wait(self) -> bool:
        """All that is pending was acknowledged early: it goes when its time is up, or with whatever cannot wait."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        patience = self._journal.patience_s
        if patience is None or self._closing.is_set():
            return False
        now = self._clock.monotonic()
        if self._early_since is None:
            self._early_since = now
        left = self._early_since + patience - now
        if left <= 0:
            return False
        self._alarm = asyncio.get_running_loop().call_later(left, self._wake.set)
        return True

    async def _gather(self, served: int) -> None:
        """Until as many records are pending as were served in the last round, or for about one sync."""
        if (
            served < COMPANY_MIN
            or self._journal.pending_records >= served
            or self._journal.overfull
        ):
            return
        pause = min(max(GATHER_S_MIN, self._journal.counters.last_sync_s), GATHER_S_MAX)
        timer = asyncio.get_running_loop().call_later(pause, self._wake.set)
        self._company = served
        self._wake.clear()
        try:
            await self._wake.wait()
        finally:
            self._company = 0
            timer.cancel()

    async def _keep_interval(self) -> None:
        pause = self._last_seal + self.interval_s - self._clock.monotonic()
        if pause > 0 and not self._journal.overfull:
            self._keeping = True
            await self._pause(pause)
            self._keeping = False

    async def _pause(self, seconds: float) -> None:
        # not wait_for: before Python 3.12 it can swallow a cancellation
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    async def _write(self, commit: Commit) -> bool:
        """False where the disk still refuses while closing."""
        while True:
            try:
                await self.run(commit.write)
            except HeadwaterError as error:  # a name that is gone or not permitted may come back
                if self.stalled is None:
                    _log.warning(
                        "disk refuses, nothing is acknowledged until it accepts", reason=str(error)
                    )
                self.stalled = str(error)
                if self._closing.is_set():
                    self._failure = Unavailable(
                        f"{commit.records} records were not committed: {error}"
                    )
                    return False
                await self._pause(self._backoff.next())
                continue
            if self.stalled is not None:
                _log.info("disk accepts again", records=commit.records)
                self.stalled = None
                self._backoff.reset()
            return True

    async def _prepare(self) -> None:
        """Idle: make a missing spare, so that no later commit waits for it."""
        now = self._clock.monotonic()
        if not self._journal.appender.wants_spare or now < self._spare_again_at:
            return
        try:
            if await self.run(self._journal.appender.prepare):
                self.request()
            self._spare_trouble = False
        except HeadwaterError as error:
            self._spare_again_at = now + SPARE_RETRY_S
            if not self._spare_trouble:
                self._spare_trouble = True
                _log.warning("cannot prepare a spare segment", reason=str(error))

    def _tell(self, commit: int) -> None:
        for listener in self._listeners:
            listener(commit)
        waiting, self._waiters = self._waiters, []
        for wanted, future in waiting:
            if wanted > commit:
                self._waiters.append((wanted, future))
            elif not future.done():
                future.set_result(None)

    def _end_waiters(self) -> None:
        waiting, self._waiters = self._waiters, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(Closed("the committer ended before the commit was durable"))
