"""Brokers in memory: a dialer, a transport, and a script that answers. No sockets, no time but the loop's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from headwater.core.kafka import frames
from headwater.core.kafka.messages import (
    REQUESTS,
    ApiVersionsRequest,
    ApiVersionsResponse,
    MetadataRequest,
    MetadataResponse,
)
from headwater.core.kafka.messages.api_versions import ApiVersion
from headwater.core.kafka.messages.metadata import (
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from headwater.core.kafka.schema import Message, Request

# An answer; bytes to send as they are; None for no answer at all; CLOSE to hang up.
Reaction = Message | bytes | None
CLOSE = b""
Script = Callable[[frames.RequestHeader, Request[Message]], Reaction]

ALL_VERSIONS = ApiVersionsResponse(
    api_keys=tuple(
        ApiVersion(api_key=key, min_version=api.VERSIONS[0], max_version=api.VERSIONS[1])
        for key, api in REQUESTS.items()
    )
)


class Wire(asyncio.Transport):
    """One connection, seen from the broker."""

    def get_write_buffer_size(self) -> int:
        return 0

    def __init__(self, protocol: asyncio.Protocol, broker: Broker) -> None:
        super().__init__()
        self._protocol = protocol
        self._broker = broker
        self._reader = frames.FrameReader(2**20)
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing:
            for frame in self._reader.receive(data):
                self._broker.receive(self, frame)

    def send(self, data: bytes) -> None:
        if not self._closing:
            asyncio.get_running_loop().call_soon(self._protocol.data_received, data)

    def is_closing(self) -> bool:
        return self._closing

    def abort(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)


class Broker:
    """Answers ApiVersions by itself, unless `negotiates` is off; everything else by its script."""

    def __init__(
        self,
        script: Script,
        *,
        versions: ApiVersionsResponse = ALL_VERSIONS,
        negotiates: bool = True,
    ) -> None:
        self._script = script
        self._versions = versions
        self._negotiates = negotiates
        self.seen: list[tuple[frames.RequestHeader, Request[Message]]] = []
        self.wires: list[Wire] = []

    def receive(self, wire: Wire, frame: bytes) -> None:
        header, message = frames.decode_request(frame)
        if self._negotiates and isinstance(message, ApiVersionsRequest):
            reaction: Reaction = self._versions
        else:
            self.seen.append((header, message))
            reaction = self._script(header, message)
        if reaction == CLOSE and isinstance(reaction, bytes):
            wire.abort()
        elif isinstance(reaction, bytes):
            wire.send(reaction)
        elif reaction is not None:
            wire.send(answer(header, reaction))

    def hang_up(self) -> None:
        for wire in self.wires:
            wire.abort()


def answer(header: frames.RequestHeader, message: Message) -> bytes:
    return frames.encode_response(message, header.api_version, correlation_id=header.correlation_id)


class Network:
    """A dialer for brokers by address; an address without one refuses the connection."""

    def __init__(self, brokers: dict[tuple[str, int], Broker]) -> None:
        self.brokers = brokers
        self.dialled: list[tuple[str, int]] = []

    async def __call__(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> object:
        self.dialled.append((host, port))
        await asyncio.sleep(0)
        if (host, port) not in self.brokers:
            raise ConnectionRefusedError(111, "connection refused")
        broker = self.brokers[host, port]
        protocol = factory()
        wire = Wire(protocol, broker)
        broker.wires.append(wire)
        protocol.connection_made(wire)
        return wire, protocol


def cluster_metadata(
    request: MetadataRequest,
    *,
    addresses: Iterable[tuple[str, int]],
    leaders: dict[str, list[int]],
) -> MetadataResponse:
    """Nodes are numbered from 1 in the order of `addresses`; `leaders` has one node for each partition, -1 for none."""
    names = [topic.name or "" for topic in request.topics or ()]
    return MetadataResponse(
        cluster_id="test",
        controller_id=1,
        brokers=tuple(
            MetadataResponseBroker(node_id=index, host=host, port=port)
            for index, (host, port) in enumerate(addresses, 1)
        ),
        topics=tuple(
            MetadataResponseTopic(
                name=name,
                error_code=0 if name in leaders else 3,
                partitions=tuple(
                    MetadataResponsePartition(
                        partition_index=index, leader_id=node, error_code=5 if node < 0 else 0
                    )
                    for index, node in enumerate(leaders.get(name, []))
                ),
            )
            for name in names
        ),
    )
