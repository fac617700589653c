"""kafka-python against the broker."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from .running import BrokerThread, broker_thread

kafka = pytest.importorskip("kafka", reason="kafka-python is not installed")

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerThread]:
    with broker_thread(tmp_path) as running:
        yield running


def test_records_come_back_and_groups_resume_after_a_crash(broker: BrokerThread) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        producer = kafka.KafkaProducer(bootstrap_servers=broker.address)
        sent = [producer.send("t", b"%d" % n) for n in range(300)]
        producer.flush(40)
        assert [future.get(40).offset for future in sent] == list(range(300))
        assert read(broker.address, 300) == [b"%d" % n for n in range(300)]
        producer.close()
        broker.drop()
        again = BrokerThread(broker._store, broker.port)
        try:
            producer = kafka.KafkaProducer(bootstrap_servers=again.address)
            producer.send("t", b"after").get(40)
            producer.close()
            assert read(again.address, 1) == [b"after"]
        finally:
            again.close()


def read(address: str, count: int) -> list[bytes]:
    consumer = kafka.KafkaConsumer(
        "t",
        bootstrap_servers=address,
        group_id="g",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        consumer_timeout_ms=30_000,
    )
    got = []
    for message in consumer:
        got.append(message.value)
        if len(got) == count:
            break
    consumer.commit()
    consumer.close()
    return got
