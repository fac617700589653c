"""The real process, killed with SIGKILL under librdkafka producers that go on as if nothing had happened."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from .running import node_process

confluent_kafka = pytest.importorskip("confluent_kafka")
from confluent_kafka import TopicPartition  # noqa: E402

from .test_confluent import Sent, consumer_of, make_topic, poll, producer_of  # noqa: E402

pytestmark = [pytest.mark.interop, pytest.mark.crash]

KILLS = 8
PRODUCERS = 2


def test_a_killed_node_loses_and_doubles_nothing(tmp_path: Path) -> None:
    rng = random.Random(20_261_122)
    with node_process(tmp_path) as node:
        make_topic(node.address, "t", PRODUCERS)
        stop = threading.Event()
        sent = [Sent() for _ in range(PRODUCERS)]
        counts = [0] * PRODUCERS

        def produce(number: int) -> None:
            producer = producer_of(node.address)
            while not stop.is_set():
                for _ in range(50):
                    value = b"%d" % counts[number]
                    producer.produce("t", value, partition=number, on_delivery=sent[number].report)
                    counts[number] += 1
                producer.poll(0.01)
            assert producer.flush(60) == 0

        threads = [threading.Thread(target=produce, args=(n,)) for n in range(PRODUCERS)]
        for thread in threads:
            thread.start()
        for _ in range(KILLS):
            before = sum(len(one.acknowledged) for one in sent)
            deadline = time.monotonic() + 30
            while sum(len(one.acknowledged) for one in sent) < before + 200:
                assert time.monotonic() < deadline, "no acknowledgement since the last kill"
                time.sleep(rng.random() / 20)
            node.kill()
            node.start()
        stop.set()
        for thread in threads:
            thread.join(90)
        for number in range(PRODUCERS):
            assert not sent[number].failed, sent[number].failed[:3]
            assert len(sent[number].acknowledged) == counts[number]
        consumer = consumer_of(node.address)
        consumer.assign([TopicPartition("t", n, 0) for n in range(PRODUCERS)])
        total = sum(counts)
        got = poll(consumer, lambda messages: len(messages) >= total)
        assert consumer.poll(0.5) is None, "more in the log than was sent"
        consumer.close()
        for number in range(PRODUCERS):
            mine = [m for m in got if m.partition() == number]  # type: ignore[attr-defined]
            assert [int(m.value()) for m in mine] == list(range(counts[number]))  # type: ignore[attr-defined]
            stored = {(number, m.offset()): m.value() for m in mine}  # type: ignore[attr-defined]
            assert stored == sent[number].acknowledged
        assert node.terminate() == 0


def test_a_node_that_is_fenced_ends_with_one_line(tmp_path: Path) -> None:
    with node_process(tmp_path) as old, node_process(tmp_path) as new:
        make_topic(new.address, "t", 1)
        assert old.process is not None
        with pytest.raises(confluent_kafka.KafkaException):
            make_topic(old.address, "u", 1)
        assert old.process.wait(30) == 1
        last = (tmp_path / "node.log").read_text().splitlines()
        assert sum("headwater: this node gave up its shard" in line for line in last) == 1
        assert new.terminate() == 0
