"""The door: malformed input ends one connection, is counted by its reason, and harms nobody else."""

from __future__ import annotations

import asyncio
import random
import struct

import pytest
from prometheus_client import CollectorRegistry

from headwater.cloud.broker.dispatch import HANDLERS
from headwater.cloud.broker.settings import BrokerSettings
from headwater.core.kafka.errors import ErrorCode
from headwater.core.kafka.frames import RequestHeader, encode_request
from headwater.core.kafka.messages import REQUESTS, ApiVersionsRequest, MetadataRequest
from headwater.core.kafka.messages.api_versions import ApiVersionsResponse
from headwater.core.units import Duration

from .running import (
    HeldStore,
    Running,
    batch_of,
    fetch_of,
    open_broker,
    over_broker,
    produce,
    produce_of,
    run,
    until,
    values_in,
)


async def answer_to(running: Running, data: bytes) -> bytes:
    """All that the broker says until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.broker.port)
    writer.write(data)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


def frame(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def closed(running: Running, reason: str) -> float:
    return float(running.broker.node.metrics.closed.labels(reason)._value.get())


METADATA = encode_request(MetadataRequest(), 1, correlation_id=5, client_id="c")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (struct.pack(">i", 1 << 30), "oversized"),
        (struct.pack(">i", -1), "oversized"),
        (frame(b""), "malformed"),
        (frame(b"\0\x03\0\x01"), "malformed"),
        (frame(METADATA[4:-2]), "malformed"),
        (frame(struct.pack(">hhih", 3, 1, 1, 5) + b"\xff\xff\xff\xff\xff"), "malformed"),
        (frame(struct.pack(">hhih", 3, 99, 1, -1) + b"\0"), "unsupported"),
        (frame(struct.pack(">hhih", 999, 0, 1, -1)), "unsupported"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "oversized"),
    ],
)
def test_what_is_not_a_request_ends_its_connection_alone(data: bytes, reason: str) -> None:
    async def scenario(running: Running) -> None:
        neighbour = await running.topic()
        assert await answer_to(running, data) == b""
        assert closed(running, reason) == 1
        assert (await produce(neighbour, batch_of(b"v")))[0].error_code == 0

    over_broker(scenario)()


@over_broker
async def test_a_version_of_the_future_is_answered_with_the_list(running: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.broker.port)
    writer.write(frame(struct.pack(">hhih", ApiVersionsRequest.KEY, 9, 42, -1) + b"\0\x02\x02\0"))
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    body = await reader.readexactly(size)
    assert body[:4] == struct.pack(">i", 42)
    answer = ApiVersionsResponse.decode(body[4:], 0)
    assert answer.error_code == ErrorCode.UNSUPPORTED_VERSION
    assert {api.api_key for api in answer.api_keys} == set(REQUESTS)
    writer.write(encode_request(ApiVersionsRequest(), 4, correlation_id=43, client_id="c"))
    assert len(await reader.readexactly(8)) == 8, "the connection lives"
    writer.close()


@over_broker
async def test_bytes_behind_a_request_are_let_pass_as_kafka_does(running: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.broker.port)
    writer.write(frame(METADATA[4:] + b"\1\0\0"))
    assert await reader.readexactly(4)
    writer.close()


def test_every_api_that_is_advertised_is_answered() -> None:
    assert {kind.KEY for kind in HANDLERS} == set(REQUESTS)


@over_broker
async def test_requests_that_arrive_byte_by_byte_are_answered_in_order(running: Running) -> None:
    connection = await running.topic()
    await produce(connection, batch_of(b"v"))
    reader, writer = await asyncio.open_connection("127.0.0.1", running.broker.port)
    requests = [
        encode_request(fetch_of(1, wait_ms=50), 12, correlation_id=1, client_id="c"),
        encode_request(produce_of(batch_of(b"w")), 9, correlation_id=2, client_id="c"),
        encode_request(MetadataRequest(), 1, correlation_id=3, client_id="c"),
    ]
    for byte in b"".join(requests):
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    seen = []
    for _ in requests:
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        seen.append(struct.unpack(">i", (await reader.readexactly(size))[:4])[0])
    assert seen == [1, 2, 3]
    writer.close()


@pytest.mark.parametrize("seed", range(30))
def test_no_bytes_make_a_handler_fail(seed: int) -> None:
    """Valid headers over random bodies, and valid requests with flipped bytes."""

    async def scenario(running: Running) -> None:
        rng = random.Random(seed)
        connection = await running.topic()
        whole = [
            encode_request(kind(), version, correlation_id=1, client_id="c")[4:]
            for kind in REQUESTS.values()
            for version in range(kind.VERSIONS[0], kind.VERSIONS[1] + 1)
        ]
        for _ in range(60):
            body = bytearray(rng.choice(whole))
            for _ in range(rng.randrange(4)):
                body[rng.randrange(len(body))] = rng.randrange(256)
            body += rng.randbytes(rng.choice([0, 0, 3, 40]))
            reader, writer = await asyncio.open_connection("127.0.0.1", running.broker.port)
            writer.write(frame(bytes(body)))
            writer.write_eof()
            writer.close()
            del reader
        assert (await produce(connection, batch_of(b"v")))[0].error_code == 0
        assert closed(running, "internal") == 0, f"seed {seed}"

    over_broker(scenario)()


def test_every_request_with_its_defaults_gets_an_answer_in_every_version() -> None:
    async def scenario(running: Running) -> None:
        await running.topic()
        for kind in REQUESTS.values():
            for version in range(kind.VERSIONS[0], kind.VERSIONS[1] + 1):
                connection = await running.connect()
                if kind.KEY == 0:
                    continue
                answer = await connection.request(kind(), version=version)
                assert isinstance(answer, kind.RESPONSE)
                await connection.close()

    over_broker(scenario)()


def test_connections_above_the_limit_are_refused() -> None:
    async def scenario(running: Running) -> None:
        first, second = await running.connect(), await running.connect()
        assert await answer_to(running, METADATA) == b""
        assert closed(running, "too many") == 1
        assert first.is_open
        assert second.is_open

    over_broker(scenario, connections_max=2)()


def test_idle_connections_are_closed_by_the_sweep() -> None:
    async def scenario(running: Running) -> None:
        connection = await running.connect()
        await asyncio.sleep(0.06)
        running.broker._listener.close_idle()
        await asyncio.sleep(0.02)
        assert not connection.is_open

    over_broker(scenario, idle_timeout=Duration(0.05))()


def test_a_client_that_takes_no_answers_is_cut_off() -> None:
    async def scenario(running: Running) -> None:
        connection = await running.topic()
        for _ in range(8):
            await produce(connection, batch_of(bytes(900_000)))
        reader, writer = await asyncio.open_connection("127.0.0.1", running.broker.port, limit=1024)
        request = encode_request(
            fetch_of(0, bytes_max=1 << 24), 12, correlation_id=1, client_id="c"
        )
        writer.write(request * 8)
        await until(lambda: closed(running, "slow"))
        assert running.broker.node.fetch_budget.held == 0
        writer.transport.abort()
        del reader

    over_broker(scenario, send_timeout=Duration(0.1))()


def test_requests_in_flight_are_bounded_by_not_reading() -> None:
    async def scenario(running: Running) -> None:
        connection = await running.topic()
        running.store.hold()
        waiting = [connection.submit(produce_of(batch_of(b"v"))) for _ in range(10)]
        await asyncio.sleep(0.05)
        assert taken(running, "Produce") == 4
        running.store.release()
        answers = await asyncio.gather(*waiting)
        assert [a.responses[0].partition_responses[0].base_offset for a in answers] == list(
            range(10)
        )

    over_broker(scenario, requests_in_flight_max=4)()


@over_broker
async def test_of_several_fetches_in_a_row_one_is_under_way_at_a_time(running: Running) -> None:
    connection = await running.topic()
    waiting = [connection.submit(fetch_of(0, wait_ms=60_000)) for _ in range(10)]
    await asyncio.sleep(0.05)
    assert taken(running, "Fetch") == 1
    await produce(await running.connect(), batch_of(b"v"))
    answers = await asyncio.gather(*waiting)
    assert all(values_in(a.responses[0].partitions[0]) == [b"v"] for a in answers)


def taken(running: Running, api: str) -> float:
    return float(running.broker.node.metrics.requests.labels(api)._value.get())


def test_a_port_in_use_is_said_before_the_shard_is_taken() -> None:
    async def body() -> None:
        store = HeldStore()
        first = await open_broker(store)
        with pytest.raises(Exception, match="cannot be listened on"):
            await open_broker(store, port=first.port)
        assert first.reasons_not_ready() == []
        await first.close()

    run(body())


def test_a_node_waits_for_a_store_that_does_not_answer_yet() -> None:
    from headwater.core.errors import Unavailable
    from headwater.core.objectstore import StoredObject

    class Away(HeldStore):
        failures = 2

        async def get(self, key: str, *, start: int = 0, size: int | None = None) -> StoredObject:
            if key == "cluster.json" and self.failures:
                self.failures -= 1
                raise Unavailable("503")
            return await super().get(key, start=start, size=size)

    async def body() -> None:
        broker = await open_broker(Away(), broker=BrokerSettings(), registry=CollectorRegistry())
        assert broker.reasons_not_ready() == []
        await broker.close()

    run(body())


def test_header_without_client_id_is_taken() -> None:
    header, position = RequestHeader.decode(struct.pack(">hhih", 3, 1, 7, -1))
    assert (header.client_id, position) == (None, 10)
