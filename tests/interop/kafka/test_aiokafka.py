"""aiokafka against the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from .running import BrokerThread, broker_thread

aiokafka = pytest.importorskip("aiokafka")
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # noqa: E402

pytestmark = pytest.mark.interop


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerThread]:
    with broker_thread(tmp_path) as running:
        yield running


async def send(address: str, values: list[bytes], **settings: object) -> list[int]:
    producer = AIOKafkaProducer(bootstrap_servers=address, enable_idempotence=True, **settings)
    await producer.start()
    try:
        futures = [await producer.send("t", value, key=b"k") for value in values]
        return [(await future).offset for future in futures]
    finally:
        await producer.stop()


async def read(address: str, count: int, group: str | None = "g", *, commit: bool) -> list[bytes]:
    consumer = AIOKafkaConsumer(
        "t",
        bootstrap_servers=address,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        got: list[bytes] = []
        async with asyncio.timeout(40):
            while len(got) < count:
                for messages in (await consumer.getmany(timeout_ms=200)).values():
                    got += [message.value for message in messages]
        if commit:
            await consumer.commit()
        return got
    finally:
        await consumer.stop()


@pytest.mark.parametrize("codec", [None, "gzip"])
def test_idempotent_records_come_back_and_groups_resume_after_a_crash(
    broker: BrokerThread, codec: str | None
) -> None:
    first, second = [b"%d" % n for n in range(500)], [b"%d" % n for n in range(500, 800)]
    offsets = asyncio.run(send(broker.address, first, compression_type=codec))
    assert offsets == list(range(500))
    assert asyncio.run(read(broker.address, 500, commit=True)) == first
    broker.drop()
    again = BrokerThread(broker._store, broker.port)
    try:
        assert asyncio.run(send(again.address, second)) == list(range(500, 800))
        assert asyncio.run(read(again.address, 300, commit=True)) == second
    finally:
        again.close()


def test_offsets_by_time_and_ends(broker: BrokerThread) -> None:
    async def scenario() -> None:
        await send(broker.address, [b"a"])
        producer = AIOKafkaProducer(bootstrap_servers=broker.address)
        await producer.start()
        for n in range(50):
            await producer.send_and_wait("u", b"%d" % n, timestamp_ms=1_600_000_000_000 + n)
        await producer.stop()
        consumer = AIOKafkaConsumer(bootstrap_servers=broker.address)
        await consumer.start()
        where = TopicPartition("u", 0)
        consumer.assign([where])
        found = await consumer.offsets_for_times({where: 1_600_000_000_030})
        assert found[where].offset == 30
        assert (await consumer.end_offsets([where]))[where] == 50
        assert (await consumer.beginning_offsets([where]))[where] == 0
        consumer.seek(where, 45)
        async with asyncio.timeout(20):
            values = [(await consumer.getone()).value for _ in range(5)]
        assert values == [b"45", b"46", b"47", b"48", b"49"]
        await consumer.stop()

    asyncio.run(scenario())
