"""A link: one connection to one leader, over which Produce requests are pipelined in order.

Rim. Lanes that may send stand in a queue (turns.py); each request takes one batch from each of them in the order of their
turns, up to `request_bytes_max`, and no more than the link carries in a moment (queueing.py); who may not send now is
passed over (shaping.py). When the connection breaks, every answer that is still coming is waited for
first; only then are the lanes told that their batches are lost, and only then is a new connection made. So a batch is
never in flight twice from here.

Encoding a batch takes a few milliseconds; between two of them the event loop gets its turn.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog

from ...core.backoff import Backoff
from ...core.clock import Clock
from ...core.errors import HeadwaterError, Unavailable, Unknown
from ...core.kafka.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from ...core.record import TopicPartition
from .cluster import Connection, describe
from .lane import Lane
from .queueing import BATCH_BYTES_MIN, LinkQueue
from .settings import UplinkSettings
from .shaping import Hold, Shaper
from .supply import Cut
from .totals import LinkTotals
from .turns import Turns

_log = structlog.get_logger()
_NEVER = float("inf")
_LOOK_S_MIN = 0.005
# A lane that has to wait longer than this gives its memory back and leaves the queue.
PUT_ASIDE_S = 5.0


class Shipment(NamedTuple):
    """One batch of one lane, on its way."""

    lane: Lane
    cut: Cut


class Link:
    """To broker `node`. `on_trouble` is told that leaders may have moved, `on_connected` that it is there again."""

    def __init__(
        self,
        node: int,
        dial: Callable[[], Awaitable[Connection]],
        settings: UplinkSettings,
        *,
        clock: Clock,
        backoff: Backoff,
        totals: LinkTotals,
        shaper: Shaper,
        on_trouble: Callable[[str], None],
        on_connected: Callable[[int], None],
    ) -> None:
        self.node = node
        self.connected = False
        self._dial = dial
        self._settings = settings
        self._clock = clock
        self._backoff = backoff
        self._totals = totals
        self._shaper = shaper
        self._queue = LinkQueue(float(shaper.settings.latency))
        self._look_at = _NEVER  # when somebody who waits for the queue or the shaper may go on
        self._timer: asyncio.TimerHandle | None = None
        self._on_trouble = on_trouble
        self._on_connected = on_connected
        self._turns = Turns(live=settings.live_share, backlog=100 - settings.live_share)
        self._flying: dict[asyncio.Task[None], list[Shipment]] = {}
        self._gathered: list[Shipment] = []
        self._wake = asyncio.Event()
        self._broken: HeadwaterError | None = None

    def offer(self, lane: Lane) -> None:
        """The lane has something to send."""
        if self._turns.offer(lane):
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled: connect, send, and again after a pause."""
        while True:
            await self._until_ready()
            try:
                connection = await self._dial()
            except HeadwaterError as error:
                self._totals.failures += 1
                self._on_trouble(str(error))
                await asyncio.sleep(self._backoff.next())
                continue
            started = self._clock.monotonic()
            self.connected, self._broken = True, None
            self._on_connected(self.node)
            self._queue.connected()
            try:
                await self._pump(connection)
            finally:
                self.connected = False
                await self._abandon(connection)
            if self._clock.monotonic() - started >= self._settings.stable_after:
                self._backoff.reset()
            self._totals.failures += 1
            self._on_trouble(str(self._broken))
            await asyncio.sleep(self._backoff.next())

    async def _until_ready(self) -> None:
        while not self._turns:
            self._wake.clear()
            await self._wake.wait()

    async def _pump(self, connection: Connection) -> None:
        """Returns when the connection is broken."""
        while self._broken is None:
            self._look_at = _NEVER
            room = len(self._flying) < self._settings.requests_in_flight
            if room and self._turns:
                await self._gather(connection)
            if self._gathered:
                shipments, self._gathered = self._gathered, []
                self._send(connection, shipments)
                continue
            self._wake.clear()
            self._set_timer()
            await self._wake.wait()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._look_at < _NEVER:
            wait = max(_LOOK_S_MIN, self._look_at - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait, self._wake.set)

    async def _gather(self, connection: Connection) -> None:
        """One batch of each ready lane, until the request is full, or the link is."""
        targets: set[TopicPartition] = set()
        size, now = 0, self._clock.monotonic()
        count = connection.wire()
        self._queue.observe(count.acked, count.unacked, now)
        room = min(self._settings.request_bytes_max, self._queue.room)
        if not room:
            self._look_at = now + self._queue.room_in()
            return
        for lane in self._turns.round():
            if size and size + self._batch_bytes > room:
                break
            if lane.route.target in targets:
                continue  # one batch of a partition in a request: a rule of Kafka's; its turn is the next request
            now = self._clock.monotonic()
            if (hold := self._shaper.hold(lane.priority, now)) is not None:
                self._hold(lane, hold, now)
                continue
            lane.cutter.bytes_max = min(
                self._settings.batch_bytes_max,
                int(self._batch_bytes / lane.wire_bytes_per_byte),
            )
            cut = lane.flow.take(now) if lane.is_active else None
            if cut is not None:
                self._turns.charge(lane, len(cut.payload))
            if not lane.sendable(self._clock.monotonic()):
                self._turns.leave(lane)
            if cut is None:
                continue
            lane.account()
            lane.changed()
            targets.add(lane.route.target)
            self._gathered.append(Shipment(lane, cut))
            self._shaper.sent(len(cut.payload), now)
            size += len(cut.payload)
            await asyncio.sleep(0)
            if self._broken is not None:
                break

    @property
    def _batch_bytes(self) -> int:
        """Of a next batch on the wire, at the most."""
        size = float(min(self._settings.batch_bytes_max, self._queue.batch_bytes))
        if rate := float(self._shaper.settings.rate):
            # a batch overdraws the bucket: a large one would make the next, which may be live, wait for its debt
            size = min(size, max(BATCH_BYTES_MIN, rate * self._shaper.settings.latency / 4))
        return int(size)

    def _hold(self, lane: Lane, hold: Hold, now: float) -> None:
        """It stays in the queue for a moment; for longer the engine puts it aside."""
        if hold.until - now <= PUT_ASIDE_S:
            self._look_at = min(self._look_at, hold.until)
            return
        self._turns.leave(lane)
        lane.changed()

    def _send(self, connection: Connection, shipments: list[Shipment]) -> None:
        topics: dict[str, list[PartitionProduceData]] = {}
        for lane, cut in shipments:
            data = PartitionProduceData(index=lane.route.target.partition, records=cut.payload)
            topics.setdefault(lane.route.target.topic, []).append(data)
            self._totals.sent(lane.route.source.topic, cut.count, len(cut.payload))
            lane.wire_bytes += len(cut.payload)
        self._queue.handed(sum(len(cut.payload) for _, cut in shipments), self._clock.monotonic())
        self._totals.requests += 1
        self._totals.batches += len(shipments)
        request = ProduceRequest(
            acks=-1,
            timeout_ms=int(self._settings.request_timeout * 2000 / 3),
            topic_data=[
                TopicProduceData(name=name, partition_data=data) for name, data in topics.items()
            ],
        )
        task = asyncio.create_task(self._exchange(connection, request, shipments))
        self._flying[task] = shipments
        task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        if self._broken is None:
            self._flying.pop(task, None)
        self._wake.set()

    async def _exchange(
        self, connection: Connection, request: ProduceRequest, shipments: list[Shipment]
    ) -> None:
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                response = await connection.request(request)
        except TimeoutError:
            timeout = float(self._settings.request_timeout)
            self._fail(Unknown(f"broker {self.node} gave no answer in {timeout:g} s"))
        except HeadwaterError as error:
            self._fail(error)
        else:
            if not self._answer(response, shipments):
                self._fail(Unknown(f"broker {self.node} left a partition out of its answer"))

    def _fail(self, error: HeadwaterError) -> None:
        if self._broken is None:
            self._broken = error
            self._wake.set()

    def _answer(self, response: ProduceResponse, shipments: list[Shipment]) -> bool:
        answers = {
            TopicPartition(topic.name, partition.index): partition
            for topic in response.responses
            for partition in topic.partition_responses
        }
        now = self._clock.monotonic()
        self._shaper.throttled(response.throttle_time_ms, now)
        for lane, cut in shipments:
            answer = answers.get(lane.route.target)
            if answer is None:
                return False
            text = describe(answer.error_code, answer.error_message)
            lane.flow.answered(cut, answer.error_code, answer.base_offset, now, message=text)
            lane.changed()
        return True

    async def _abandon(self, connection: Connection) -> None:
        """Close, wait for what is still coming, and tell the lanes what is lost."""
        if self._broken is None:
            self._broken = Unavailable("the link was closed")
        if self._timer is not None:
            self._timer.cancel()
        flying, self._flying = self._flying, {}
        gathered, self._gathered = self._gathered, []
        try:
            with contextlib.suppress(HeadwaterError, OSError):
                await connection.close()
            for task in flying:
                task.cancel()
            await asyncio.gather(*flying, return_exceptions=True)
        finally:
            # also where the session ends while we close: its lanes go on in the next one, and nobody else tells them
            for task in flying:
                task.cancel()
            now = self._clock.monotonic()
            for lane in {
                shipment.lane: None for group in (*flying.values(), gathered) for shipment in group
            }:
                lane.flow.lost(now)
                lane.changed()
