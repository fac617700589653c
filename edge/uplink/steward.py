"""The steward: meets what the partitions need from the world (`partition.Need`), and brings new partitions in.

Rim. Everything here asks and reports back; decisions are taken in partition.py. What fails with Unavailable or Unknown is
reported as `failed` and asked for again after the partition's own pause.

Admission of a partition that the cluster never saw: the topic exists, C is pinned, a producer id is at hand, the end of the
cloud partition is known, and all of that is durable, before the first batch can be cut. A crash in between leaves nothing
in the cloud but perhaps an empty topic and an unused producer id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import structlog

from ...core.batch import parse_header
from ...core.clock import Clock
from ...core.errors import Missing, OffsetOutOfRange, Refused, Unavailable, Unknown
from ...core.kafka.errors import ErrorCode
from ...core.kafka.messages.describe_producers import (
    DescribeProducersRequest,
    PartitionResponse,
    TopicRequest,
)
from ...core.kafka.messages.init_producer_id import InitProducerIdRequest
from ...core.record import GAPS_STREAM, TopicPartition
from .cluster import Cluster, check, describe
from .cursor import Era, PartitionCursor
from .cutting import Origin
from .evidence import Described
from .feeding import UplinkJournal
from .keeper import Keeper, Opening
from .lane import Lane, Route
from .lanes import PartitionLanes
from .parts import OnRefused
from .placement import place
from .readback import LATEST, cloud_ends, cloud_offset, read_back
from .settings import UplinkSettings
from .twins import CONTESTED_S, foreign

_log = structlog.get_logger()
# A topic that was just created needs a moment until its partitions have leaders.
_LEADER_TRIES = 50
_LEADER_PAUSE_S = 0.1
_PARTITIONS_MIN = 4


class Admission:
    """A partition whose cursors are durable. `fresh`: nothing of it was ever sent."""

    def __init__(self, route: Route, cursors: list[PartitionCursor], *, fresh: bool) -> None:
        self.route = route
        self.cursors = cursors
        self.fresh = fresh


class Steward:
    def __init__(
        self,
        cluster: Cluster,
        keeper: Keeper,
        journal: UplinkJournal,
        origin: Origin,
        settings: UplinkSettings,
        *,
        on_refused: OnRefused,
        clock: Clock,
    ) -> None:
        self._cluster = cluster
        self._keeper = keeper
        self._journal = journal
        self._origin = origin
        self._settings = settings
        self._on_refused = on_refused
        self._clock = clock
        self._can_describe = True

    # -- needs -------------------------------------------------------------------------------------------------------

    async def describe(self, lanes: Collection[Lane]) -> None:
        """Ask each leader once for all its partitions."""
        groups: dict[int, list[Lane]] = {}
        for lane in lanes:
            leader = self._cluster.leader(lane.route.target)
            if leader is None:
                lane.flow.stale_leader = True
                lane.flow.failed(self._clock.monotonic(), f"{lane.route.target} has no leader")
            else:
                groups.setdefault(leader, []).append(lane)
        await asyncio.gather(*(self._describe_at(node, group) for node, group in groups.items()))

    async def _describe_at(self, node: int, lanes: list[Lane]) -> None:
        answers: dict[TopicPartition, PartitionResponse] = {}
        asked_at = self._clock.monotonic()  # what lands after this the answer may not know
        if self._can_describe:
            topics: dict[str, set[int]] = {}
            for lane in lanes:
                target = lane.route.target
                topics.setdefault(target.topic, set()).add(target.partition)
            request = DescribeProducersRequest(
                topics=[
                    TopicRequest(name=name, partition_indexes=sorted(partitions))
                    for name, partitions in topics.items()
                ]
            )
            try:
                response = await self._cluster.ask(node, request)
            except (Unavailable, Unknown) as error:
                self._fail(lanes, str(error))
                return
            except Refused as error:
                # Kafka before 2.8: then every doubt is resolved by reading back
                _log.info("uplink broker cannot describe producers", reason=str(error))
                self._can_describe = False
            else:
                answers = {
                    TopicPartition(topic.name, partition.partition_index): partition
                    for topic in response.topics
                    for partition in topic.partitions
                }
        for lane in lanes:
            lane.owner.observe(self._journal.bounds(lane.route.source).end)
            self._described(lane, answers.get(lane.route.target), asked_at)

    def _fail(self, lanes: Collection[Lane], reason: str) -> None:
        now = self._clock.monotonic()
        for lane in lanes:
            lane.flow.stale_leader = True
            lane.flow.failed(now, reason)

    def _described(self, lane: Lane, answer: PartitionResponse | None, asked_at: float) -> None:
        flow, now = lane.flow, self._clock.monotonic()
        if answer is None and self._can_describe:
            flow.failed(now, f"no answer about {lane.route.target} in DescribeProducers")
            return
        if answer is not None and answer.error_code != ErrorCode.NONE:
            flow.stale_leader = True
            flow.failed(now, describe(answer.error_code, answer.error_message))
            return
        producer_id = flow.cursor.era.producer_id
        producers = answer.active_producers if answer is not None else ()
        state = next((state for state in producers if state.producer_id == producer_id), None)
        known = None if state is None else Described(state.producer_epoch, state.last_sequence)
        goes_on = not flow.cursor.suspect  # else it leaves that identity to whoever has it
        if known is not None and known.epoch == flow.cursor.era.epoch and goes_on:
            shown = flow.cursor.era.next_offset(known.last_sequence, near=flow.position)
            if self._is_ahead(lane, shown):
                return
        flow.described(known, asked_at)

    def _is_ahead(self, lane: Lane, position: int) -> bool:
        """Does the cloud show more than we ever had, and may a twin be at work? Then it is asked again later."""
        end, now = self._journal.bounds(lane.route.source).end, self._clock.monotonic()
        judged = lane.ahead.judge(position, end, now)
        if judged is not None:
            reason, until = judged
            self._contested(lane, reason, until)
        return judged is not None

    def _contested(self, lane: Lane, reason: str, until: float) -> None:
        _log.error("uplink identity is contested", partition=str(lane.route.source), reason=reason)
        lane.flow.failed(self._clock.monotonic(), reason)
        lane.flow.retry_at = until

    async def read_back(self, lane: Lane) -> None:
        route, cursor = lane.route, lane.flow.cursor
        _log.info("uplink reads back", partition=str(route.source), floor=cursor.floor)
        found = await read_back(
            self._cluster,
            route.source,
            route.target,
            self._origin,
            cursor=cursor,
        )
        now = self._clock.monotonic()
        if (reason := await foreign(self._journal, route.source, found.samples)) is not None:
            self._contested(lane, reason, now + CONTESTED_S)
        elif not self._is_ahead(lane, max((at.offset + 1 for at in found.samples), default=0)):
            lane.flow.looked(found, now)

    async def producer(self, lane: Lane) -> None:
        lane.flow.producer(*await self._new_producer())

    async def save(self, lanes: Collection[Lane]) -> None:
        await self._keeper.save(lanes)

    async def declare(self, lane: Lane) -> None:
        """The cloud refused a single record for good: its loss becomes a gap record before it is passed over."""
        refusal = lane.flow.refusal
        if refusal is None:
            return
        source = lane.route.source
        if source.topic == GAPS_STREAM:  # a gap about a gap would be refused as well, and so on
            raise Unavailable(f"a gap record is refused: {refusal.detail}")
        _log.error(
            "uplink record refused",
            partition=str(source),
            offset=refusal.first,
            reason=refusal.detail,
        )
        await self._on_refused(source, refusal.first, refusal.last, refusal.detail)
        lane.flow.declared()

    async def _new_producer(self) -> tuple[int, int]:
        answer = await self._cluster.ask(
            None, InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000)
        )
        check(answer.error_code, "no producer id")
        return answer.producer_id, answer.producer_epoch

    # -- ranges ------------------------------------------------------------------------------------------------------

    async def open_ranges(self, partitions: Collection[PartitionLanes]) -> None:
        """Live lanes for partitions that are far behind. Raises Unavailable, Unknown, Refused; then nothing was opened."""
        begun: list[PartitionLanes] = []
        try:
            for partition in partitions:
                bounds = self._journal.bounds(partition.route.source)
                partition.ranges.begin_opening(bounds.end)
                begun.append(partition)
            floors = await cloud_ends(self._cluster, {p.route.target for p in begun})
            producers: dict[int, int] = {}  # of this opening alone: never used before
            openings = []
            for partition in begun:
                source, pinned = partition.route.source, partition.ranges.live.cursor.partitions
                slot = place(self._origin.edge, source.partition, partitions=pinned).slot
                if slot not in producers:
                    producers[slot] = (await self._new_producer())[0]
                openings.append(Opening(partition, producers[slot], floors[partition.route.target]))
            await self._keeper.save(opening=openings)
            begun = []
        finally:
            for partition in begun:
                partition.give_up_opening()

    # -- admission ---------------------------------------------------------------------------------------------------

    async def admit(self, stream: str, partitions: Collection[int]) -> list[Admission]:
        """Partitions of one stream. Raises Unavailable, Unknown, Refused; then nothing was decided."""
        await self._ensure_topic(stream, partitions)
        actual = self._cluster.partitions(stream) or 1
        pinned = self._keeper.cursor.pinned_partitions(stream)
        topics, topic_id = self._keeper.cursor.topics, self._cluster.topic_id(stream)
        before = topics.get(stream, "")
        was_remade = bool(topic_id and before) and topic_id != before
        if pinned is not None and (pinned > actual or was_remade):
            # the topic was made anew: its contents are gone, and with them every sequence number. Where the whole cluster
            # was, it gives out producer ids again that are in use
            _log.warning("uplink topic made anew", stream=stream, pinned=pinned, partitions=actual)
            await self._pin_again(stream, actual)
            pinned = actual
        if topic_id:
            topics[stream] = topic_id
        admissions = []
        for partition in sorted(partitions):
            source = TopicPartition(stream, partition)
            known = self._keeper.cursor.get(source)
            cursors = known or [await self._first_cursor(source, pinned or actual)]
            if not known:
                self._keeper.cursor.put(source, cursors)
            route = Route(source, TopicPartition(stream, cursors[0].target))
            rebuilt = self._keeper.cursor.rebuilt
            admissions.append(Admission(route, cursors, fresh=not known and not rebuilt))
        await (
            self._keeper.save()
        )  # always: after a save that failed, cursors are known here and not yet durable
        return admissions

    async def _pin_again(self, stream: str, partitions: int) -> None:
        """Go on behind what was acknowledged, to other partitions, under producer ids that nobody used yet."""
        cursor = self._keeper.cursor
        cursor.producers.clear()
        for partition, old in list(cursor.streams[stream].items()):
            source = TopicPartition(stream, partition)
            cursor.put(source, [await self._first_cursor(source, partitions, start=old.acked)])

    async def _ensure_topic(self, stream: str, partitions: Collection[int]) -> None:
        await self._cluster.refresh([stream])
        if self._cluster.partitions(stream) is None:
            count = self._settings.partitions or max(_PARTITIONS_MIN, max(partitions) + 1)
            await self._cluster.create(
                stream, partitions=count, replication_factor=self._settings.replication_factor
            )
        for _ in range(_LEADER_TRIES):
            known = self._cluster.partitions(stream)
            if known and all(
                self._cluster.leader(TopicPartition(stream, index)) is not None
                for index in range(known)
            ):
                return
            await asyncio.sleep(_LEADER_PAUSE_S)
            await self._cluster.refresh([stream])
        raise Unavailable(f"topic {stream} has partitions without a leader")

    async def _first_cursor(
        self, source: TopicPartition, partitions: int, *, start: int = 0
    ) -> PartitionCursor:
        placement = place(self._origin.edge, source.partition, partitions=partitions)
        producers = self._keeper.cursor.producers
        if placement.slot not in producers:
            producers[placement.slot] = (await self._new_producer())[0]
        target = TopicPartition(source.topic, placement.target)
        time = await self._first_timestamp(source) if self._keeper.cursor.rebuilt else LATEST
        floor = await cloud_offset(self._cluster, target, time)
        start = max(start, self._journal.bounds(source).start)
        era = Era(producers[placement.slot], 0, start)
        return PartitionCursor(partitions, placement.target, era, start, floor)

    async def _first_timestamp(self, source: TopicPartition) -> int:
        """Of the oldest record held: it or anything after it lies no lower in the cloud than this time's offset."""
        try:
            batches = await self._journal.read(
                source, self._journal.bounds(source).start, bytes_max=1
            )
        except (Missing, OffsetOutOfRange):
            return LATEST
        return parse_header(batches[0]).base_timestamp if batches else LATEST
