"""Six Kafka clients with one face: write these values with this codec, read everything from the beginning.

Java (the console tools), librdkafka 2.16 and 2.0.2 (confluent-kafka, Debian's kcat), aiokafka, kafka-python, and ours.
"""

from __future__ import annotations

import asyncio
import importlib
import subprocess
from collections.abc import Awaitable, Callable

from headwater.core.batch import BatchHeader, Compression, decode_batch, encode_batch, split_batches
from headwater.core.kafka.connection import KafkaConnection
from headwater.core.record import Record
from tests.cloud.broker.running import fetch, produce
from tests.interop.kafka.test_confluent import Sent, consumer_of, poll, producer_of
from tests.requirements import program

from .cluster import Cluster

CODECS = {codec.name.lower(): codec for codec in Compression}
# who does not write every codec: kafka-python leaves them to other packages, we only read two of them
WRITES_ONLY = {"kafka-python": {"none", "gzip"}, "headwater": {"none", "gzip", "zstd"}}
FETCH_BYTES = 1 << 20
PATIENCE_S = 90.0

Write = Callable[[Cluster, str, str, list[str]], None]
Read = Callable[[Cluster, str, int], list[str]]


def java_writes(kafka: Cluster, topic: str, codec: str, values: list[str]) -> None:
    kafka.produce(topic, values, "--compression-codec", codec)


def java_reads(kafka: Cluster, topic: str, count: int) -> list[str]:
    return kafka.consume(topic, count, "--from-beginning")


def librdkafka_writes(kafka: Cluster, topic: str, codec: str, values: list[str]) -> None:
    producer, sent = producer_of(kafka.bootstrap, **{"compression.codec": codec}), Sent()
    for value in values:
        producer.produce(topic, value, on_delivery=sent.report)
    assert producer.flush(PATIENCE_S) == 0
    assert not sent.failed


def librdkafka_reads(kafka: Cluster, topic: str, count: int) -> list[str]:
    consumer = consumer_of(kafka.bootstrap, f"reads-{topic}")
    consumer.subscribe([topic])
    try:
        messages = poll(consumer, lambda messages: len(messages) >= count)
        return [message.value().decode() for message in messages]  # type: ignore[attr-defined]
    finally:
        consumer.close()


def kcat_writes(kafka: Cluster, topic: str, codec: str, values: list[str]) -> None:
    _kcat(kafka, "-P", "-t", topic, "-z", codec, stdin="".join(f"{value}\n" for value in values))


def kcat_reads(kafka: Cluster, topic: str, count: int) -> list[str]:
    del count
    return _kcat(kafka, "-C", "-t", topic, "-o", "beginning", "-e").splitlines()


def _kcat(kafka: Cluster, *arguments: str, stdin: str = "") -> str:
    command = [program("kcat"), "-q", "-b", kafka.bootstrap, *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def aiokafka_writes(kafka: Cluster, topic: str, codec: str, values: list[str]) -> None:
    from aiokafka import AIOKafkaProducer

    async def write() -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=kafka.bootstrap,
            enable_idempotence=True,
            compression_type=None if codec == "none" else codec,
        )
        await producer.start()
        try:
            for future in [await producer.send(topic, value.encode()) for value in values]:
                await future
        finally:
            await producer.stop()

    asyncio.run(write())


def aiokafka_reads(kafka: Cluster, topic: str, count: int) -> list[str]:
    from aiokafka import AIOKafkaConsumer

    async def read() -> list[str]:
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            async with asyncio.timeout(PATIENCE_S):
                return [(await consumer.getone()).value.decode() for _ in range(count)]
        finally:
            await consumer.stop()

    return asyncio.run(read())


def kafka_python_writes(kafka: Cluster, topic: str, codec: str, values: list[str]) -> None:
    producer = importlib.import_module("kafka").KafkaProducer(
        bootstrap_servers=kafka.bootstrap, compression_type=None if codec == "none" else codec
    )
    try:
        for future in [producer.send(topic, value.encode()) for value in values]:
            future.get(PATIENCE_S)
    finally:
        producer.close()


def headwater_writes(kafka: Cluster, topic: str, codec: str, values: list[str]) -> None:
    records = [Record(1_700_000_000_000, None, value.encode()) for value in values]

    async def write(connection: KafkaConnection) -> None:
        batch = encode_batch(records, compression=CODECS[codec])
        answers = await produce(connection, batch, topic=topic)
        assert answers[0].error_code == 0, answers

    _connected(kafka, write)


def headwater_reads(kafka: Cluster, topic: str, count: int) -> list[str]:
    records = [record for batch in batches_of(kafka, topic) for record in decode_batch(batch)[1]]
    assert [record.offset for record in records] == list(range(count))
    return [(record.value or b"").decode() for record in records]


def batches_of(kafka: Cluster, topic: str) -> list[bytes]:
    """Partition 0 as it lies in the log."""
    batches: list[bytes] = []

    async def read(connection: KafkaConnection) -> None:
        offset = 0
        while True:
            part = (await fetch(connection, offset, topic=topic, bytes_max=FETCH_BYTES))[0]
            assert part.error_code == 0, part
            found: list[tuple[BatchHeader, memoryview]] = list(split_batches(part.records or b""))
            batches.extend(bytes(batch) for _, batch in found)
            if not found:
                return
            offset = found[-1][0].next_offset

    _connected(kafka, read)
    return batches


def _connected(kafka: Cluster, work: Callable[[KafkaConnection], Awaitable[None]]) -> None:
    host, _, port = kafka.bootstrap.partition(":")

    async def use() -> None:
        connection = await KafkaConnection.dial(host, int(port), client_id="test")
        try:
            await work(connection)
        finally:
            await connection.close()

    asyncio.run(use())


WRITERS: dict[str, Write] = {
    "java": java_writes,
    "librdkafka": librdkafka_writes,
    "kcat": kcat_writes,
    "aiokafka": aiokafka_writes,
    "kafka-python": kafka_python_writes,
    "headwater": headwater_writes,
}
READERS: dict[str, Read] = {
    "java": java_reads,
    "librdkafka": librdkafka_reads,
    "kcat": kcat_reads,
    "aiokafka": aiokafka_reads,
    "headwater": headwater_reads,
}
