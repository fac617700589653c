"""The lake in a bucket: moto for the API's behaviour, a real server where conditions decide."""

from __future__ import annotations

import asyncio

import boto3
import pytest
from moto import mock_aws

from headwater.cloud.lake.opening import load_tables
from headwater.cloud.lake.query import connect
from headwater.cloud.lake.verify import run_verify, verify_lake
from headwater.cloud.store import open_store
from headwater.cloud.store.s3 import connect as connect_s3
from tests.cloud.sink.log import MemoryLog, addressed
from tests.seaweed import Seaweed, seaweed  # noqa: F401

from .river import sink_until


def telemetry(count: int) -> MemoryLog:
    log = MemoryLog()
    for first in range(0, count, 5):
        log.append("telemetry", [addressed(b'{"t":%d}' % n, n) for n in range(first, first + 5)])
    log.append("telemetry.raw", [addressed(b"1", 0, stream="telemetry.raw")])
    return log


def test_sink_and_proof_through_the_s3_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)

    async def main() -> None:
        store = connect_s3("lake", "some/prefix")
        await sink_until(store, telemetry(20), 21)
        assert set(await load_tables(store)) == {"telemetry", "telemetry.raw"}
        assert (await verify_lake(store)).complete
        await store.close()

    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="lake")
        client.close()
        asyncio.run(main())


def test_two_sinks_race_on_a_real_server_and_sql_counts_each_record_once(
    seaweed: Seaweed,  # noqa: F811
) -> None:
    location = seaweed.location("lake")
    log = telemetry(30)

    async def main() -> None:
        stores = [await open_store(location) for _ in range(2)]
        await asyncio.gather(
            *(sink_until(store, log, 31, seed=n) for n, store in enumerate(stores))
        )
        for store in stores:
            await store.close()

    asyncio.run(main())
    with connect(location) as connection:
        found = connection.execute(
            'select count(*), count(distinct (stream, "offset")), sum(t) from readings '
            'left join telemetry using (stream, "offset")'
        ).fetchone()
    assert found == (31, 31, float(sum(range(30))))
    report = run_verify(lake=location)
    assert report.complete, report.text()
