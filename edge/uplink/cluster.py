"""The cluster as the uplink sees it: its id, its brokers, who leads what; and a way to ask one of them.

Rim. `Dialer` is the seam for TLS and SASL and for tests: host and port in, a connection that speaks Kafka out. Everything
here may be lost and asked for again. What cannot be had raises Unavailable, what may have happened Unknown.

Behind an address there may be another cluster than a moment ago (a proxy, a name that was repointed, a broker set up anew).
What is known of one cluster says nothing about another, so every new connection is asked for its cluster's id before
anything else goes over it; where that is another, `Replaced`, and the session is over. The same where a topic has another
id than before: it was deleted and made anew, perhaps by a cluster that was set up anew under its old id.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol, TypeVar

from ...core.errors import HeadwaterError, Unavailable, Unknown
from ...core.kafka.connection import Intercepted
from ...core.kafka.errors import ErrorCode
from ...core.kafka.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ...core.kafka.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
)
from ...core.kafka.primitives import ZERO_UUID
from ...core.kafka.schema import Message, Request
from ...core.kafka.wire import WireCount
from ...core.record import TopicPartition

R = TypeVar("R", bound=Message)


class Replaced(Unavailable):
    """Another cluster answers where ours did, or a topic was made anew."""


class Connection(Protocol):
    """To one broker, pipelined: requests go out in the order of the calls."""

    async def request(self, message: Request[R], /) -> R:
        """Raises Unavailable (not sent), Unknown (sent, no answer), Refused (the broker lacks the API)."""

    @property
    def is_open(self) -> bool: ...

    def wire(self) -> WireCount:
        """What it cost on the wire so far; to be asked after its end too."""

    @property
    def peer_host(self) -> str:
        """The address at the other end, as a number."""

    async def close(self) -> None: ...


Dialer = Callable[[str, int], Awaitable[Connection]]
Address = tuple[str, int]


class Cluster:
    """One session with a cluster; after any trouble make a new one."""

    def __init__(
        self,
        bootstrap: Sequence[Address],
        dial: Dialer,
        *,
        timeout_s: float,
        rng: random.Random,
        spread_s: float = 0.0,
    ) -> None:
        self._spread_s = spread_s
        self._bootstrap = list(bootstrap)
        self._dial = dial
        self._timeout_s = timeout_s
        self._rng = rng
        self._addresses: dict[int, Address] = {}
        self._leaders: dict[TopicPartition, int] = {}
        self._partitions: dict[str, int] = {}
        self._topic_ids: dict[str, str] = {}
        self._controller = -1
        self._connections: dict[int, Connection] = {}
        self._dialing: dict[int, asyncio.Lock] = {}
        self.cluster_id = ""

    async def connect(self) -> None:
        """The first bootstrap address that answers, in random order so that a fleet spreads."""
        reasons, intercepted = [], False
        for host, port in self._rng.sample(self._bootstrap, len(self._bootstrap)):
            try:
                connection = await self.dial_address(host, port)
            except HeadwaterError as error:
                reasons.append(str(error))
                intercepted = intercepted or isinstance(error, Intercepted)
                continue
            try:
                self._learn(await self._bounded(connection.request(_metadata(()))))
            except HeadwaterError as error:
                reasons.append(f"{host}:{port}: {error}")
                await connection.close()
                continue
            known = {address: node for node, address in self._addresses.items()}
            if (node := known.get((host, port))) is not None:
                self._connections[node] = connection  # a handshake saved
            else:
                await connection.close()
            return
        said = "no bootstrap broker answers: " + "; ".join(reasons)
        raise Intercepted(said) if intercepted else Unavailable(said)

    async def refresh(self, topics: Collection[str]) -> None:
        """Ask for partitions and leaders of these topics."""
        names = sorted(topics)
        for begin in range(0, len(names), 500):
            self._learn(await self.ask(None, _metadata(names[begin : begin + 500])))

    def _learn(self, response: MetadataResponse) -> None:
        answers = response.cluster_id or ""
        if self.cluster_id and answers and answers != self.cluster_id:
            raise Replaced(f"cluster {self.cluster_id} was replaced by cluster {answers}")
        for topic in response.topics:
            name, is_known = topic.name or "", topic.topic_id != ZERO_UUID
            if (
                is_known
                and self._topic_ids.setdefault(name, topic.topic_id.hex) != topic.topic_id.hex
            ):
                raise Replaced(f"topic {name} was made anew")
        self._addresses = {
            broker.node_id: (broker.host, broker.port) for broker in response.brokers
        }
        self._controller = response.controller_id
        self.cluster_id = answers or self.cluster_id
        for topic in response.topics:
            name = topic.name or ""
            if topic.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                self._partitions.pop(name, None)
            if topic.error_code != ErrorCode.NONE:
                continue
            self._partitions[name] = len(topic.partitions)
            for partition in topic.partitions:
                key = TopicPartition(name, partition.partition_index)
                if partition.leader_id >= 0:
                    self._leaders[key] = partition.leader_id
                else:
                    self._leaders.pop(key, None)

    def partitions(self, topic: str) -> int | None:
        """How many, None where there is no such topic as of the last `refresh`."""
        return self._partitions.get(topic)

    def topic_id(self, topic: str) -> str:
        """Empty where the cluster does not say (Kafka before 2.8)."""
        return self._topic_ids.get(topic, "")

    def leader(self, partition: TopicPartition) -> int | None:
        return self._leaders.get(partition)

    async def create(self, topic: str, *, partitions: int, replication_factor: int) -> None:
        """No error where it is there already."""
        request = CreateTopicsRequest(
            topics=[
                CreatableTopic(
                    name=topic, num_partitions=partitions, replication_factor=replication_factor
                )
            ],
            timeout_ms=int(self._timeout_s * 1000),
        )
        node = self._controller if self._controller in self._addresses else None
        for result in (await self.ask(node, request)).topics:
            if result.error_code not in {ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS}:
                raise Unavailable(
                    f"cannot create topic {topic}: {describe(result.error_code, result.error_message)}"
                )

    async def ask(self, node: int | None, message: Request[R]) -> R:
        """One request to `node`, to any broker where it is None."""
        if node is None:
            nodes = [known for known in self._connections if known in self._addresses]
            node = nodes[0] if nodes else self._rng.choice(sorted(self._addresses) or [-1])
        connection = await self.dial(node)
        try:
            return await self._bounded(connection.request(message))
        except (Unavailable, Unknown):
            await connection.close()
            raise

    async def dial(self, node: int) -> Connection:
        """The one connection to this broker, which all share; whoever finds it broken closes it. Raises Replaced, too.

        Where one broke, the next is made only after a random part of `spread_s`: a cloud that restarts meets its whole fleet
        at the moment that it is back.
        """
        async with self._dialing.setdefault(node, asyncio.Lock()):
            connection = self._connections.get(node)
            if connection is not None and connection.is_open:
                return connection
            address = self._addresses.get(node)
            if address is None:
                raise Unavailable(f"broker {node} is not in the cluster's metadata")
            if connection is not None:
                del self._connections[node]
                await asyncio.sleep(self._rng.random() * self._spread_s)
            connection = await self.dial_address(*address)
            try:
                self._learn(await self._bounded(connection.request(_metadata(()))))
                self._connections[node] = connection
            finally:
                if self._connections.get(node) is not connection:
                    await connection.close()
            return connection

    async def dial_address(self, host: str, port: int) -> Connection:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._dial(host, port)
        except TimeoutError:
            raise Unavailable(
                f"{host}:{port} did not take the connection in {self._timeout_s:g} s"
            ) from None
        except OSError as error:
            raise Unavailable(f"{host}:{port}: {error}") from error

    async def _bounded(self, answer: Awaitable[R]) -> R:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await answer
        except TimeoutError:
            raise Unknown(f"no answer in {self._timeout_s:g} s") from None

    async def close(self) -> None:
        connections = list(self._connections.values())
        self._connections.clear()
        for connection in connections:
            await connection.close()


def _metadata(topics: Sequence[str]) -> MetadataRequest:
    return MetadataRequest(
        topics=[MetadataRequestTopic(name=name) for name in topics],
        allow_auto_topic_creation=False,
    )


def describe(code: int, message: str | None = None) -> str:
    """An error code as a person reads it."""
    try:
        name = ErrorCode(code).name
    except ValueError:
        name = f"kafka error {code}"
    return f"{name}: {message}" if message else name


def check(code: int, what: str) -> None:
    """Raises Unavailable for an error in an answer that may be asked for again."""
    if code != ErrorCode.NONE:
        raise Unavailable(f"{what}: {describe(code)}")
