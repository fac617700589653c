"""The uplink as the edge's daemon sees it: made once, run until cancelled, asked for progress and status at any time.

It never gives up and never refuses to start: whatever is wrong with link, cluster or cursor is a state to be seen
(`status()`), and the journal keeps the records meanwhile. One session at a time; between two, a pause with full jitter,
so that a thousand edges do not meet a cloud that has just come back at the same moment.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence

import structlog

from ...core.clock import Clock
from ...core.errors import HeadwaterError
from ...core.journal.reading import bounds_or_none
from ...core.kafka.connection import Intercepted
from ...core.record import TopicPartition
from .books import Books
from .cluster import Address, Cluster, Connection, Dialer, Replaced
from .cursor import CursorStore
from .dialing import dialer
from .feeding import UplinkJournal
from .keeper import Keeper
from .lane import Budget
from .lanes import PartitionLanes
from .limits import PRIORITY_MAX
from .overview import Overview
from .parts import OnRefused, Parts
from .ranges import unsent
from .session import Session
from .settings import UplinkSettings
from .shaping import Shaper
from .status import LinkOverview, LinkState, Pace, PartitionStatus, UplinkStatus, seconds_to_empty
from .totals import LinkTotals

_log = structlog.get_logger()


class Uplink:
    """`bootstrap`: brokers of the cluster; `dial`: how to reach one; `on_refused`: called, and awaited until the loss is
    durable, before a record that the cloud will never take is passed over."""

    def __init__(
        self,
        journal: UplinkJournal,
        settings: UplinkSettings,
        *,
        edge: str,
        bootstrap: Sequence[Address],
        store: CursorStore,
        clock: Clock,
        rng: random.Random,
        on_refused: OnRefused,
        dial: Dialer | None = None,
        books: Books | None = None,
        priorities: Mapping[str, int] | None = None,
    ) -> None:
        self._books = books or Books(Shaper(settings.shaping, clock=clock), clock=clock)
        self._parts = Parts(
            edge=edge,
            journal=journal,
            settings=settings,
            clock=clock,
            rng=rng,
            on_refused=on_refused,
            shaper=self._books.shaper,
            priorities=priorities or {},
        )
        self._bootstrap = bootstrap
        self._store = store
        self._plain_dial = dial or dialer(edge, settings)
        self._notified = asyncio.Event()
        self._partitions: dict[TopicPartition, PartitionLanes] = {}
        self._lanes_of: str | None = None
        self._budget = Budget(settings.memory_bytes_max)
        self._known = _last_known(store)
        self._progress = _contiguous(self._known)
        self._state = LinkState.STOPPED
        self._session: Session | None = None
        self._last_error = "; ".join(store.damaged)
        self._cluster_id = ""
        self._pace = Pace()
        self.next_attempt_at = 0.0
        self._overview = Overview(
            self,
            journal,
            name=", ".join(f"{host}:{port}" for host, port in bootstrap),
            shaper=self._books.shaper,
            meter=self._books.meter,
            clock=clock,
            priority=self._parts.priority,
        )
        self._books.on_look = self._look
        self.totals = LinkTotals()

    def notify(self, commit: int = 0) -> None:
        """Something became durable in the journal: what the committer's listener calls, on the loop."""
        self._notified.set()

    @property
    def progress(self) -> Mapping[TopicPartition, int]:
        """One past the highest offset that is in the cloud for good, by partition: retention may drop what is below."""
        return self._progress

    async def _dial(self, host: str, port: int) -> Connection:
        connection = await self._plain_dial(host, port)
        self._books.dialled(connection)
        return connection

    async def run(self) -> None:
        """Until cancelled."""
        books = asyncio.create_task(self._books.run(), name="uplink books")
        try:
            await self._run()
        finally:
            books.cancel()
            await asyncio.gather(books, return_exceptions=True)

    async def _run(self) -> None:
        for damage in self._store.damaged:
            _log.error("uplink cursor damaged", reason=damage)
        settings = self._parts.settings
        backoff = self._parts.backoff()
        self._state = LinkState.WAITING
        try:
            await asyncio.sleep(self._parts.rng.random() * float(settings.spread))
            while True:
                started = self._parts.clock.monotonic()
                self._state = LinkState.CONNECTING
                try:
                    await self._one_session()
                    captive = False
                except HeadwaterError as error:
                    captive = isinstance(error, Intercepted)
                    self._report(str(error))
                    if isinstance(error, Replaced):
                        self._leave()
                except (
                    Exception
                ):  # the supervisor: begin again from what is durable, and leave MQTT alone
                    captive = False
                    _log.exception("uplink failed")
                    self._leave()
                if self._parts.clock.monotonic() - started >= settings.stable_after:
                    backoff.reset()
                self._state = LinkState.CAPTIVE if captive else LinkState.WAITING
                pause = backoff.next()
                self.next_attempt_at = self._parts.clock.monotonic() + pause
                await asyncio.sleep(pause)
        finally:
            self._state = LinkState.STOPPED

    async def _one_session(self) -> None:
        settings = self._parts.settings
        cluster = Cluster(
            self._bootstrap,
            self._dial,
            timeout_s=settings.request_timeout,
            rng=self._parts.rng,
            spread_s=float(settings.spread),
        )
        await cluster.connect()
        cursor, new = self._store.cluster(cluster.cluster_id)
        if self._lanes_of != cluster.cluster_id:
            self._leave()  # after `store.cluster`, which made this one the last used
        self._lanes_of = self._cluster_id = cluster.cluster_id
        self._state = LinkState.CONNECTED
        _log.info("uplink connected", cluster=cluster.cluster_id, new=new)
        keeper = Keeper(self._store, cursor, self._partitions)
        session = Session(
            self._parts,
            cluster,
            keeper,
            self._partitions,
            budget=self._budget,
            totals=self.totals,
            acked=self._acked,
        )
        self._session = session
        # lanes of an earlier session begin by asking; nothing of theirs is in flight any more
        for partition in self._partitions.values():
            partition.resume(session.changed)
        try:
            await session.run(self._notified)
        finally:
            self._session = None
            try:
                await keeper.save()
            except HeadwaterError as error:
                _log.warning("uplink cursor cannot be written", reason=str(error))

    def _leave(self) -> None:
        """Forget the lanes. On another cluster, what the last one had acknowledged says nothing about this one."""
        for partition in self._partitions.values():
            partition.stop()
        self._partitions = {}
        self._known = _last_known(self._store)
        self._progress = _contiguous(self._known)

    def _acked(self, partition: PartitionLanes) -> None:
        source = partition.route.source
        self._progress[source] = partition.ranges.progress
        self._known[source] = partition.ranges.acknowledged

    def unsent(self, source: TopicPartition, first: int, last: int) -> list[tuple[int, int]]:
        """Of `first` to `last`, both included, those that are not in the cloud for good: a live lane may be ahead."""
        partition = self._partitions.get(source)
        known = self._known.get(source, []) if partition is None else partition.ranges.acknowledged
        return unsent(known, first, last)

    def _report(self, reason: str) -> None:
        if reason != self._last_error:
            _log.warning("uplink down", reason=reason)
        self._last_error = reason

    # -- seen from outside -------------------------------------------------------------------------------------------

    def overview(self) -> LinkOverview:
        return self._overview.report()

    def _look(self) -> None:
        """Is there something that may be sent, and somebody to send it to?"""
        now = self._parts.clock.monotonic()
        held = self._books.shaper.hold(PRIORITY_MAX, now)
        is_held = held is not None and held.until - now > 1.0
        self._overview.look(
            could_move=self._state is LinkState.CONNECTED and self._is_behind() and not is_held
        )

    def _is_behind(self) -> bool:
        journal = self._parts.journal
        bounds = ((source, bounds_or_none(journal, source)) for source in journal.partitions())
        return any(b is not None and b.end > self._progress.get(s, b.start) for s, b in bounds)

    def status(self) -> UplinkStatus:
        partitions = [self._partition_status(source) for source in self._parts.journal.partitions()]
        done = sum(partition.end - partition.backlog_records for partition in partitions)
        self._pace.observe(done, self._parts.clock.monotonic())
        backlog = sum(partition.backlog_records for partition in partitions)
        pace = self._pace.records_per_second
        return UplinkStatus(
            state=self._state,
            cluster_id=self._cluster_id,
            last_error=(self._session.last_error if self._session else "") or self._last_error,
            backlog_records=backlog,
            backlog_bytes=sum(partition.backlog_bytes for partition in partitions),
            records_per_second=pace,
            seconds_to_empty=seconds_to_empty(backlog, pace),
            memory_bytes=self._budget.used,
            partitions=partitions,
        )

    def _partition_status(self, source: TopicPartition) -> PartitionStatus:
        bounds = bounds_or_none(self._parts.journal, source)
        start, end = bounds or (0, 0)
        lanes = self._partitions.get(source)
        lane = None if lanes is None else lanes.live
        acked = max(start, self._progress.get(source, start))
        left = self.unsent(source, acked, end - 1) if end > acked else []
        records = sum(last - first + 1 for first, last in left)
        each = lane.bytes_per_record if lane else 100.0
        return PartitionStatus(
            stream=source.topic,
            partition=source.partition,
            target=lane.route.target.partition if lane else -1,
            stage=lane.flow.stage.value if lane else "not begun",
            acked=acked,
            end=end,
            backlog_records=records,
            backlog_bytes=int(records * each),
            last_error=lane.flow.last_error if lane else "",
            ranges=len(lanes.ranges.flows) if lanes else 0,
        )


def _last_known(store: CursorStore) -> dict[TopicPartition, list[tuple[int, int]]]:
    """What the cluster used last had acknowledged, as [first, next), until it is met again."""
    clusters = store.cursors.clusters.values()
    last = max(clusters, key=lambda cluster: cluster.used, default=None)
    if last is None:
        return {}
    sources = [
        TopicPartition(stream, number)
        for stream, numbers in last.streams.items()
        for number in numbers
    ]
    return {
        source: [(cursor.origin, cursor.acked) for cursor in last.get(source)] for source in sources
    }


def _contiguous(known: Mapping[TopicPartition, list[tuple[int, int]]]) -> dict[TopicPartition, int]:
    return {source: ranges[0][1] for source, ranges in known.items()}
