"""A cluster of scripted brokers: leaders found, remembered and forgotten; one attempt a call."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest

from headwater.core.errors import Missing, Refused, Unavailable, Unknown
from headwater.core.kafka import frames
from headwater.core.kafka.client import ANY, BrokerAddress, KafkaClient, stale_topics
from headwater.core.kafka.messages import (
    FetchResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    MetadataRequest,
    ProduceRequest,
    ProduceResponse,
)
from headwater.core.kafka.messages.fetch import FetchableTopicResponse, PartitionData
from headwater.core.kafka.messages.list_offsets import (
    ListOffsetsPartitionResponse,
    ListOffsetsTopicResponse,
)
from headwater.core.kafka.messages.produce import PartitionProduceResponse, TopicProduceResponse
from headwater.core.kafka.schema import Message, Request
from headwater.core.kafka.settings import ClientSettings
from headwater.core.record import TopicPartition
from headwater.core.units import Duration

from .scripted import CLOSE, Broker, Network, Reaction, cluster_metadata

FIRST, SECOND = ("one", 9092), ("two", 9092)
T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


def run(body: Coroutine[object, object, None]) -> None:
    asyncio.run(body)


class Cluster:
    """Two brokers; `leaders` and `produce_error` may be changed between calls."""

    def __init__(self) -> None:
        self.leaders = {"t": [1, 2]}
        self.produce_error = 0
        self.hangs_up = False
        self.brokers = {FIRST: Broker(self.script), SECOND: Broker(self.script)}
        self.network = Network(self.brokers)

    def script(self, header: frames.RequestHeader, message: Request[Message]) -> Reaction:
        if isinstance(message, MetadataRequest):
            return cluster_metadata(message, addresses=[FIRST, SECOND], leaders=self.leaders)
        if self.hangs_up:
            return CLOSE
        assert isinstance(message, ProduceRequest)
        return produced(self.produce_error)

    def client(
        self, *bootstrap: tuple[str, int], settings: ClientSettings | None = None
    ) -> KafkaClient:
        return KafkaClient(
            bootstrap or [FIRST], client_id="test", dialer=self.network, settings=settings
        )

    def asked(self, kind: type[Message]) -> dict[tuple[str, int], int]:
        return {
            address: sum(isinstance(message, kind) for _, message in broker.seen)
            for address, broker in self.brokers.items()
        }


def produced(error_code: int) -> ProduceResponse:
    return ProduceResponse(
        responses=(
            TopicProduceResponse(
                name="t", partition_responses=(PartitionProduceResponse(error_code=error_code),)
            ),
        )
    )


PRODUCE = ProduceRequest(acks=-1)


def test_a_request_goes_to_the_leader_over_one_connection_to_each_broker() -> None:
    async def body() -> None:
        cluster = Cluster()
        client = cluster.client()
        for partition in (T0, T1, T1, T0):
            assert await client.request_to(partition, PRODUCE) == produced(0)
        assert cluster.asked(ProduceRequest) == {FIRST: 2, SECOND: 2}
        assert sorted(cluster.network.dialled) == [FIRST, SECOND]
        assert cluster.asked(MetadataRequest) == {FIRST: 1, SECOND: 0}
        assert (client.cluster_id, client.controller_id) == ("test", 1)
        assert client.brokers == {1: BrokerAddress(*FIRST), 2: BrokerAddress(*SECOND)}
        assert await client.partitions("t") == 2
        await client.close()
        assert all(
            wire.is_closing() for broker in cluster.brokers.values() for wire in broker.wires
        )

    run(body())


def test_callers_at_the_same_time_share_one_question_and_one_connection() -> None:
    async def body() -> None:
        cluster = Cluster()
        client = cluster.client()
        await asyncio.gather(*(client.request_to(T1, PRODUCE) for _ in range(20)))
        assert cluster.asked(MetadataRequest) == {FIRST: 1, SECOND: 0}
        assert sorted(cluster.network.dialled) == [FIRST, SECOND]
        await client.close()

    run(body())


def test_a_leader_that_moved_is_forgotten_and_found_by_the_next_call() -> None:
    async def body() -> None:
        cluster = Cluster()
        client = cluster.client()
        assert await client.leader(T0) == 1
        cluster.leaders["t"] = [2, 2]
        assert await client.leader(T0) == 1  # remembered
        cluster.produce_error = 6
        await client.request_to(T0, PRODUCE)  # one attempt: the caller sees the error
        assert await client.leader(T0) == 2
        assert cluster.asked(ProduceRequest) == {FIRST: 1, SECOND: 0}
        await client.close()

    run(body())


def test_a_connection_that_broke_makes_its_topic_doubtful() -> None:
    async def body() -> None:
        cluster = Cluster()
        client = cluster.client()
        cluster.hangs_up = True
        with pytest.raises(Unknown):
            await client.request_to(T1, PRODUCE)
        assert cluster.asked(ProduceRequest) == {FIRST: 0, SECOND: 1}
        cluster.hangs_up, cluster.leaders["t"] = False, [1, 1]
        await client.request_to(T1, PRODUCE)
        assert cluster.asked(ProduceRequest) == {FIRST: 1, SECOND: 1}
        await client.close()

    run(body())


def test_a_broker_that_is_gone_is_unavailable_and_nothing_was_sent() -> None:
    async def body() -> None:
        cluster = Cluster()
        client = cluster.client()
        del cluster.network.brokers[SECOND]
        with pytest.raises(Unavailable, match="two:9092"):
            await client.request_to(T1, PRODUCE)
        assert cluster.network.dialled == [FIRST, SECOND]  # one attempt
        await client.close()

    run(body())


def test_an_unknown_topic_or_partition_is_missing() -> None:
    async def body() -> None:
        client = Cluster().client()
        with pytest.raises(Missing, match="no topic nowhere"):
            await client.leader(TopicPartition("nowhere", 0))
        with pytest.raises(Missing, match="no partition t/2"):
            await client.leader(TopicPartition("t", 2))
        await client.close()

    run(body())


def test_a_topic_that_comes_to_be_is_found() -> None:
    async def body() -> None:
        cluster = Cluster()
        client = cluster.client()
        with pytest.raises(Missing):
            await client.leader(TopicPartition("new", 0))
        cluster.leaders["new"] = [2]
        assert await client.leader(TopicPartition("new", 0)) == 2
        await client.close()

    run(body())


def test_a_partition_without_a_leader_is_unavailable_until_it_has_one() -> None:
    async def body() -> None:
        cluster = Cluster()
        cluster.leaders["t"] = [-1]
        client = cluster.client()
        with pytest.raises(Unavailable, match="LEADER_NOT_AVAILABLE"):
            await client.leader(T0)
        cluster.leaders["t"] = [2]
        assert await client.leader(T0) == 2
        await client.close()

    run(body())


def test_the_bootstrap_list_is_gone_through_once_from_behind_the_last_failure() -> None:
    async def body() -> None:
        cluster = Cluster()
        gone, away = ("gone", 1), ("away", 1)
        client = cluster.client(gone, away)
        with pytest.raises(Unavailable, match=r"gone:1.*away:1"):
            await client.metadata(["t"])
        assert cluster.network.dialled == [gone, away]
        client = cluster.client(gone, FIRST)
        cluster.network.dialled.clear()
        await client.metadata(["t"])
        cluster.brokers[FIRST].hang_up()
        await asyncio.sleep(0)
        await client.metadata(["t"])
        assert cluster.network.dialled == [gone, FIRST, FIRST]
        await client.close()

    run(body())


def test_when_the_bootstrap_is_gone_the_brokers_that_are_known_are_asked() -> None:
    async def body() -> None:
        cluster = Cluster()
        client = cluster.client(FIRST)
        await client.metadata(["t"])
        cluster.brokers[FIRST].hang_up()
        del cluster.network.brokers[FIRST]
        await asyncio.sleep(0)
        assert await client.leader(T1) == 2
        connection = await client.connection_to(ANY)
        assert connection.is_open
        client.forget("t")
        assert await client.leader(T0) == 1
        assert cluster.asked(MetadataRequest)[SECOND] >= 1
        await client.close()

    run(body())


def test_a_node_is_reached_by_its_id() -> None:
    async def body() -> None:
        cluster = Cluster()
        client = cluster.client()
        await client.request_to(2, PRODUCE)
        assert cluster.asked(ProduceRequest) == {FIRST: 0, SECOND: 1}
        with pytest.raises(Unavailable, match="no broker 9"):
            await client.request_to(9, PRODUCE)
        await client.close()

    run(body())


def test_what_is_remembered_grows_old() -> None:
    async def body() -> None:
        cluster = Cluster()
        client = cluster.client(settings=ClientSettings(metadata_age_max=Duration(0.0)))
        await client.leader(T0)
        await client.leader(T0)
        assert cluster.asked(MetadataRequest) == {FIRST: 2, SECOND: 0}
        await client.close()

    run(body())


def test_a_closed_client_connects_no_more() -> None:
    async def body() -> None:
        client = Cluster().client()
        await client.metadata(["t"])
        await client.close()
        await client.close()
        with pytest.raises(Unavailable, match="closed"):
            await client.request_to(T0, PRODUCE)

    run(body())


def test_addresses_are_read_as_people_write_them() -> None:
    assert BrokerAddress.parse("localhost:9092") == ("localhost", 9092)
    assert BrokerAddress.parse("[::1]:9092") == ("::1", 9092)
    for text in (
        "localhost",
        ":9092",
        "localhost:",
        "localhost:0",
        "localhost:65536",
        "localhost:x",
    ):
        with pytest.raises(Refused, match="host:port"):
            BrokerAddress.parse(text)
    with pytest.raises(Refused, match="no bootstrap"):
        KafkaClient([], client_id="test")


@pytest.mark.parametrize("code", [0, 3, 6, 7, 45, 74])
def test_stale_metadata_is_told_by_the_error_codes_of_an_answer(code: int) -> None:
    stale = {"t"} if code in {3, 6, 74} else set()
    fetched = FetchResponse(
        responses=(FetchableTopicResponse(topic="t", partitions=(PartitionData(error_code=code),)),)
    )
    listed = ListOffsetsResponse(
        topics=(
            ListOffsetsTopicResponse(
                name="t", partitions=(ListOffsetsPartitionResponse(error_code=code),)
            ),
        )
    )
    for answer in (produced(code), fetched, listed):
        assert stale_topics(answer) == stale
    assert stale_topics(ListOffsetsRequest()) == set()
