"""What is decided once for a cluster, and who is in it."""

from __future__ import annotations

import asyncio
import random

import pytest

from headwater.cloud.broker.cluster import CLUSTER_KEY, Cluster, found_or_join
from headwater.cloud.broker.membership import Member, SoleMember, node_id
from headwater.core.errors import Corrupt, Refused, Unknown
from headwater.core.record import TopicPartition
from tests.sim.store import Fault, SimulatedBucket, SimulatedStore


def store(bucket: SimulatedBucket | None = None) -> SimulatedStore:
    return SimulatedStore(random.Random(1), bucket=bucket, latency_s=0.0)


def test_nodes_that_start_together_found_one_cluster() -> None:
    async def body() -> None:
        bucket = SimulatedBucket()
        joined = await asyncio.gather(
            *(found_or_join(store(bucket), shards=n + 1, rng=random.Random(n)) for n in range(8))
        )
        assert len(set(joined)) == 1
        again = await found_or_join(store(bucket), shards=99, rng=random.Random(9))
        assert again == joined[0]
        assert len(again.cluster_id) == 22

    asyncio.run(body())


def test_an_answer_that_was_lost_is_found_by_asking_again() -> None:
    async def body() -> None:
        bucket = store()
        bucket.script("put_if_absent", CLUSTER_KEY, Fault.DROP)
        with pytest.raises(Unknown):
            await found_or_join(bucket, shards=2, rng=random.Random(1))
        assert (await found_or_join(bucket, shards=5, rng=random.Random(2))).shards == 2

    asyncio.run(body())


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", Corrupt),
        (b"[]", Corrupt),
        (b'{"cluster_id":"x","shards":0}', Corrupt),
        (b'{"cluster_id":"x","shards":1,"format":2}', Refused),
    ],
)
def test_a_cluster_that_is_not_understood_is_not_served(
    data: bytes, error: type[Exception]
) -> None:
    async def body() -> None:
        held = store()
        await held.put_if_absent(CLUSTER_KEY, data)
        with pytest.raises(error):
            await found_or_join(held, shards=1, rng=random.Random(1))

    asyncio.run(body())


def test_partitions_spread_over_shards_and_stay_where_they_are() -> None:
    cluster = Cluster(cluster_id="x", shards=4)
    spread = [cluster.shard_of(TopicPartition("readings", n)) for n in range(64)]
    assert set(spread) == {0, 1, 2, 3}
    assert cluster.shard_of_group("g") == Cluster(cluster_id="y", shards=4).shard_of_group("g")


def test_a_node_keeps_its_number_by_its_name() -> None:
    assert node_id("pi") == node_id("pi") != node_id("po")
    assert 0 <= node_id("any name") < 2**31
    me = Member(node_id("n"), "n", "h", 1)
    assert SoleMember(me).live() == [SoleMember(me).owner(3)] == [me]
