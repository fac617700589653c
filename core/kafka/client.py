"""A cluster behind a list of addresses: who leads what, and one connection to each broker.

Rule: one attempt a call. Nothing here waits and tries again; the caller owns the retry and its back-off. A call that
needs *any* broker goes once through the addresses that are known, starting behind the last one that failed.

What is remembered (addresses and leaders) is a guess that brokers correct: after NOT_LEADER_OR_FOLLOWER and its like
(`ErrorCode.stale_metadata`), and after a connection broke, the topic is forgotten and asked for again by the next call.
`request_to` sees to that itself for Produce, Fetch and ListOffsets; whoever uses `connection_to` calls `forget`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self, TypeAlias, TypeVar

from ..errors import HeadwaterError, Missing, Refused, Unavailable, Unknown
from ..record import TopicPartition
from .connection import Authenticator, Dialer, KafkaConnection, dial_tcp
from .errors import ErrorCode
from .messages import (
    FetchResponse,
    ListOffsetsResponse,
    MetadataRequest,
    MetadataResponse,
    ProduceResponse,
)
from .messages.metadata import MetadataRequestTopic, MetadataResponseTopic
from .schema import Message, Request
from .settings import ClientSettings

__all__ = [
    "ANY",
    "BrokerAddress",
    "ClientSettings",
    "Dialer",
    "KafkaClient",
    "KafkaConnection",
    "Target",
    "dial_tcp",
]

R = TypeVar("R", bound=Message)

ANY = None
# The leader of a partition, the broker with a node id, or any broker.
Target: TypeAlias = TopicPartition | int | None


class BrokerAddress(NamedTuple):
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """`host:port` or `[v6]:port`; raises Refused."""
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise Refused(f"{text!r} is not a broker's host:port")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class _Topic(NamedTuple):
    """What metadata said of a topic, and when."""

    error_code: int
    leaders: dict[int, tuple[int, int]]  # partition to (node or -1, error code)
    learnt_at: float


class KafkaClient:
    """Single owner: one event loop. `close` ends every connection."""

    def __init__(
        self,
        bootstrap: Sequence[BrokerAddress | tuple[str, int] | str],
        *,
        client_id: str,
        settings: ClientSettings | None = None,
        dialer: Dialer = dial_tcp,
        authenticator: Authenticator | None = None,
    ) -> None:
        if not bootstrap:
            raise Refused("no bootstrap broker was given")
        self._bootstrap = [
            BrokerAddress.parse(item) if isinstance(item, str) else BrokerAddress(*item)
            for item in bootstrap
        ]
        self._client_id = client_id
        self._settings = settings or ClientSettings()
        self._dialer = dialer
        self._authenticator = authenticator
        self._first = 0  # where in the bootstrap list the next search begins
        self._brokers: dict[int, BrokerAddress] = {}
        self._topics: dict[str, _Topic] = {}
        self._connections: dict[BrokerAddress, KafkaConnection] = {}
        self._dialing: dict[BrokerAddress, asyncio.Lock] = {}
        self._asking = asyncio.Lock()
        self._closed = False
        self.cluster_id: str | None = None
        self.controller_id = -1

    @property
    def brokers(self) -> dict[int, BrokerAddress]:
        """Node id to address, as of the last metadata."""
        return dict(self._brokers)

    async def metadata(
        self, topics: Iterable[str] | None = (), *, create: bool = False
    ) -> MetadataResponse:
        """Ask any broker; None asks for every topic. What comes back is remembered."""
        asked = None if topics is None else [MetadataRequestTopic(name=name) for name in topics]
        response = await self._ask_any(
            MetadataRequest(topics=asked, allow_auto_topic_creation=create)
        )
        self._learn(response)
        return response

    async def partitions(self, topic: str) -> int:
        """How many partitions the topic has. Raises Missing."""
        return len((await self._topic(topic)).leaders)

    async def leader(self, partition: TopicPartition) -> int:
        """Its leader's node id. Raises Missing for an unknown topic or partition, Unavailable while there is no leader."""
        known = (await self._topic(partition.topic)).leaders.get(partition.partition)
        if known is None:
            self.forget(partition.topic)
            raise Missing(f"there is no partition {partition}")
        node, code = known
        if node not in self._brokers:
            self.forget(partition.topic)
            raise Unavailable(f"{partition} has no leader: {ErrorCode.of(code).name}")
        return node

    def forget(self, topic: str) -> None:
        """Its leaders are doubtful: the next call asks again."""
        self._topics.pop(topic, None)

    async def connection_to(self, target: Target) -> KafkaConnection:
        """The connection to a partition's leader, a node, or any broker; dialled where there is none yet."""
        if target is None:
            return await self._any()
        if isinstance(target, TopicPartition):
            target = await self.leader(target)
        address = self._brokers.get(target)
        if address is None:
            await self.metadata()
            address = self._brokers.get(target)
        if address is None:
            raise Unavailable(f"there is no broker {target} now")
        return await self._connect(address)

    async def request_to(
        self, target: Target, message: Request[R], *, timeout_s: float | None = None
    ) -> R:
        """One attempt. Raises Unavailable (not sent), Unknown (sent, no answer), Refused, Missing."""
        try:
            connection = await self.connection_to(target)
            response = await connection.submit(message, timeout_s=timeout_s)
        except (Unavailable, Unknown):
            if isinstance(target, TopicPartition):
                self.forget(target.topic)
            raise
        for topic in stale_topics(response):
            self.forget(topic)
        return response

    async def close(self) -> None:
        self._closed = True
        connections, self._connections = self._connections, {}
        for connection in connections.values():
            await connection.close()

    async def _topic(self, name: str) -> _Topic:
        known = self._fresh(name)
        if known is None:
            async with self._asking:  # whoever waited here finds the answer of the one before
                known = self._fresh(name)
                if known is None:
                    await self.metadata([name])
                    known = self._topics.get(name)
        if known is None:
            raise Unavailable(f"the cluster did not answer for topic {name}")
        if known.error_code:
            self.forget(name)
            raise _topic_error(name, ErrorCode.of(known.error_code))
        return known

    def _fresh(self, name: str) -> _Topic | None:
        known = self._topics.get(name)
        now = asyncio.get_running_loop().time()
        if known is None or now - known.learnt_at > self._settings.metadata_age_max:
            return None
        return known

    def _learn(self, response: MetadataResponse) -> None:
        now = asyncio.get_running_loop().time()
        self._brokers = {
            broker.node_id: BrokerAddress(broker.host, broker.port) for broker in response.brokers
        }
        self.controller_id = response.controller_id
        self.cluster_id = response.cluster_id or self.cluster_id
        for topic in response.topics:
            if topic.name is not None:
                self._topics[topic.name] = _learnt(topic, now)

    async def _ask_any(self, message: Request[R]) -> R:
        """Where a connection turns out to be dead while it is asked, the next one is: asking changes nothing."""
        failure: HeadwaterError | None = None
        for _ in range(len(self._bootstrap) + len(self._brokers)):
            connection = await self._any()
            try:
                return await connection.submit(message)
            except (Unavailable, Unknown) as error:
                failure = error
        raise Unavailable(f"no broker answers: {failure}") from failure

    async def _any(self) -> KafkaConnection:
        """An open connection if there is one, else the first address that takes one, each tried once."""
        for connection in self._connections.values():
            if connection.is_open:
                return connection
        turned = self._bootstrap[self._first :] + self._bootstrap[: self._first]
        reasons: list[str] = []
        for address in dict.fromkeys((*turned, *self._brokers.values())):
            try:
                return await self._connect(address)
            except HeadwaterError as error:
                reasons.append(str(error))
                if address in self._bootstrap:
                    self._first = (self._bootstrap.index(address) + 1) % len(self._bootstrap)
        raise Unavailable("; ".join(reasons))

    async def _connect(self, address: BrokerAddress) -> KafkaConnection:
        async with self._dialing.setdefault(address, asyncio.Lock()):
            known = self._connections.get(address)
            if known is not None and known.is_open:
                return known
            if self._closed:
                raise Unavailable("the client is closed")
            connection = await KafkaConnection.dial(
                *address,
                client_id=self._client_id,
                settings=self._settings,
                dialer=self._dialer,
                authenticator=self._authenticator,
            )
            if self._closed:  # while it was dialled
                await connection.close()
                raise Unavailable("the client is closed")
            self._connections[address] = connection
            return connection


