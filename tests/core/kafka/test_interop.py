"""The client and the batch codec against librdkafka: its mock cluster as the broker, its producer and consumer as peers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from headwater.core.batch import Compression, decode_batch, encode_batch, split_batches
from headwater.core.kafka.client import KafkaClient
from headwater.core.kafka.messages import (
    FetchRequest,
    InitProducerIdRequest,
    ListOffsetsRequest,
    ProduceRequest,
)
from headwater.core.kafka.messages.fetch import FetchPartition, FetchTopic
from headwater.core.kafka.messages.list_offsets import ListOffsetsPartition, ListOffsetsTopic
from headwater.core.kafka.messages.produce import PartitionProduceData, TopicProduceData
from headwater.core.record import Record, StoredRecord, TopicPartition

confluent_kafka = pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")
pytestmark = pytest.mark.interop

TARGET = TopicPartition("readings", 0)
RECORDS = [
    Record(1_700_000_000_000 + index, b"a/b", b"21.%d" % index, (("h", b"x"), ("none", None)))
    for index in range(20)
]


class Mock:
    """A producer that carries a mock cluster of two brokers inside, and its addresses."""

    def __init__(self) -> None:
        quiet: dict[str, Any] = {
            "bootstrap.servers": "ignored:9092",
            "test.mock.num.brokers": 2,
            "log_level": 0,
        }
        self.producer = confluent_kafka.Producer(quiet)
        brokers = self.producer.list_topics(timeout=10).brokers.values()
        self.addresses = [f"{broker.host}:{broker.port}" for broker in brokers]

    def consume(self, count: int) -> list[Any]:
        consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": ",".join(self.addresses),
                "group.id": "test",
                "check.crcs": True,
                "log_level": 0,
            }
        )
        try:
            consumer.assign([confluent_kafka.TopicPartition(*TARGET, 0)])
            messages = consumer.consume(count, timeout=20)
        finally:
            consumer.close()
        return list(messages)


@pytest.fixture(scope="module")
def mock() -> Mock:
    return Mock()


def run(body: Coroutine[object, object, None]) -> None:
    asyncio.run(body)


async def ready(client: KafkaClient) -> None:
    """The topic exists; the mock makes it when it is asked for."""
    await client.metadata([TARGET.topic], create=True)


async def end_of(client: KafkaClient) -> int:
    partition = ListOffsetsPartition(partition_index=TARGET.partition, timestamp=-1)
    request = ListOffsetsRequest(
        replica_id=-1, topics=(ListOffsetsTopic(name=TARGET.topic, partitions=(partition,)),)
    )
    answer = (await client.request_to(TARGET, request)).topics[0].partitions[0]
    assert answer.error_code == 0
    return answer.offset


async def produce(client: KafkaClient, batch: bytes) -> int:
    request = ProduceRequest(
        acks=-1,
        timeout_ms=5000,
        topic_data=(
            TopicProduceData(
                name=TARGET.topic,
                partition_data=(PartitionProduceData(index=TARGET.partition, records=batch),),
            ),
        ),
    )
    answer = (await client.request_to(TARGET, request)).responses[0].partition_responses[0]
    assert answer.error_code == 0
    return answer.base_offset


async def fetch(client: KafkaClient, offset: int) -> tuple[set[Compression], list[StoredRecord]]:
    request = FetchRequest(
        replica_id=-1,
        max_wait_ms=1000,
        min_bytes=1,
        max_bytes=2**20,
        topics=(
            FetchTopic(
                topic=TARGET.topic,
                partitions=(
                    FetchPartition(
                        partition=TARGET.partition, fetch_offset=offset, partition_max_bytes=2**20
                    ),
                ),
            ),
        ),
    )
    answer = (await client.request_to(TARGET, request)).responses[0].partitions[0]
    assert answer.error_code == 0
    batches = [decode_batch(batch) for _, batch in split_batches(answer.records or b"")]
    codecs = {header.compression for header, _ in batches}
    return codecs, [record for _, records in batches for record in records]


def test_batches_pass_through_the_mock_and_librdkafkas_consumer_reads_them(mock: Mock) -> None:
    async def body() -> None:
        client = KafkaClient(["127.0.0.1:1", *mock.addresses], client_id="test")
        await ready(client)
        producer = await client.request_to(TARGET, InitProducerIdRequest(transaction_timeout_ms=-1))
        assert producer.error_code == 0
        start = await end_of(client)
        for number, codec in enumerate((Compression.NONE, Compression.GZIP, Compression.ZSTD)):
            batch = encode_batch(
                RECORDS,
                compression=codec,
                producer_id=producer.producer_id,
                producer_epoch=producer.producer_epoch,
                base_sequence=number * len(RECORDS),
            )
            assert await produce(client, batch) == start + number * len(RECORDS)
        _, read = await fetch(client, start)
        assert read[: len(RECORDS)] == [
            StoredRecord(start + index, *record) for index, record in enumerate(RECORDS)
        ]
        await client.close()

    run(body())
    messages = mock.consume(3 * len(RECORDS))
    assert [
        Record(message.timestamp()[1], message.key(), message.value(), tuple(message.headers()))
        for message in messages[-3 * len(RECORDS) :]
    ] == RECORDS * 3


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_what_librdkafka_writes_is_read(mock: Mock, codec: str) -> None:
    async def body() -> None:
        client = KafkaClient(mock.addresses, client_id="test")
        await ready(client)
        start = await end_of(client)
        await asyncio.to_thread(send)
        read: list[StoredRecord] = []
        while len(read) < len(RECORDS):
            codecs, records = await fetch(client, start + len(read))
            assert codecs == {Compression[codec.upper()]}
            read += records
        assert read == [
            StoredRecord(start + index, *record) for index, record in enumerate(RECORDS)
        ]
        await client.close()

    def send() -> None:
        peer = confluent_kafka.Producer(
            {
                "bootstrap.servers": ",".join(mock.addresses),
                "compression.type": codec,
                "linger.ms": 50,
                "log_level": 0,
            }
        )
        for record in RECORDS:
            peer.produce(
                *[TARGET.topic, record.value, record.key],
                partition=TARGET.partition,
                timestamp=record.timestamp,
                headers=list(record.headers),
            )
        assert peer.flush(20) == 0

    run(body())
