"""One session with a cluster: lanes and links, and the engine that looks at a lane whenever something changed about it.

Rim. Four loops share one task group: the engine (needs and offers), the feeder (journal reads), the poll (new partitions,
new ends) and the keeper (progress to disk); beside them one task for each leader's link. Nothing looks at all lanes but
the poll, which is paced by their number, so ten thousand idle partitions cost little.

It ends, by an exception, only when no broker of the cluster can be reached any more, or another cluster answers in its
place; links and needs repair themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping

import structlog

from ...core.backoff import Backoff
from ...core.errors import HeadwaterError, Unavailable, Unknown
from ...core.journal.reading import bounds_or_none
from ...core.record import TopicPartition
from .cluster import Cluster, Replaced
from .feeding import Feeder
from .keeper import Keeper
from .lane import Budget, Lane
from .lanes import PartitionLanes
from .link import PUT_ASIDE_S, Link
from .parts import Parts
from .stages import Need
from .steward import Admission, Steward
from .totals import LinkTotals

_log = structlog.get_logger()
# Metadata failures in a row after which the session is given up and the bootstrap list asked again.
_REFRESH_TRIES = 3
# Between two looks at every partition's end: at least this, and so much more per partition that it stays below a tenth
# of the processor. What is missed is found at the next look.
_POLL_S = 0.02
_POLL_PER_PARTITION_S = 2e-5
_POLL_IDLE_S = 5.0
# How often a lane that waits for its window or for tomorrow's budget is looked at: the link may have become a free one.
_ASIDE_S = 30.0
# Between two attempts to open live lanes, at most.
_OPEN_PAUSE_S = 5.0
# Needs of the same kind that are met one by one (reading back) share the link with live data.
_NEEDS_AT_ONCE = 4


class Session:
    def __init__(
        self,
        parts: Parts,
        cluster: Cluster,
        keeper: Keeper,
        partitions: dict[TopicPartition, PartitionLanes],
        *,
        budget: Budget,
        totals: LinkTotals,
        acked: Callable[[PartitionLanes], None],
    ) -> None:
        self._parts = parts
        self._cluster = cluster
        self._keeper = keeper
        self._partitions = partitions
        self._budget = budget
        self._totals = totals
        self._acked = acked
        self._steward = Steward(
            cluster,
            keeper,
            parts.journal,
            parts.origin,
            parts.settings,
            on_refused=parts.on_refused,
            clock=parts.clock,
        )
        self._feeder = Feeder(parts.journal, parts.settings, budget, clock=parts.clock)
        self._links: dict[int, Link] = {}
        self._dirty: dict[Lane, None] = {}
        self._hungry: dict[Lane, None] = {}
        self._engine_wake = asyncio.Event()
        self._feeder_wake = asyncio.Event()
        self._refresh_wake = asyncio.Event()
        self._needs_at_once = asyncio.Semaphore(_NEEDS_AT_ONCE)
        self._group: asyncio.TaskGroup | None = None
        self._open_after = 0.0
        self._open_backoff = Backoff(parts.rng, first_s=0.1, cap_s=_OPEN_PAUSE_S)
        self._notified = asyncio.Event()
        self.last_error = ""

    async def run(self, notified: asyncio.Event) -> None:
        """Until cancelled, or raises Unavailable when the cluster is gone, Replaced when there is another."""
        self._notified = notified
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._engine())
                group.create_task(self._feed())
                group.create_task(self._poll(notified))
                group.create_task(self._refresh())
                group.create_task(self._keeper.run(self._parts.settings.cursor_interval))
        except* HeadwaterError as gone:
            kind = Unavailable if gone.subgroup(Replaced) is None else Replaced
            raise kind(str(gone.exceptions[0])) from gone
        finally:
            self._group = None
            for partition in self._partitions.values():
                partition.stop()
            await self._cluster.close()

    # -- the engine --------------------------------------------------------------------------------------------------

    def changed(self, lane: Lane) -> None:
        self._dirty[lane] = None
        self._engine_wake.set()

    async def _engine(self) -> None:
        while True:
            dirty, self._dirty = self._dirty, {}
            needs: dict[Need, list[Lane]] = {}
            for index, lane in enumerate(dirty):
                need = self._examine(lane)
                if need is not Need.NOTHING:
                    lane.busy = True
                    needs.setdefault(need, []).append(lane)
                if index % 256 == 255:
                    await asyncio.sleep(0)
            for need, lanes in needs.items():
                self._meet(need, lanes)
            if not self._dirty:
                self._engine_wake.clear()
                await self._engine_wake.wait()
            else:
                await asyncio.sleep(0)

    def _examine(self, lane: Lane) -> Need:
        """What the lane needs; offers it to its link, or sets its timer."""
        flow = lane.flow
        if not lane.owner.examine(lane):
            self._hungry.pop(lane, None)
            return Need.NOTHING
        lane.account()
        self._acked(lane.owner)
        while flow.notices:
            notice = flow.notices.pop(0)
            self.last_error = f"{lane.route.source}: {notice.detail}"
            _log.warning(notice.event, partition=str(lane.route.source), detail=notice.detail)
        if flow.last_error:
            self.last_error = f"{lane.route.source}: {flow.last_error}"
        if flow.stale_leader:
            flow.stale_leader = False
            self._refresh_wake.set()
        now = self._parts.clock.monotonic()
        lane.cutter.patience = self._parts.patience(lane.priority)
        hold = self._parts.shaper.hold(lane.priority, now)
        waits_long = hold is not None and hold.until - now > PUT_ASIDE_S
        if not waits_long and lane.hungry(self._parts.settings.batch_bytes_max):
            self._hungry[lane] = None
            self._feeder_wake.set()
        if lane.busy:
            return Need.NOTHING
        if hold is not None and waits_long:
            self._hungry.pop(lane, None)
            lane.put_aside()
            lane.wake_at(min(hold.until, now + _ASIDE_S), now, asyncio.get_running_loop())
            return Need.NOTHING
        need = flow.need(now)
        if need is not Need.NOTHING:
            return need
        if lane.sendable(now):
            self._offer(lane, now)
            return Need.NOTHING
        if flow.retry_at > now:
            lane.wake_at(flow.retry_at, now, asyncio.get_running_loop())
        elif (due := lane.cutter.due_at) is not None and due > now:
            lane.wake_at(due, now, asyncio.get_running_loop())
        return Need.NOTHING

    def _offer(self, lane: Lane, now: float) -> None:
        leader = self._cluster.leader(lane.route.target)
        if leader is None:
            self._refresh_wake.set()
            lane.wake_at(now + 1.0, now, asyncio.get_running_loop())
            return
        link = self._links.get(leader)
        if link is None:
            link = self._links[leader] = self._new_link(leader)
        link.offer(lane)

    def _new_link(self, node: int) -> Link:
        settings = self._parts.settings
        link = Link(
            node,
            lambda: self._cluster.dial(node),
            settings,
            clock=self._parts.clock,
            backoff=self._parts.backoff(),
            totals=self._totals,
            shaper=self._parts.shaper,
            on_trouble=self._on_trouble,
            on_connected=self._on_connected,
        )
        self._spawn(link.run())
        return link

    def _on_trouble(self, reason: str) -> None:
        self.last_error = reason
        self._refresh_wake.set()

    def _on_connected(self, node: int) -> None:
        for partition in self._partitions.values():
            if self._cluster.leader(partition.route.target) == node:
                partition.returned()
        self._notified.set()

    def _reaches(self, partition: PartitionLanes) -> bool:
        """As far as known: a link that does not exist yet is made with the first batch."""
        leader = self._cluster.leader(partition.route.target)
        link = None if leader is None else self._links.get(leader)
        return leader is not None and (link is None or link.connected)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        if self._group is None:
            work.close()
            return
        self._group.create_task(work)

    # -- needs -------------------------------------------------------------------------------------------------------

    def _meet(self, need: Need, lanes: list[Lane]) -> None:
        match need:
            case Need.DESCRIBE:
                self._spawn(self._met(lanes, lambda: self._steward.describe(lanes)))
            case Need.SAVE:
                self._spawn(self._met(lanes, lambda: self._steward.save(lanes)))
            case _:
                for lane in lanes:
                    self._spawn(self._met_alone(need, lane))

    async def _met_alone(self, need: Need, lane: Lane) -> None:
        async with self._needs_at_once:
            match need:
                case Need.READ_BACK:
                    await self._met([lane], lambda: self._steward.read_back(lane))
                case Need.PRODUCER:
                    await self._met([lane], lambda: self._steward.producer(lane))
                case _:
                    await self._met([lane], lambda: self._steward.declare(lane))
                    self._totals.refused += lane.flow.refusal is None

    async def _met(self, lanes: list[Lane], work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except HeadwaterError as error:
            now = self._parts.clock.monotonic()
            for lane in lanes:
                lane.flow.failed(now, str(error))
                lane.flow.stale_leader = True
        finally:
            for lane in lanes:
                lane.busy = False
                lane.changed()

    # -- records -----------------------------------------------------------------------------------------------------

    async def _feed(self) -> None:
        while True:
            batch_bytes = self._parts.settings.batch_bytes_max
            for lane in [lane for lane in self._hungry if not lane.hungry(batch_bytes)]:
                del self._hungry[lane]
            if self._hungry and await self._feeder.feed(list(self._hungry), self._partitions):
                await asyncio.sleep(0)
                continue
            self._feeder_wake.clear()
            await self._feeder_wake.wait()

    async def _poll(self, notified: asyncio.Event) -> None:
        """Notice what the journal has; `notified` is set by whoever commits to it."""
        backoff = self._parts.backoff()
        while True:
            notified.clear()
            strangers: dict[str, list[int]] = {}
            lagging: list[PartitionLanes] = []
            now = self._parts.clock.monotonic()
            for source in self._parts.journal.partitions():
                partition = self._partitions.get(source)
                if partition is None:
                    strangers.setdefault(source.topic, []).append(source.partition)
                    continue
                bounds = bounds_or_none(self._parts.journal, source)
                if bounds is not None and partition.observe(bounds.end):
                    partition.live.changed()
                if partition.lags(now) and self._reaches(partition):
                    lagging.append(partition)
            await self._open_ranges(lagging, now)
            if await self._admit(strangers):
                backoff.reset()
                await asyncio.sleep(_POLL_S + _POLL_PER_PARTITION_S * len(self._partitions))
            else:
                await asyncio.sleep(backoff.next())
                continue
            try:
                async with asyncio.timeout(_POLL_IDLE_S):
                    await notified.wait()
            except TimeoutError:
                continue

    async def _admit(self, strangers: Mapping[str, list[int]]) -> bool:
        """Partitions met for the first time in this process; False where some could not be admitted yet."""
        whole = True
        for stream, partitions in strangers.items():
            try:
                admissions = await self._steward.admit(stream, partitions)
            except Replaced:
                raise
            except HeadwaterError as error:
                self.last_error = f"{stream}: {error}"
                _log.warning("uplink cannot begin a stream", stream=stream, reason=str(error))
                self._refresh_wake.set()
                whole = False
                continue
            for admission in admissions:
                self._partitions[admission.route.source] = self._new_partition(admission)
        if strangers:
            # those that begin with an outage's backlog begin with two lanes
            now = self._parts.clock.monotonic()
            new = [
                self._partitions.get(TopicPartition(s, n)) for s in strangers for n in strangers[s]
            ]
            await self._open_ranges([p for p in new if p is not None and p.lags(now)], now)
        if strangers and whole:
            self._keeper.cursor.rebuilt = False
        return whole

    def _new_partition(self, admission: Admission) -> PartitionLanes:
        partition = PartitionLanes(
            admission.route,
            admission.cursors,
            self._parts,
            fresh=admission.fresh,
            budget=self._budget,
            changed=self.changed,
        )
        bounds = self._parts.journal.bounds(admission.route.source)
        partition.observe(max(bounds.end, partition.live.flow.acked))
        for lane in partition:
            lane.changed()
        return partition

    async def _open_ranges(self, partitions: Collection[PartitionLanes], now: float) -> None:
        """Live lanes beside what is far behind; without them everything goes up in order, and all the same."""
        if not partitions or now < self._open_after:
            return
        try:
            await self._steward.open_ranges(partitions)
        except HeadwaterError as error:
            # brokers that have just started give out no producer ids for a moment
            self._open_after = now + self._open_backoff.next()
            self.last_error = f"no live lane: {error}"
            _log.warning("uplink cannot open live lanes", reason=str(error))
            self._refresh_wake.set()
        else:
            self._open_backoff.reset()
            _log.info("uplink sends live data beside the backlog", partitions=len(partitions))

    def _readmit(self) -> None:
        """Partitions whose place in the cloud is gone (the topic was deleted, or made anew with fewer) begin again."""
        for source, partition in list(self._partitions.items()):
            target = partition.route.target
            count = self._cluster.partitions(target.topic)
            if (count is None or target.partition >= count) and partition.is_idle:
                _log.warning("uplink topic is gone", partition=str(source), topic=target.topic)
                self._keeper.cursor.put(source, partition.cursors(()))
                partition.retire()
                del self._partitions[source]
                self._notified.set()

    # -- leaders -----------------------------------------------------------------------------------------------------

    async def _refresh(self) -> None:
        """Ask who leads what, when somebody doubts it; never in a tight loop."""
        failures = 0
        backoff = Backoff(self._parts.rng, first_s=0.2, cap_s=10.0)
        while True:
            await self._refresh_wake.wait()
            self._refresh_wake.clear()
            topics = {partition.route.target.topic for partition in self._partitions.values()}
            try:
                await self._cluster.refresh(topics)
            except (Unavailable, Unknown) as error:
                failures += 1
                if failures >= _REFRESH_TRIES or isinstance(error, Replaced):
                    raise Unavailable(
                        f"cluster {self._cluster.cluster_id} is gone: {error}"
                    ) from error
                self._refresh_wake.set()
            else:
                self._readmit()
                if not failures:
                    backoff.reset()
                failures = 0
            await asyncio.sleep(backoff.next())
