"""confluent-kafka (librdkafka) against the broker, unmodified and with its defaults where a test does not need others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .running import BrokerThread, broker_thread

confluent_kafka = pytest.importorskip("confluent_kafka")
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # noqa: E402
    AdminClient,
    ConfigResource,
    NewTopic,
)

pytestmark = pytest.mark.interop

PATIENCE_S = 40.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerThread]:
    with broker_thread(tmp_path) as running:
        yield running


class Sent:
    """What a producer was told."""

    def __init__(self) -> None:
        self.acknowledged: dict[tuple[int, int], bytes] = {}
        self.failed: list[object] = []

    def report(self, error: object, message: object) -> None:
        if error is not None:
            self.failed.append(error)
        else:
            where = (message.partition(), message.offset())  # type: ignore[attr-defined]
            assert where not in self.acknowledged, f"two records at {where}"
            self.acknowledged[where] = message.value()  # type: ignore[attr-defined]


def producer_of(address: str, **settings: object) -> Producer:
    return Producer(
        {
            "bootstrap.servers": address,
            "enable.idempotence": True,
            "linger.ms": 5,
            "reconnect.backoff.max.ms": 200,
            **settings,
        }
    )


def consumer_of(address: str, group: str = "g", **settings: object) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": address,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500,
            "reconnect.backoff.max.ms": 200,
            **settings,
        }
    )


def poll(consumer: Consumer, enough: Callable[[list[object]], bool]) -> list[object]:
    messages: list[object] = []
    deadline = time.monotonic() + PATIENCE_S
    while not enough(messages):
        assert time.monotonic() < deadline, f"only {len(messages)} messages"
        message = consumer.poll(0.2)
        if message is not None:
            assert message.error() is None, message.error()
            messages.append(message)
    return messages


def make_topic(address: str, name: str, partitions: int, **config: str) -> None:
    admin = AdminClient({"bootstrap.servers": address})
    for future in admin.create_topics([NewTopic(name, partitions, 1, config=config)]).values():
        future.result(PATIENCE_S)


@pytest.mark.parametrize("codec", ["none", "gzip", "zstd", "lz4", "snappy"])
def test_idempotent_records_come_back_as_sent(broker: BrokerThread, codec: str) -> None:
    producer, sent = producer_of(broker.address, **{"compression.codec": codec}), Sent()
    values = [b"%d-%s" % (n, b"x" * 50) for n in range(3000)]
    for value in values:
        producer.produce("auto", value, key=b"k", headers={"h": b"1"}, on_delivery=sent.report)
        producer.poll(0)
    assert producer.flush(PATIENCE_S) == 0
    assert not sent.failed
    consumer = consumer_of(broker.address)
    consumer.subscribe(["auto"])
    got = poll(consumer, lambda messages: len(messages) == len(values))
    assert [m.value() for m in got] == values  # type: ignore[attr-defined]
    assert [m.offset() for m in got] == list(range(len(values)))  # type: ignore[attr-defined]
    assert got[0].headers() == [("h", b"1")]  # type: ignore[attr-defined]
    consumer.close()


def test_a_group_shares_partitions_and_goes_on_where_it_committed_after_a_crash(
    broker: BrokerThread,
) -> None:
    make_topic(broker.address, "t", 4)
    producer, sent = producer_of(broker.address), Sent()
    for n in range(400):
        producer.produce("t", b"%d" % n, partition=n % 4, on_delivery=sent.report)
    assert producer.flush(PATIENCE_S) == 0
    first, second = consumer_of(broker.address), consumer_of(broker.address)
    for member in (first, second):
        member.subscribe(["t"])
    deadline = time.monotonic() + PATIENCE_S
    while not (len(first.assignment()) == len(second.assignment()) == 2):
        assert time.monotonic() < deadline, "no even assignment"
        for member in (first, second):
            member.poll(0.1)
    for member in (first, second):
        member.close()
    reader = consumer_of(broker.address, "resumes")
    reader.subscribe(["t"])
    read = poll(reader, lambda messages: len(messages) >= 150)
    reader.commit(asynchronous=False)
    committed = {
        m.partition(): m.offset() + 1  # type: ignore[attr-defined]
        for m in read
    }
    broker.drop()
    again = BrokerThread(broker._store, broker.port)
    try:
        producer.produce("t", b"after", partition=0, on_delivery=sent.report)
        assert producer.flush(PATIENCE_S) == 0
        del reader
        resumed = consumer_of(again.address, "resumes")
        resumed.subscribe(["t"])
        rest = poll(resumed, lambda messages: len(messages) == 401 - len(read))
        begins: dict[int, int] = {}
        for message in rest:
            begins.setdefault(message.partition(), message.offset())  # type: ignore[attr-defined]
        assert all(begins[p] == committed.get(p, 0) for p in begins)
        assert not sent.failed
        resumed.close()
    finally:
        again.close()


def test_nothing_acknowledged_is_lost_or_doubled_while_the_node_crashes(
    broker: BrokerThread,
) -> None:
    make_topic(broker.address, "t", 3)
    producer, sent = producer_of(broker.address), Sent()
    running = broker
    total = 6000
    for n in range(total):
        producer.produce("t", b"%d" % n, partition=n % 3, on_delivery=sent.report)
        producer.poll(0)
        if n % 1500 == 1200:
            running.drop()
            running = BrokerThread(broker._store, broker.port)
    assert producer.flush(PATIENCE_S) == 0
    try:
        assert not sent.failed, sent.failed[:3]
        assert len(sent.acknowledged) == total
        consumer = consumer_of(running.address)
        consumer.assign([TopicPartition("t", p, 0) for p in range(3)])
        got = poll(consumer, lambda messages: len(messages) >= total)
        assert consumer.poll(0.5) is None, "more than was sent"
        stored = {(m.partition(), m.offset()): m.value() for m in got}  # type: ignore[attr-defined]
        assert stored == sent.acknowledged
        for partition in range(3):
            values = [int(v) for (p, _), v in sorted(stored.items()) if p == partition]
            assert values == list(range(partition, total, 3)), "in the order sent, each once"
        consumer.close()
    finally:
        running.close()


def test_seek_by_time_and_watermarks(broker: BrokerThread) -> None:
    make_topic(broker.address, "t", 1)
    producer = producer_of(broker.address)
    for n in range(100):
        producer.produce("t", b"%d" % n, timestamp=1_600_000_000_000 + n * 1000)
    assert producer.flush(PATIENCE_S) == 0
    consumer = consumer_of(broker.address)
    wanted = TopicPartition("t", 0, 1_600_000_000_000 + 41_500)
    found = consumer.offsets_for_times([wanted], timeout=PATIENCE_S)[0]
    assert found.offset == 42
    assert consumer.get_watermark_offsets(TopicPartition("t", 0), timeout=PATIENCE_S) == (0, 100)
    consumer.assign([found])
    got = poll(consumer, lambda messages: len(messages) == 58)
    assert got[0].value() == b"42"  # type: ignore[attr-defined]
    consumer.close()


def test_administration(broker: BrokerThread) -> None:
    admin = AdminClient({"bootstrap.servers": broker.address})
    make_topic(broker.address, "t", 2, **{"retention.ms": "60000"})
    with pytest.raises(KafkaException):
        make_topic(broker.address, "t", 2)
    topics = admin.list_topics(timeout=PATIENCE_S).topics
    assert len(topics["t"].partitions) == 2
    resource = ConfigResource(ConfigResource.Type.TOPIC, "t")
    shown = admin.describe_configs([resource])[resource].result(PATIENCE_S)
    assert shown["retention.ms"].value == "60000"
    consumer = consumer_of(broker.address, "watched")
    consumer.commit(offsets=[TopicPartition("t", 0, 7)], asynchronous=False)
    assert consumer.committed([TopicPartition("t", 0)], timeout=PATIENCE_S)[0].offset == 7
    groups = admin.list_consumer_groups().result(PATIENCE_S)
    assert [g.group_id for g in groups.valid] == ["watched"]
    consumer.close()
    admin.delete_consumer_groups(["watched"])["watched"].result(PATIENCE_S)
    cluster = admin.describe_cluster().result(PATIENCE_S)
    assert len(cluster.nodes) == 1
    admin.delete_topics(["t"])["t"].result(PATIENCE_S)
    assert "t" not in admin.list_topics(timeout=PATIENCE_S).topics


def test_a_record_that_is_too_large_is_refused_to_the_producer(broker: BrokerThread) -> None:
    make_topic(broker.address, "t", 1, **{"max.message.bytes": "1000"})
    producer, sent = producer_of(broker.address), Sent()
    producer.produce("t", bytes(5000), on_delivery=sent.report)
    producer.flush(PATIENCE_S)
    assert len(sent.failed) == 1
    assert "too large" in str(sent.failed[0]).lower()
