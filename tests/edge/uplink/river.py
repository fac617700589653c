"""A whole uplink over real sockets: a journal in memory, connections that break, a restart whenever a test wants one."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from headwater.core.batch import decode_batch, encode_batch, split_batches
from headwater.core.clock import SystemClock
from headwater.core.disk import SystemDisk
from headwater.core.errors import Missing, OffsetOutOfRange, Unavailable, Unknown
from headwater.core.journal.reading import Arrival, Bounds, Position
from headwater.core.kafka.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from headwater.core.kafka.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from headwater.core.kafka.messages.produce import ProduceRequest
from headwater.core.kafka.schema import Message, Request
from headwater.core.kafka.wire import WireCount
from headwater.core.record import ADDRESS_HEADER, RANGE_HEADER, Record, StoredRecord, TopicPartition
from headwater.core.units import Duration
from headwater.edge.uplink.books import Books
from headwater.edge.uplink.cluster import Cluster, Connection, Dialer
from headwater.edge.uplink.cursor import CursorStore
from headwater.edge.uplink.dialing import dialer
from headwater.edge.uplink.feeding import UplinkJournal
from headwater.edge.uplink.readback import EARLIEST, cloud_offset
from headwater.edge.uplink.settings import UplinkSettings
from headwater.edge.uplink.status import UplinkStatus
from headwater.edge.uplink.uplink import Uplink

R = TypeVar("R", bound=Message)
LOG = "00112233aabbccdd"
EDGE = "edge-1"


class MemoryJournal:
    """Commits as the edge's journal makes them: small batches of many partitions, in arrival order."""

    def __init__(self) -> None:
        self.log_id = LOG
        self._arrivals: list[Arrival] = []
        self._batches: dict[TopicPartition, list[tuple[int, int, bytes, int]]] = {}
        self._bounds: dict[TopicPartition, Bounds] = {}
        self.partition_reads = self.arrival_reads = 0

    def append(self, partition: TopicPartition, values: Sequence[bytes]) -> None:
        start, end = self._bounds.get(partition, Bounds(0, 0))
        records = [Record(1_700_000_000_000 + end + n, b"key", v) for n, v in enumerate(values)]
        batch = encode_batch(records, base_offset=end)
        place = len(self._arrivals)
        self._arrivals.append(Arrival(partition, batch))
        entry = (end, end + len(values), batch, place)
        self._batches.setdefault(partition, []).append(entry)
        self._bounds[partition] = Bounds(start, end + len(values))

    def retire(self, partition: TopicPartition, offset: int) -> None:
        """Retention: whole batches below `offset` go."""
        kept = [entry for entry in self._batches[partition] if entry[1] > offset]
        self._batches[partition] = kept
        end = self._bounds[partition].end
        self._bounds[partition] = Bounds(kept[0][0] if kept else end, end)

    def partitions(self) -> list[TopicPartition]:
        return list(self._bounds)

    def bounds(self, partition: TopicPartition) -> Bounds:
        if partition not in self._bounds:
            raise Missing(f"no partition {partition}")
        return self._bounds[partition]

    async def read(self, partition: TopicPartition, offset: int, *, bytes_max: int) -> list[bytes]:
        self.partition_reads += 1
        if offset < self.bounds(partition).start:
            raise OffsetOutOfRange(f"{partition} begins at {self.bounds(partition).start}")
        found: list[bytes] = []
        size = 0
        for _, end, batch, _ in self._batches[partition]:
            if end > offset:
                if found and size + len(batch) > bytes_max:
                    break
                found.append(batch)
                size += len(batch)
        return found

    async def read_arrivals(
        self, position: Position, *, bytes_max: int
    ) -> tuple[list[Arrival], Position]:
        self.arrival_reads += 1
        found, size, place = [], 0, position.byte
        while place < len(self._arrivals) and size < bytes_max:
            found.append(self._arrivals[place])
            size += len(self._arrivals[place].batch)
            place += 1
        return found, Position(0, place)

    def position_of(self, partition: TopicPartition, offset: int) -> Position:
        for _, end, _, place in self._batches[partition]:
            if end > offset:
                return Position(0, place)
        raise OffsetOutOfRange(f"{partition} ends before {offset}")


class Breaking:
    """A connection that breaks: with some chance a Produce request is sent and its answer never heard."""

    def __init__(self, inner: Connection, river: River) -> None:
        self._inner = inner
        self._river = river
        self._rng = river.rng

    async def request(self, message: Request[R], /) -> R:
        if isinstance(message, ProduceRequest) and self._rng.random() < self._river.chance:
            self._river.broken += 1
            answer = asyncio.ensure_future(self._inner.request(message))
            if self._rng.random() < 0.7:
                await asyncio.wait([answer], timeout=self._rng.random() * 0.02)
            await self._inner.close()
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
            raise Unknown("broken by the test")
        return await self._inner.request(message)

    def wire(self) -> WireCount:
        return self._inner.wire()

    @property
    def is_open(self) -> bool:
        return self._inner.is_open

    @property
    def peer_host(self) -> str:
        return self._inner.peer_host

    async def close(self) -> None:
        await self._inner.close()


def settings(**changes: object) -> UplinkSettings:
    fast: dict[str, object] = {
        "linger": Duration(0.01),
        "linger_max": Duration(0),
        "spread": Duration(0),
        "backoff_first": Duration(0.005),
        "backoff_max": Duration(0.1),
        "cursor_interval": Duration(0.02),
        "request_timeout": Duration(10),
        "replication_factor": 1,
    }
    return UplinkSettings(**{**fast, **changes})  # type: ignore[arg-type]


