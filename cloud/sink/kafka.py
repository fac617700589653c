"""The real source: any cluster that speaks the Kafka protocol.

One fetch per leader, all partitions in it, at the same time. Read committed: a transaction's records appear once it is
committed, and what was aborted is named in the answer.

After a broken connection the cluster is asked for its id before anything else is fetched: behind the same address may
be another cluster now, and its offsets mean nothing for our positions. Then `Closed` is raised: begin anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from ...core.errors import Closed, HeadwaterError, Missing, Refused, Unavailable, Unknown
from ...core.journal.reading import Bounds
from ...core.kafka.client import KafkaClient
from ...core.kafka.errors import ErrorCode
from ...core.kafka.messages import FetchRequest, ListOffsetsRequest
from ...core.kafka.messages.fetch import FetchPartition, FetchTopic, PartitionData
from ...core.kafka.messages.list_offsets import ListOffsetsPartition, ListOffsetsTopic
from ...core.kafka.messages.metadata import MetadataResponse
from ...core.kafka.primitives import ZERO_UUID
from ...core.record import TopicPartition
from .source import Aborted, Fetched, OutOfRange

_READ_COMMITTED = 1
_EARLIEST, _LATEST = -2, -1

_log = structlog.get_logger()


class KafkaSource:
    def __init__(self, client: KafkaClient, *, fetch_bytes: int, partition_bytes: int) -> None:
        self._client = client
        self._fetch_bytes = fetch_bytes
        self._partition_bytes = partition_bytes
        self._cluster: str | None = None
        self._doubtful = True  # the connection broke: the cluster may be another
        self.topic_ids: dict[str, str] = {}

    async def cluster_id(self) -> str:
        try:
            response = await self._client.metadata(())
        except Unknown as error:  # asking changes nothing
            raise Unavailable(str(error)) from error
        if not response.cluster_id:
            raise Refused(
                "the cluster has no id (metadata version below 2?): positions would not be bound to it"
            )
        if self._cluster is not None and response.cluster_id != self._cluster:
            old, self._cluster = self._cluster, response.cluster_id
            raise Closed(f"cluster {old} was replaced by cluster {response.cluster_id}")
        self._cluster = response.cluster_id
        self._doubtful = False
        return response.cluster_id

    async def partitions(self) -> list[TopicPartition]:
        try:
            response = await self._client.metadata(None)
        except Unknown as error:
            raise Unavailable(str(error)) from error
        self.topic_ids = _topic_ids(response)
        return [
            TopicPartition(topic.name, partition.partition_index)
            for topic in response.topics
            if topic.name and not topic.error_code
            for partition in topic.partitions
        ]

    async def topic_id(self, topic: str) -> str:
        try:
            response = await self._client.metadata((topic,))
        except Unknown as error:
            raise Unavailable(str(error)) from error
        return _topic_ids(response).get(topic, "")

    async def bounds(self, partition: TopicPartition) -> Bounds:
        start = await self._list_offset(partition, _EARLIEST)
        return Bounds(start, await self._list_offset(partition, _LATEST))

    async def _list_offset(self, partition: TopicPartition, timestamp: int) -> int:
        wanted = ListOffsetsPartition(partition_index=partition.partition, timestamp=timestamp)
        request = ListOffsetsRequest(
            replica_id=-1,
            isolation_level=_READ_COMMITTED,
            topics=[ListOffsetsTopic(name=partition.topic, partitions=[wanted])],
        )
        try:
            response = await self._client.request_to(partition, request)
        except Unknown as error:
            raise Unavailable(str(error)) from error
        for topic in response.topics:
            for found in topic.partitions:
                if found.error_code:
                    raise Unavailable(f"{partition}: {ErrorCode.of(found.error_code).name}")
                return found.offset
        raise Unavailable(f"{partition}: the broker left it out")

    async def fetch(
        self, positions: Mapping[TopicPartition, int], *, wait_s: float
    ) -> list[Fetched | OutOfRange]:
        if self._doubtful:
            await self.cluster_id()
        by_leader: dict[int, list[TopicPartition]] = {}
        for partition in positions:
            try:
                by_leader.setdefault(await self._client.leader(partition), []).append(partition)
            except (Missing, Unavailable, Unknown) as error:
                _log.debug("no leader now", partition=str(partition), error=str(error))
        answers = await asyncio.gather(
            *(
                self._fetch_from(node, {tp: positions[tp] for tp in held}, wait_s)
                for node, held in by_leader.items()
            ),
            return_exceptions=True,
        )
        out: list[Fetched | OutOfRange] = []
        failures = []
        for answer in answers:
            if isinstance(answer, (Unavailable, Unknown)):
                self._doubtful = True
                failures.append(str(answer))
            elif isinstance(answer, BaseException):
                raise answer
            else:
                out += answer
        if failures and not out:
            raise Unavailable("; ".join(failures))
        return out

    async def _fetch_from(
        self, node: int, positions: Mapping[TopicPartition, int], wait_s: float
    ) -> list[Fetched | OutOfRange]:
        response = await self._client.request_to(node, self._request(positions, wait_s))
        if response.error_code:
            raise Unavailable(f"broker {node}: {ErrorCode.of(response.error_code).name}")
        out: list[Fetched | OutOfRange] = []
        for topic in response.responses:
            for data in topic.partitions:
                partition = TopicPartition(topic.topic, data.partition_index)
                if partition in positions:
                    found = await self._answer(partition, positions[partition], data)
                    if found is not None:
                        out.append(found)
        return out

    def _request(self, positions: Mapping[TopicPartition, int], wait_s: float) -> FetchRequest:
        topics: dict[str, list[FetchPartition]] = {}
        for partition, offset in positions.items():
            topics.setdefault(partition.topic, []).append(
                FetchPartition(
                    partition=partition.partition,
                    fetch_offset=offset,
                    partition_max_bytes=self._partition_bytes,
                )
            )
        return FetchRequest(
            max_wait_ms=round(wait_s * 1000),
            min_bytes=1,
            max_bytes=self._fetch_bytes,
            isolation_level=_READ_COMMITTED,
            topics=[FetchTopic(topic=name, partitions=held) for name, held in topics.items()],
        )

    async def _answer(
        self, partition: TopicPartition, offset: int, data: PartitionData
    ) -> Fetched | OutOfRange | None:
        if data.error_code == ErrorCode.OFFSET_OUT_OF_RANGE:
            try:
                return OutOfRange(partition, offset, await self.bounds(partition))
            except HeadwaterError as error:
                _log.debug("bounds", partition=str(partition), error=str(error))
                return None
        if data.error_code:
            self._client.forget(partition.topic)
            return None
        if not data.records:
            return None
        aborted = [Aborted(a.producer_id, a.first_offset) for a in data.aborted_transactions or ()]
        return Fetched(partition, offset, bytes(data.records), aborted, data.high_watermark)

    async def close(self) -> None:
        await self._client.close()


def _topic_ids(response: MetadataResponse) -> dict[str, str]:
    return {
        topic.name: topic.topic_id.hex
        for topic in response.topics
        if topic.name and not topic.error_code and topic.topic_id != ZERO_UUID
    }