def _learnt(topic: MetadataResponseTopic, now: float) -> _Topic:
    leaders = {
        partition.partition_index: (
            -1 if partition.error_code == ErrorCode.LEADER_NOT_AVAILABLE else partition.leader_id,
            partition.error_code,
        )
        for partition in topic.partitions
    }
    return _Topic(topic.error_code, leaders, now)


def _topic_error(name: str, code: ErrorCode) -> HeadwaterError:
    if code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
        return Missing(f"there is no topic {name}")
    if code.retriable:
        return Unavailable(f"topic {name}: {code.name}")
    return Refused(f"topic {name}: {code.name}")


def stale_topics(response: Message) -> set[str]:
    """Topics whose leaders are doubtful by what this answer says."""

    def stale(code: int) -> bool:
        return code != 0 and ErrorCode.of(code).stale_metadata

    if isinstance(response, ProduceResponse):
        return {
            topic.name
            for topic in response.responses
            if any(stale(partition.error_code) for partition in topic.partition_responses)
        }
    if isinstance(response, FetchResponse):
        return {
            topic.topic
            for topic in response.responses
            if any(stale(partition.error_code) for partition in topic.partitions)
        }
    if isinstance(response, ListOffsetsResponse):
        return {
            topic.name
            for topic in response.topics
            if any(stale(partition.error_code) for partition in topic.partitions)
        }
    return set()
