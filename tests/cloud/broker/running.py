"""A real broker on loopback over a store in memory, for tests that speak its protocol.

The store's log can be held (`hold`): what is submitted then waits until `release`, which is how a test looks at the moment
between a request and its object.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

import msgspec
import uvloop
from prometheus_client import CollectorRegistry

from headwater.cloud.broker.broker import Broker, BrokerOptions, TlsDoor
from headwater.cloud.broker.settings import BrokerSettings
from headwater.cloud.broker.tls import ServerTlsSettings
from headwater.cloud.groups.settings import GroupSettings
from headwater.core.batch import decode_batch, encode_batch, split_batches
from headwater.core.clock import SystemClock
from headwater.core.journal.objects import ObjectJournalSettings
from headwater.core.kafka.connection import KafkaConnection
from headwater.core.kafka.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from headwater.core.kafka.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchTopic,
    PartitionData,
)
from headwater.core.kafka.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    TopicProduceData,
)
from headwater.core.objectstore import ObjectStore
from headwater.core.record import Record, StoredRecord
from headwater.core.units import Duration
from tests.sim.store import SimulatedBucket, SimulatedStore

JOURNAL = ObjectJournalSettings(
    flush_interval=Duration(0.002), retry_first=Duration(0.01), retry_cap=Duration(0.05)
)
GROUPS = GroupSettings(rebalance_delay=Duration(0.05))


class HeldStore(SimulatedStore):
    """A store without latency whose log objects can be made to wait."""

    def __init__(self, bucket: SimulatedBucket | None = None) -> None:
        super().__init__(random.Random(1), bucket=bucket, latency_s=0.0)
        self._open = asyncio.Event()
        self._open.set()

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def put_if_absent(self, key: str, data: bytes) -> str:
        if key.startswith("wal/"):
            await self._open.wait()
        return await super().put_if_absent(key, data)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """On uvloop, as in production."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario)


def over_broker(
    scenario: Callable[[Running], Awaitable[None]], **broker: Any
) -> Callable[[], None]:
    """The test body runs against a broker of its own."""

    def test() -> None:
        async def body() -> None:
            async with started(broker=BrokerSettings(**broker)) as running:
                await scenario(running)

        run(body())

    test.__doc__ = scenario.__doc__
    test.__name__ = scenario.__name__
    return test


async def until(condition: Callable[[], object]) -> None:
    """Turns of the loop until it holds; the test fails when it never does."""
    for _ in range(20_000):
        if condition():
            return
        await asyncio.sleep(0)
    for _ in range(1_000):  # what needs the kernel needs real time
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to be")


class Running:
    def __init__(self, broker: Broker, store: HeldStore) -> None:
        self.broker = broker
        self.store = store
        self._connections: list[KafkaConnection] = []

    async def connect(self) -> KafkaConnection:
        connection = await KafkaConnection.dial("127.0.0.1", self.broker.port, client_id="test")
        self._connections.append(connection)
        return connection

    async def topic(self, name: str = "t", partitions: int = 1, **config: str) -> KafkaConnection:
        """A topic, and a connection to use it over."""
        connection = await self.connect()
        configs = [
            CreatableTopicConfig(name=key.replace("_", "."), value=value)
            for key, value in config.items()
        ]
        topic = CreatableTopic(
            name=name, num_partitions=partitions, replication_factor=1, configs=configs
        )
        answer = await connection.request(CreateTopicsRequest(topics=[topic]))
        assert answer.topics[0].error_code == 0, answer
        return connection

    async def close(self) -> None:
        for connection in self._connections:
            await connection.close()


async def open_broker(
    store: ObjectStore,
    *,
    broker: BrokerSettings | None = None,
    groups: GroupSettings = GROUPS,
    shards: int = 1,
    port: int = 0,
    tls: ServerTlsSettings | None = None,
    registry: CollectorRegistry | None = None,
) -> Broker:
    door = TlsDoor(host="127.0.0.1", port=0, advertise_host="localhost", files=tls) if tls else None
    options = BrokerOptions(
        tls=door,
        name="test-node",
        host="127.0.0.1",
        port=port,
        advertise_host="127.0.0.1",
        shards=shards,
        broker=broker or BrokerSettings(),
        groups=groups,
        journal=JOURNAL,
    )
    opened = Broker(
        options,
        store,
        clock=SystemClock(),
        rng=random.Random(),
        registry=registry or CollectorRegistry(),
    )
    await opened.start()
    return opened


@contextlib.asynccontextmanager
async def started(
    *, broker: BrokerSettings | None = None, bucket: SimulatedBucket | None = None, shards: int = 1
) -> AsyncIterator[Running]:
    store = HeldStore(bucket)
    opened = await open_broker(
        store,
        broker=msgspec.structs.replace(broker or BrokerSettings(), drain_timeout=Duration(1)),
        shards=shards,
    )
    running = Running(opened, store)
    try:
        yield running
    finally:
        store.release()
        await running.close()
        await opened.close()


def batch_of(*values: bytes, timestamp: int = 1_000, **producer: Any) -> bytes:
    """One batch; the timestamps are `timestamp`, `timestamp` + 1, …"""
    return encode_batch([Record(timestamp + n, None, v) for n, v in enumerate(values)], **producer)


def produce_of(
    *batches: bytes | None,
    topic: str = "t",
    acks: int = -1,
    timeout_ms: int = 5_000,
    partitions: Sequence[int] | None = None,
) -> ProduceRequest:
    """Batch n goes to partition n, or to the partition named."""
    numbers = range(len(batches)) if partitions is None else partitions
    data = [PartitionProduceData(index=n, records=b) for n, b in zip(numbers, batches, strict=True)]
    return ProduceRequest(
        acks=acks,
        timeout_ms=timeout_ms,
        topic_data=[TopicProduceData(name=topic, partition_data=data)],
    )


async def produce(
    connection: KafkaConnection, *batches: bytes | None, **how: Any
) -> list[PartitionProduceResponse]:
    answer = await connection.request(produce_of(*batches, **how))
    return [part for topic in answer.responses for part in topic.partition_responses]


def fetch_of(
    *offsets: int,
    topic: str = "t",
    bytes_max: int = 1 << 20,
    partition_bytes_max: int = 1 << 20,
    wait_ms: int = 0,
    bytes_min: int = 1,
    **session: Any,
) -> FetchRequest:
    """Partition n from offset n of the list on."""
    parts = [
        FetchPartition(partition=n, fetch_offset=offset, partition_max_bytes=partition_bytes_max)
        for n, offset in enumerate(offsets)
    ]
    return FetchRequest(
        max_wait_ms=wait_ms,
        min_bytes=bytes_min,
        max_bytes=bytes_max,
        topics=[FetchTopic(topic=topic, partitions=parts)],
        **session,
    )


async def fetch(connection: KafkaConnection, *offsets: int, **how: Any) -> list[PartitionData]:
    answer = await connection.request(fetch_of(*offsets, **how))
    assert answer.error_code == 0
    return [part for topic in answer.responses for part in topic.partitions]


def records_in(part: PartitionData) -> list[StoredRecord]:
    assert part.error_code == 0, part
    return [
        record
        for _, batch in split_batches(part.records or b"")
        for record in decode_batch(batch)[1]
    ]


def values_in(part: PartitionData) -> list[bytes | None]:
    return [record.value for record in records_in(part)]
