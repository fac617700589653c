"""A topic of a real Apache Kafka is deleted and made anew: the sink goes on at the new one's start, whatever is in it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from headwater.cloud.lake.query import connect
from headwater.cloud.lake.verify import run_verify
from tests.cloud.sink.test_kafka import count, produce, settings, sink_until

from .broker import ApacheKafka, apache_kafka

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


def _remake(kafka: ApacheKafka) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for done in admin.delete_topics(["telemetry"]).values():
        done.result()
    deadline = time.monotonic() + 20
    while True:  # until its files are gone
        try:
            for done in admin.create_topics([NewTopic("telemetry", 1, 1)]).values():
                done.result()
        except KafkaException:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return


def test_a_topic_made_anew_is_read_from_its_start_even_where_it_is_longer(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    with apache_kafka(tmp_path) as kafka:
        own = settings(kafka.bootstrap, lake)
        produce(kafka.bootstrap, 20)
        asyncio.run(sink_until(own, 20))
        _remake(kafka)
        produce(kafka.bootstrap, 30, first=20)
        asyncio.run(sink_until(own, 50))
    assert count(lake) == 50
    report = run_verify(lake=str(lake))
    assert report.complete, report.text()
    with connect(str(lake)) as connection:
        found = connection.execute("select count(distinct payload) from readings").fetchone()
    assert found == (50,)
