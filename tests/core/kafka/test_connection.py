"""A connection: pipelining, negotiation, and what each failure says about the request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import msgspec
import pytest

from headwater.core.errors import Refused, Unavailable, Unknown
from headwater.core.kafka import frames
from headwater.core.kafka.connection import KafkaConnection
from headwater.core.kafka.messages import (
    ApiVersionsRequest,
    ApiVersionsResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    ProduceRequest,
    ProduceResponse,
)
from headwater.core.kafka.messages.api_versions import ApiVersion
from headwater.core.kafka.schema import Message, Request
from headwater.core.kafka.settings import ClientSettings
from headwater.core.units import ByteSize, Duration

from .scripted import CLOSE, Broker, Network, Reaction, Script, answer


def run(body: Coroutine[object, object, None]) -> None:
    asyncio.run(body)


def echo(header: frames.RequestHeader, message: Request[Message]) -> Reaction:
    assert isinstance(message, HeartbeatRequest)
    return HeartbeatResponse(error_code=message.generation_id)


def silent(header: frames.RequestHeader, message: Request[Message]) -> Reaction:
    return None


async def dial(broker: Broker, settings: ClientSettings | None = None) -> KafkaConnection:
    return await KafkaConnection.dial(
        "b",
        9092,
        client_id="test",
        settings=settings,
        dialer=Network({("b", 9092): broker}),
    )


def test_a_request_is_answered_at_the_newest_common_version() -> None:
    async def body() -> None:
        broker = Broker(echo)
        connection = await dial(broker)
        assert await connection.request(HeartbeatRequest(generation_id=5)) == HeartbeatResponse(
            error_code=5
        )
        header, _ = broker.seen[0]
        assert (header.api_version, header.client_id) == (4, "test")
        assert connection.version_of(HeartbeatRequest) == 4
        await connection.close()
        assert not connection.is_open

    run(body())


def test_many_requests_are_in_flight_and_leave_in_the_order_of_the_calls() -> None:
    async def body() -> None:
        held: list[frames.RequestHeader] = []

        def hold(header: frames.RequestHeader, message: Request[Message]) -> Reaction:
            held.append(header)
            return None

        broker = Broker(hold)
        connection = await dial(broker)
        answers = [
            connection.submit(HeartbeatRequest(generation_id=number)) for number in range(50)
        ]
        sent = [message for _, message in broker.seen]
        assert sent == [HeartbeatRequest(generation_id=number) for number in range(50)]
        assert connection.in_flight == 50
        for header in reversed(held):  # matched by correlation id, whatever the order
            code = held.index(header)
            broker.wires[0].send(answer(header, HeartbeatResponse(error_code=code)))
        assert [found.error_code for found in await asyncio.gather(*answers)] == list(range(50))
        assert connection.in_flight == 0
        await connection.close()

    run(body())


def api_versions(newest: int) -> Callable[[frames.RequestHeader, Request[Message]], Reaction]:
    """A broker that knows ApiVersions up to `newest`, and answers above as KIP-511 says."""

    def script(header: frames.RequestHeader, message: Request[Message]) -> Reaction:
        versions = ApiVersionsResponse(
            api_keys=(
                ApiVersion(api_key=18, min_version=0, max_version=newest),
                ApiVersion(api_key=12, min_version=0, max_version=1),
            )
        )
        if header.api_version <= newest:
            return versions
        unsupported = msgspec.structs.replace(versions, error_code=35)
        return frames.encode_response(unsupported, 0, correlation_id=header.correlation_id)

    return script


@pytest.mark.parametrize("newest", [0, 1, 2, 3, 4])
def test_versions_are_found_whatever_the_broker_knows(newest: int) -> None:
    async def body() -> None:
        broker = Broker(api_versions(newest), negotiates=False)
        connection = await dial(broker)
        assert connection.versions == {18: (0, newest), 12: (0, 1)}
        assert len(broker.seen) == (1 if newest == 4 else 2)
        assert connection.version_of(HeartbeatRequest) == 1
        with pytest.raises(Refused, match="does not offer ProduceRequest"):
            connection.submit(ProduceRequest())
        await connection.close()

    run(body())


def test_an_error_35_with_a_broken_list_is_taken_for_version_0() -> None:
    """As librdkafka's mock answers: the list in compact form, one byte off."""

    def script(header: frames.RequestHeader, message: Request[Message]) -> Reaction:
        if header.api_version == 0:
            return ApiVersionsResponse(api_keys=(ApiVersion(api_key=18, max_version=2),))
        return bytes.fromhex("00000011 00000000 0023 01 0012 0000 0002 00000000")

    async def body() -> None:
        connection = await dial(Broker(script, negotiates=False))
        assert connection.versions == {18: (0, 2)}
        await connection.close()

    run(body())


@pytest.mark.parametrize("error_code", [35, 58])
def test_a_broker_that_never_tells_its_versions_is_refused(error_code: int) -> None:
    async def body() -> None:
        broker = Broker(lambda *_: ApiVersionsResponse(error_code=error_code), negotiates=False)
        with pytest.raises(Refused, match="answers ApiVersions with"):
            await dial(broker)
        assert broker.wires[0].is_closing()

    run(body())


def test_versions_that_do_not_meet_are_refused_before_anything_is_sent() -> None:
    async def body() -> None:
        versions = ApiVersionsResponse(
            api_keys=(ApiVersion(api_key=0, min_version=0, max_version=2),)
        )
        broker = Broker(silent, versions=versions)
        connection = await dial(broker)
        with pytest.raises(Refused, match="speaks ProduceRequest 0 to 2, Headwater 3 to 11"):
            await connection.request(ProduceRequest())
        assert broker.seen == []
        await connection.close()

    run(body())


