"""The sink: follows every stream of a cluster and commits each to its table.

One loop fetches; one task per stream commits, at most every `interval`, earlier at `commit_bytes`. Fetching goes on
during commits up to `memory_bytes`. A stream that cannot be committed (its table is damaged or another's) is blocked
by itself, tried again later, and the reason shown at /readyz; the others go on, even where the reason is a bug of ours.

Positions live in the tables. A sink has no state of its own: kill it anywhere, start it anywhere, start two.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import random

import structlog

from ...core.backoff import Backoff
from ...core.clock import Clock
from ...core.errors import Closed, Corrupt, HeadwaterError, Missing, Refused, Unavailable
from ...core.objectstore import ObjectStore
from ...core.record import TopicPartition
from ..lake.offload import Offload, in_thread
from .building import Built
from .metrics import SinkMetrics
from .settings import SinkSettings
from .source import Fetched, OutOfRange, Source
from .stream import Following, Stream
from .table import Overtaken, Table

_log = structlog.get_logger()

# A blocked stream is tried again after this long: whoever mends the table should not wait long for the sink.
BLOCKED_PAUSE_S = 15.0


class Sink:
    """`run` until `stop` is set. Single use."""

    def __init__(
        self,
        source: Source,
        store: ObjectStore,
        settings: SinkSettings,
        *,
        clock: Clock,
        rng: random.Random,
        metrics: SinkMetrics,
        offload: Offload = in_thread,
    ) -> None:
        self._source = source
        self._store = store
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._offload = offload
        self._cluster = ""
        self._streams: dict[str, Stream] = {}
        self._commits: dict[str, asyncio.Task[None]] = {}
        self._gate = asyncio.Semaphore(settings.commits_at_once)
        self._discover_at = 0.0
        self._trouble = "not connected yet"
        self._retries = Backoff(rng, first_s=0.1, cap_s=5.0)

    def reasons_not_ready(self) -> list[str]:
        reasons = [self._trouble] if self._trouble else []
        for name, stream in self._streams.items():
            if stream.blocked:
                reasons.append(f"stream {name}: {stream.blocked}")
            reasons += [own.halted for own in stream.partitions.values() if own.halted]
        return reasons

    # ---- the loop

    async def run(self, stop: asyncio.Event) -> None:
        stopping = asyncio.ensure_future(stop.wait())
        step: asyncio.Future[None] | None = None
        try:
            while not stop.is_set():
                step = asyncio.ensure_future(self._step())
                await asyncio.wait({step, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not step.done():
                    step.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await step
            await self._drain()
        finally:
            stopping.cancel()
            left = [*self._commits.values(), *([step] if step else [])]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _step(self) -> None:
        try:
            if self._clock.monotonic() >= self._discover_at:
                await self._discover()
            await self._fetch()
        except Unavailable as error:
            self._trouble = str(error)
            _log.warning("cluster or store unavailable", error=str(error))
            await asyncio.sleep(self._retries.next())
        except Closed as error:
            _log.warning("beginning anew", reason=str(error))
            await self._begin_anew()
        else:
            self._trouble = ""
            self._retries.reset()
        self._raise_failures()
        self._start_commits()

    async def _fetch(self) -> None:
        positions: dict[TopicPartition, int] = {}
        if self._bytes_held < self._settings.memory_bytes:
            for stream in self._streams.values():
                positions |= stream.positions()
        wait_s = self._wait_s()
        if not positions:
            await self._wait_for_commits(wait_s)
            return
        began = self._clock.monotonic()
        answers = await self._source.fetch(positions, wait_s=wait_s)
        self._take(answers)
        if not answers and self._clock.monotonic() - began < wait_s / 2:
            await asyncio.sleep(wait_s / 2)  # partitions without a leader answer at once

    def _take(self, answers: list[Fetched | OutOfRange]) -> None:
        now = self._clock.monotonic()
        for answer in answers:
            stream = self._streams.get(answer.partition.topic)
            if stream is None:
                continue
            if isinstance(answer, Fetched):
                self._metrics.bytes_read.inc(len(answer.batches))
            else:
                _log.warning(
                    "offset out of range",
                    partition=str(answer.partition),
                    offset=answer.offset,
                    log_start=answer.bounds.start,
                    log_end=answer.bounds.end,
                )
            stream.take(answer, now)
        self._metrics.pending.set(self._bytes_held)

    @property
    def _bytes_held(self) -> int:
        return sum(stream.bytes_held for stream in self._streams.values())

    def _wait_s(self) -> float:
        """No longer than until the next commit or discovery is due."""
        now = self._clock.monotonic()
        due = [self._discover_at - now]
        due += [
            stream.pending_since + self._settings.interval - now
            for name, stream in self._streams.items()
            if stream.pending and name not in self._commits
        ]
        return max(0.001, min(float(self._settings.fetch_wait), *due))

    async def _wait_for_commits(self, wait_s: float) -> None:
        if self._commits:
            await asyncio.wait(
                self._commits.values(), timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
            )
        else:
            await asyncio.sleep(wait_s)

    # ---- which streams

    async def _discover(self) -> None:
        cluster = await self._source.cluster_id()
        if self._cluster and cluster != self._cluster:
            raise Closed(f"cluster {self._cluster} was replaced by cluster {cluster}")
        self._cluster = cluster
        for partition in sorted(await self._source.partitions()):
            if self._wanted(partition.topic):
                await self._follow(partition)
        for stream in self._streams.values():
            for own in stream.partitions.values():
                own.halted = ""  # look again: it may have been mended
        self._discover_at = self._clock.monotonic() + self._settings.discovery

    def _wanted(self, topic: str) -> bool:
        def matches(patterns: tuple[str, ...]) -> bool:
            return any(fnmatch.fnmatchcase(topic, pattern) for pattern in patterns)

        return matches(self._settings.include) and not matches(self._settings.exclude)

    async def _follow(self, partition: TopicPartition) -> None:
        stream = self._streams.get(partition.topic)
        if stream is None:
            stream = self._streams[partition.topic] = Stream(self._new_table(partition.topic))
            await self._open(stream)
        elif stream.blocked and self._clock.monotonic() >= stream.retry_at:
            await self._open(stream)
        if stream.blocked or partition.topic in self._commits:
            return
        if stream.table.bind(self._source.topic_ids.get(partition.topic, "")):
            _log.warning("topic was made anew", topic=partition.topic)
            stream.begin_anew()
        if partition in stream.partitions:
            return
        position = stream.table.position(partition)
        if position is None:
            try:
                position = (await self._source.bounds(partition)).start
            except Missing:
                return
        stream.partitions[partition] = Following(position)

    def _new_table(self, topic: str) -> Table:
        return Table(
            self._store,
            topic,
            self._cluster,
            settings=self._settings,
            clock=self._clock,
            rng=self._rng,
            offload=self._offload,
        )

    async def _open(self, stream: Stream) -> None:
        """Read the table, and fall back to its positions. Where that fails the stream is blocked."""
        try:
            await stream.table.open()
        except HeadwaterError as error:
            self._block(stream, error)
        else:
            stream.blocked = ""
            stream.fall_back()

    def _block(self, stream: Stream, error: HeadwaterError) -> None:
        _log.error("stream blocked", stream=stream.table.stream, error=str(error))
        stream.block(str(error), self._clock.monotonic() + BLOCKED_PAUSE_S)

    async def _begin_anew(self) -> None:
        """Another cluster: its offsets mean nothing for what we hold."""
        for task in self._commits.values():
            task.cancel()
        await asyncio.gather(*self._commits.values(), return_exceptions=True)
        self._commits.clear()
        self._streams.clear()
        self._cluster = ""
        self._discover_at = 0.0

    # ---- commits

    def _start_commits(self, *, all_of_them: bool = False) -> None:
        now = self._clock.monotonic()
        full = self._bytes_held >= self._settings.memory_bytes
        for name, stream in self._streams.items():
            if not stream.pending or name in self._commits or stream.blocked:
                continue
            due = (
                now - stream.pending_since >= self._settings.interval
                or stream.pending_bytes >= self._settings.commit_bytes
            )
            if due or full or all_of_them:
                self._commits[name] = asyncio.ensure_future(self._commit(name, stream))

    async def _commit(self, name: str, stream: Stream) -> None:
        try:
            async with self._gate:
                fetched = stream.cut()
                if fetched and await self._is_remade(name, stream):
                    fetched = []
                    stream.fall_back()
                    self._discover_at = 0.0
                while fetched:
                    with self._metrics.commit_seconds.time():
                        built = await stream.table.commit(fetched)
                    if built is None:
                        break
                    self._count(name, stream, built)
                    fetched = built.rest
        except Overtaken as error:
            _log.warning("overtaken by another writer", stream=name, reason=str(error))
            self._metrics.overtaken.labels(name).inc()
            # not both at once again
            await asyncio.sleep(self._rng.random() * float(self._settings.interval))
            await self._open(stream)
            self._discover_at = 0.0
        except (Refused, Corrupt, Unavailable) as error:
            self._block(stream, error)
        except Exception as error:  # a bug of ours, met by one stream's data: the others go on
            _log.exception("commit failed", stream=name)
            self._block(stream, Refused(f"a bug: {type(error).__name__}: {error}"))
        finally:
            stream.committing_bytes = 0
            self._metrics.pending.set(self._bytes_held)
            if self._commits.get(name) is asyncio.current_task():
                del self._commits[name]

    async def _is_remade(self, name: str, stream: Stream) -> bool:
        """May what was fetched come from another topic than the one whose offsets we count? Ids never come back: where it is
        still the same, it was the same all the time. Where nobody can say, it is fetched again later."""
        before = stream.table.topic_id
        try:
            return bool(before) and await self._source.topic_id(name) not in {"", before}
        except Unavailable as error:
            _log.warning("nothing is committed", stream=name, error=str(error))
            return True

    def _count(self, name: str, stream: Stream, built: Built) -> None:
        metrics = self._metrics
        metrics.commits.labels(name).inc()
        metrics.rows.labels(name).inc(built.rows)
        metrics.dead_letters.labels(name).inc(built.dead)
        metrics.duplicates.labels(name).inc(built.duplicates)
        metrics.lost.labels(name).inc(sum(span.lost for span in built.kafka))
        metrics.bytes_written.inc(sum(add.size for add, _ in built.files))
        metrics.ambiguous.labels(name).inc(stream.table.delta.ambiguous)
        stream.table.delta.ambiguous = 0
        lags = [
            own.end - (stream.table.position(tp) or 0)
            for tp, own in stream.partitions.items()
            if own.end >= 0
        ]
        metrics.lag.labels(name).set(max(0, sum(lags)))
        _log.info(
            "committed",
            stream=name,
            version=stream.table.delta.snapshot.version,
            rows=built.rows,
            dead=built.dead,
            duplicates=built.duplicates,
        )

    def _raise_failures(self) -> None:
        """What no commit expects is a bug: it ends the sink, loudly."""
        for task in list(self._commits.values()):
            if task.done() and not task.cancelled() and task.exception() is not None:
                task.result()

    async def _drain(self) -> None:
        """Commit what was fetched. What does not get through in time is still in the log."""
        deadline = self._clock.monotonic() + self._settings.drain
        while any(stream.pending for stream in self._streams.values()) or self._commits:
            self._start_commits(all_of_them=True)
            left = deadline - self._clock.monotonic()
            if left <= 0 or not self._commits:
                return
            await asyncio.wait(
                self._commits.values(), timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            self._raise_failures()