class River:
    """One edge against one cluster; `chance` of a Produce request that its connection breaks."""

    def __init__(
        self,
        directory: Path,
        port: int,
        *,
        seed: int = 1,
        chance: float = 0.0,
        host: str = "127.0.0.1",
        edge: str = EDGE,
        **changes: object,
    ) -> None:
        self._host = host
        self._edge = edge
        self.priorities: dict[str, int] = {}
        self.journal = MemoryJournal()
        self.rng = random.Random(seed)
        self.refused: list[tuple[TopicPartition, int, int, str]] = []
        self.chance = chance
        self.broken = 0
        self.is_first = True
        self._directory = str(directory / "uplink")
        self.port = port
        self._settings = settings(**changes)

    def plain_dial(self, name: str) -> Dialer:
        return dialer(name, self._settings)

    def uplink(self, journal: UplinkJournal | None = None, *, books: Books | None = None) -> Uplink:
        plain = self.plain_dial(self._edge)

        async def dial(host: str, port: int) -> Connection:
            return Breaking(await plain(host, port), self)

        journal = journal or self.journal
        return Uplink(
            journal,
            self._settings,
            edge=self._edge,
            bootstrap=[(self._host, self.port)],
            store=CursorStore(
                SystemDisk(),
                self._directory,
                log_id=journal.log_id,
                edge=self._edge,
                is_first=self.is_first,
            ),
            clock=SystemClock(),
            rng=self.rng,
            on_refused=self._refuse,
            dial=dial,
            books=books,
            priorities=self.priorities,
        )

    async def _refuse(self, partition: TopicPartition, first: int, last: int, detail: str) -> None:
        self.refused.append((partition, first, last, detail))

    @contextlib.asynccontextmanager
    async def running(self, journal: UplinkJournal | None = None) -> AsyncIterator[Uplink]:
        uplink = self.uplink(journal)
        task = asyncio.create_task(uplink.run())
        try:
            yield uplink
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def drained(self, uplink: Uplink, *, timeout_s: float = 30.0) -> None:
        async with asyncio.timeout(timeout_s):
            uplink.notify()
            await self.until(lambda: _empty(uplink.status()))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Looks again after each turn of the loop that something could have happened in."""
        while not holds():  # noqa: ASYNC110  # the uplink tells nobody; a test looks
            await asyncio.sleep(0.005)

    async def recreate(self, topic: str, *, partitions: int = 0) -> None:
        """Somebody deletes the topic, and makes it anew where `partitions` are named."""
        cluster = Cluster(
            [(self._host, self.port)], self.plain_dial("admin"), timeout_s=10.0, rng=self.rng
        )
        await cluster.connect()
        await cluster.ask(
            None, DeleteTopicsRequest(topics=[DeleteTopicState(name=topic)], timeout_ms=10_000)
        )
        if partitions:
            async with asyncio.timeout(10):
                while cluster.partitions(topic) != partitions:
                    with contextlib.suppress(Unavailable):  # its files are still being removed
                        await cluster.create(topic, partitions=partitions, replication_factor=1)
                    await cluster.refresh([topic])
        await cluster.close()

    async def stored(self, topic: str) -> dict[int, list[StoredRecord]]:
        """Everything the cluster holds of a topic, by cloud partition."""
        plain = self.plain_dial("reader")
        cluster = Cluster([(self._host, self.port)], plain, timeout_s=10.0, rng=random.Random(1))
        await cluster.connect()
        await cluster.refresh([topic])
        found = {}
        for partition in range(cluster.partitions(topic) or 0):
            leader = cluster.leader(TopicPartition(topic, partition))
            found[partition] = await _read_all(cluster, leader, topic, partition)
        await cluster.close()
        return found


def _empty(status: UplinkStatus) -> bool:
    begun = bool(status.partitions) and all(p.stage != "not begun" for p in status.partitions)
    return begun and not status.backlog_records


async def _read_all(
    cluster: Cluster, node: int | None, topic: str, partition: int
) -> list[StoredRecord]:
    records: list[StoredRecord] = []
    offset = await cloud_offset(cluster, TopicPartition(topic, partition), EARLIEST)
    while True:
        wanted = FetchPartition(
            partition=partition, fetch_offset=offset, partition_max_bytes=1 << 22
        )
        response = await cluster.ask(
            node,
            FetchRequest(max_bytes=1 << 22, topics=[FetchTopic(topic=topic, partitions=[wanted])]),
        )
        data = response.responses[0].partitions[0]
        assert data.error_code == 0, data
        for header, batch in split_batches(data.records or b""):
            records += [r for r in decode_batch(batch)[1] if r.offset >= offset]
            offset = header.next_offset
        if offset >= data.high_watermark:
            return records


def labels(records: list[StoredRecord]) -> set[int]:
    """The ranges that records were sent in."""
    return {int(dict(record.headers).get(RANGE_HEADER) or b"0") for record in records}


def addresses(records: list[StoredRecord], source: TopicPartition) -> list[int]:
    """Edge offsets of one edge partition, in the cloud's order."""
    prefix = f"{EDGE}/{source.topic}/{source.partition}/".encode()
    found = []
    for record in records:
        address = dict(record.headers)[ADDRESS_HEADER]
        assert address is not None
        if address.startswith(prefix):
            found.append(int(address.removeprefix(prefix)))
    return found


__all__ = ["MemoryJournal", "River", "addresses", "labels"]
