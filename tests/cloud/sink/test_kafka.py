"""The sink on a real broker, over sockets: fetch, follow, survive the broker's death, stop on request."""

from __future__ import annotations

import asyncio
import json
import random
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer
from prometheus_client import CollectorRegistry

from headwater.cloud.lake.query import connect
from headwater.cloud.lake.verify import run_verify
from headwater.cloud.sink.daemon import run_sink
from headwater.cloud.sink.kafka import KafkaSource
from headwater.cloud.sink.settings import SinkSettings
from headwater.cloud.sink.source import Fetched, OutOfRange
from headwater.core.clock import SystemClock
from headwater.core.errors import Misconfigured, Refused, Unavailable
from headwater.core.journal.reading import Bounds
from headwater.core.kafka.client import KafkaClient
from headwater.core.record import TopicPartition
from headwater.core.units import Duration
from tests.interop.kafka.running import BrokerThread, free_port

TP = TopicPartition("telemetry", 0)


def produce(address: str, count: int, *, first: int = 0, topic: str = "telemetry") -> None:
    producer = Producer({"bootstrap.servers": address, "compression.type": "zstd"})
    for number in range(first, first + count):
        producer.produce(topic, key="dev", value=json.dumps({"n": number}), partition=0)
    assert producer.flush(20) == 0


def source_on(address: str) -> KafkaSource:
    client = KafkaClient([address], client_id="test")
    return KafkaSource(client, fetch_bytes=1 << 20, partition_bytes=1 << 20)


def settings(address: str, lake: Path, **more: object) -> SinkSettings:
    return SinkSettings(
        bootstrap=f"kafka://{address}",
        lake=str(lake),
        interval=Duration(0.1),
        fetch_wait=Duration(0.1),
        discovery=Duration(0.2),
        **more,  # type: ignore[arg-type]
    )


async def until(claim: Callable[[], bool]) -> None:
    """Asked in a thread, for a minute at most."""
    deadline = asyncio.get_running_loop().time() + 60
    while not await asyncio.to_thread(claim):
        assert asyncio.get_running_loop().time() < deadline, "it never came true"
        await asyncio.sleep(0.05)


def count(lake: Path) -> int:
    if not lake.is_dir():
        return 0
    with connect(str(lake)) as connection:
        found = connection.execute("select count(*) from readings").fetchone()
    assert found is not None
    return int(found[0])


async def sink_until(own: SinkSettings, rows: int) -> None:
    stop = asyncio.Event()
    running = asyncio.ensure_future(
        run_sink(
            own, clock=SystemClock(), rng=random.Random(1), registry=CollectorRegistry(), stop=stop
        )
    )
    try:
        await until(lambda: running.done() or count(Path(own.lake)) >= rows)
    finally:
        stop.set()
        await running


def test_records_of_a_real_broker_arrive_through_its_death_and_return(tmp_path: Path) -> None:
    port = free_port()
    broker = BrokerThread(tmp_path / "store", port)
    produce(broker.address, 100)
    own = settings(broker.address, tmp_path / "lake")

    async def main() -> None:
        nonlocal broker
        running = asyncio.ensure_future(sink_until(own, 200))
        await until((tmp_path / "lake" / "telemetry").exists)
        await asyncio.to_thread(broker.drop)
        broker = await asyncio.to_thread(BrokerThread, tmp_path / "store", port)
        await asyncio.to_thread(produce, broker.address, 100, first=100)
        await running

    try:
        asyncio.run(main())
        assert count(tmp_path / "lake") == 200
        with connect(str(tmp_path / "lake")) as connection:
            found = connection.execute("select count(distinct n), sum(n) from telemetry").fetchone()
        assert found == (200, float(sum(range(200))))
        report = run_verify(lake=str(tmp_path / "lake"))
        assert report.complete, report.text()
    finally:
        broker.close()


def test_the_source_says_what_a_partition_holds_and_what_it_does_not(tmp_path: Path) -> None:
    broker = BrokerThread(tmp_path / "store", free_port())
    produce(broker.address, 10)

    async def main() -> None:
        source = source_on(broker.address)
        assert await source.cluster_id() == await source.cluster_id() != ""
        assert TP in await source.partitions()
        assert await source.bounds(TP) == Bounds(0, 10)
        [found] = await source.fetch({TP: 4}, wait_s=1)
        assert isinstance(found, Fetched)
        assert (found.offset, found.end) == (4, 10)
        assert await source.fetch({TP: 10}, wait_s=0.05) == []
        [beyond] = await source.fetch({TP: 99}, wait_s=1)
        assert beyond == OutOfRange(TP, 99, Bounds(0, 10))
        missing = TopicPartition("nowhere", 0)
        [still] = await source.fetch({missing: 0, TP: 0}, wait_s=1)
        assert isinstance(still, Fetched)
        await source.close()

    try:
        asyncio.run(main())
    finally:
        broker.close()


def test_a_cluster_that_is_not_there_is_waited_for_and_not_ready(tmp_path: Path) -> None:
    port, http = free_port(), free_port()
    own = settings(f"127.0.0.1:{port}", tmp_path / "lake", http=f"127.0.0.1:{http}")

    async def main() -> None:
        stop = asyncio.Event()
        running = asyncio.ensure_future(
            run_sink(
                own,
                clock=SystemClock(),
                rng=random.Random(1),
                registry=CollectorRegistry(),
                stop=stop,
            )
        )
        await until(lambda: ready(http)[0] == 503)
        broker = await asyncio.to_thread(BrokerThread, tmp_path / "store", port)
        await until(lambda: ready(http)[0] == 200)
        stop.set()
        await running
        await asyncio.to_thread(broker.close)

    asyncio.run(main())


def ready(port: int) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


@pytest.mark.parametrize("bootstrap", ["", "kafka://", "kafka://host", "http://x:1/"])
def test_a_wrong_bootstrap_is_said_at_once(tmp_path: Path, bootstrap: str) -> None:
    own = SinkSettings(bootstrap=bootstrap, lake=str(tmp_path))
    with pytest.raises(Refused):
        asyncio.run(sink_until(own, 0))


def test_a_wrong_http_address_is_a_wrong_setting(tmp_path: Path) -> None:
    own = SinkSettings(lake=str(tmp_path), http="nonsense")
    with pytest.raises(Misconfigured, match=r"sink\.http"):
        asyncio.run(sink_until(own, 0))


def test_no_broker_is_unavailable() -> None:
    async def main() -> None:
        source = source_on(f"127.0.0.1:{free_port()}")
        with pytest.raises(Unavailable):
            await source.cluster_id()
        await source.close()

    asyncio.run(main())