def test_a_connection_that_is_refused_is_unavailable() -> None:
    async def body() -> None:
        with pytest.raises(Unavailable, match="cannot connect to broker b:1: connection refused"):
            await KafkaConnection.dial("b", 1, client_id="test", dialer=Network({}))

    run(body())


@pytest.mark.parametrize("script", [silent, lambda *_: CLOSE], ids=["silent", "hangs up"])
def test_a_broker_that_does_not_tell_its_versions_in_time_is_unavailable(script: Script) -> None:
    async def body() -> None:
        broker = Broker(script, negotiates=False)
        with pytest.raises(Unavailable):
            await dial(broker, ClientSettings(connect_timeout=Duration(0.01)))
        assert broker.wires[0].is_closing()

    run(body())


async def outstanding(
    broker: Broker, settings: ClientSettings | None = None
) -> tuple[KafkaConnection, list[asyncio.Future[HeartbeatResponse]]]:
    connection = await dial(broker, settings)
    return connection, [connection.submit(HeartbeatRequest()) for _ in range(3)]


async def all_unknown(answers: list[asyncio.Future[HeartbeatResponse]]) -> None:
    for found in await asyncio.gather(*answers, return_exceptions=True):
        assert isinstance(found, Unknown)


def test_what_was_sent_when_the_broker_hangs_up_is_unknown() -> None:
    async def body() -> None:
        broker = Broker(silent)
        connection, answers = await outstanding(broker)
        broker.hang_up()
        await all_unknown(answers)
        with pytest.raises(Unavailable, match="not connected"):
            await connection.request(HeartbeatRequest())
        await connection.close()

    run(body())


def test_what_was_sent_when_the_connection_is_closed_is_unknown() -> None:
    async def body() -> None:
        connection, answers = await outstanding(Broker(silent))
        await connection.close()
        await connection.close()
        await all_unknown(answers)
        with pytest.raises(Unavailable):
            connection.submit(HeartbeatRequest())

    run(body())


def test_an_answer_that_does_not_come_in_time_ends_the_connection() -> None:
    async def body() -> None:
        connection, answers = await outstanding(
            Broker(silent), ClientSettings(request_timeout=Duration(0.01))
        )
        await all_unknown(answers)
        assert not connection.is_open
        await connection.close()

    run(body())


@pytest.mark.parametrize(
    "reply",
    [
        b"\0\0\0\x06\0\0\0\x63\0\0",
        b"\0\0\0\x02\0\0",
        b"\x7f\xff\xff\xff",
        b"\0\0\0\x06\0\0\0\x01\0\0",
    ],
    ids=["nobody asked", "no correlation id", "too large", "cut short"],
)
def test_an_answer_that_makes_no_sense_leaves_everything_unknown(reply: bytes) -> None:
    async def body() -> None:
        broker = Broker(silent)
        connection, answers = await outstanding(broker)
        broker.wires[0].send(reply)
        await all_unknown(answers)
        assert not connection.is_open
        await connection.close()

    run(body())


def test_an_answer_above_the_limit_is_not_waited_for() -> None:
    async def body() -> None:
        broker = Broker(silent)
        connection, answers = await outstanding(
            broker, ClientSettings(response_bytes_max=ByteSize(2000))
        )
        broker.wires[0].send(b"\0\0\x07\xd1")
        await all_unknown(answers)
        await connection.close()

    run(body())


def test_giving_up_waiting_leaves_the_others_alone() -> None:
    async def body() -> None:
        held: list[frames.RequestHeader] = []

        def hold(header: frames.RequestHeader, message: Request[Message]) -> Reaction:
            held.append(header)
            return None

        broker = Broker(hold)
        connection = await dial(broker)
        impatient = asyncio.create_task(connection.request(HeartbeatRequest()))
        patient = asyncio.create_task(connection.request(HeartbeatRequest()))
        await asyncio.sleep(0)
        impatient.cancel()
        for header in held:
            broker.wires[0].send(answer(header, HeartbeatResponse(error_code=3)))
        assert (await patient).error_code == 3
        assert impatient.cancelled()
        assert connection.is_open
        await connection.close()

    run(body())


def test_more_than_the_limit_in_flight_is_not_sent() -> None:
    async def body() -> None:
        broker = Broker(silent)
        connection, answers = await outstanding(broker, ClientSettings(requests_in_flight_max=3))
        with pytest.raises(Unavailable, match="owes 3 answers"):
            connection.submit(HeartbeatRequest())
        assert len(broker.seen) == 3
        await connection.close()
        await all_unknown(answers)

    run(body())


def test_a_message_that_cannot_be_encoded_is_refused_and_costs_nothing() -> None:
    async def body() -> None:
        connection = await dial(Broker(echo))
        with pytest.raises(Refused, match="does not fit"):
            connection.submit(HeartbeatRequest(generation_id=2**31))
        assert connection.in_flight == 0
        assert (await connection.request(HeartbeatRequest(generation_id=1))).error_code == 1
        await connection.close()

    run(body())


def test_produce_without_acknowledgement_is_done_when_it_is_sent() -> None:
    async def body() -> None:
        broker = Broker(silent)
        connection = await dial(broker)
        assert await connection.request(ProduceRequest(acks=0)) == ProduceResponse()
        assert connection.in_flight == 0
        assert len(broker.seen) == 1
        await connection.close()

    run(body())


def test_asking_again_for_versions_is_a_request_like_any_other() -> None:
    async def body() -> None:
        connection = await dial(Broker(silent))
        response = await connection.request(
            ApiVersionsRequest(client_software_name="t", client_software_version="1")
        )
        assert response.error_code == 0
        await connection.close()

    run(body())
