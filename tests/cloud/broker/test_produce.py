"""Produce: what is taken, what is refused, and when it is answered."""

from __future__ import annotations

import asyncio
import struct

import pytest

from headwater.core.batch import Compression, encode_batch
from headwater.core.errors import HeadwaterError
from headwater.core.kafka.errors import ErrorCode
from headwater.core.kafka.messages.describe_producers import DescribeProducersRequest, TopicRequest
from headwater.core.kafka.messages.init_producer_id import InitProducerIdRequest
from headwater.core.kafka.messages.produce import ProduceRequest
from headwater.core.record import Record
from tests.cloud.sink.batches import recrc
from tests.sim.store import SimulatedBucket

from .running import (
    Running,
    batch_of,
    fetch,
    over_broker,
    produce,
    produce_of,
    run,
    started,
    until,
    values_in,
)


def numbered(sequence: int, *values: bytes, producer_id: int = 7, epoch: int = 0) -> bytes:
    return batch_of(*values, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)


@over_broker
async def test_an_answer_means_that_the_object_is_in_the_store(running: Running) -> None:
    connection = await running.topic()
    running.store.hold()
    answer = connection.submit(produce_of(batch_of(b"a", b"b")))
    await until(lambda: running.broker.node.produce_budget.held)
    assert not answer.done()
    assert (await fetch(await running.connect(), 0))[0].high_watermark == 0
    running.store.release()
    part = (await answer).responses[0].partition_responses[0]
    assert (part.error_code, part.base_offset, part.log_start_offset) == (0, 0, 0)
    assert values_in((await fetch(connection, 0))[0]) == [b"a", b"b"]
    assert running.broker.node.produce_budget.held == 0


@over_broker
async def test_requests_behind_one_that_waits_go_into_the_same_object(running: Running) -> None:
    connection = await running.topic()
    await produce(connection, batch_of(b"first"))
    running.store.hold()
    blocker = connection.submit(produce_of(batch_of(b"blocker")))
    answers = [connection.submit(produce_of(batch_of(b"%d" % n))) for n in range(20)]
    all_held = 21 * len(batch_of(b"1"))
    await until(lambda: running.broker.node.produce_budget.held >= all_held)
    before = running.broker.node.shards.controller
    assert before is not None
    seq = before.writer.seq
    running.store.release()
    await blocker
    offsets = [(await answer).responses[0].partition_responses[0].base_offset for answer in answers]
    assert offsets == list(range(2, 22))
    assert before.writer.seq - seq <= 2, "the one that waited, and one for all behind it"


@over_broker
async def test_a_duplicate_is_answered_with_the_original_offset(running: Running) -> None:
    connection = await running.topic()
    await produce(connection, batch_of(b"somebody else's"))
    first = (await produce(connection, numbered(0, b"a", b"b")))[0]
    await produce(connection, numbered(2, b"c"))
    again = (await produce(connection, numbered(0, b"a", b"b")))[0]
    assert (first.base_offset, again.base_offset, again.error_code) == (1, 1, 0)
    assert len(values_in((await fetch(connection, 0))[0])) == 4


@over_broker
async def test_a_duplicate_of_a_batch_under_way_shares_its_fate(running: Running) -> None:
    connection, other = await running.topic(), await running.connect()
    running.store.hold()
    original = connection.submit(produce_of(numbered(0, b"a")))
    await until(lambda: running.broker.node.produce_budget.held)
    retry = other.submit(produce_of(numbered(0, b"a"), timeout_ms=30))
    timed_out = (await retry).responses[0].partition_responses[0]
    assert timed_out.error_code == ErrorCode.REQUEST_TIMED_OUT, "not answered before the original"
    patient = other.submit(produce_of(numbered(0, b"a")))
    running.store.release()
    for answer in (original, patient):
        part = (await answer).responses[0].partition_responses[0]
        assert (part.error_code, part.base_offset) == (0, 0)
    assert values_in((await fetch(connection, 0))[0]) == [b"a"]


@over_broker
async def test_holes_and_zombies_are_refused(running: Running) -> None:
    connection = await running.topic()
    await produce(connection, numbered(5, b"a"))  # unknown producer: any first sequence
    hole = (await produce(connection, numbered(7, b"c")))[0]
    assert hole.error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert hole.base_offset == -1
    await produce(connection, numbered(0, b"b", epoch=1))
    zombie = (await produce(connection, numbered(6, b"x")))[0]
    assert zombie.error_code == ErrorCode.INVALID_PRODUCER_EPOCH
    assert values_in((await fetch(connection, 0))[0]) == [b"a", b"b"]


@over_broker
async def test_sequences_wrap_around(running: Running) -> None:
    connection = await running.topic()
    await produce(connection, numbered(2**31 - 2, b"a", b"b", b"c"))
    wrapped = (await produce(connection, numbered(1, b"d")))[0]
    assert (wrapped.error_code, wrapped.base_offset) == (0, 3)
    assert (await last_sequences(running))[7] == 1


async def last_sequences(running: Running, topic: str = "t") -> dict[int, int]:
    connection = await running.connect()
    request = DescribeProducersRequest(topics=[TopicRequest(name=topic, partition_indexes=[0])])
    part = (await connection.request(request)).topics[0].partitions[0]
    assert part.error_code == 0, part
    return {producer.producer_id: producer.last_sequence for producer in part.active_producers}


@over_broker
async def test_describe_producers_waits_for_what_is_under_way(running: Running) -> None:
    connection = await running.topic()
    await produce(connection, numbered(0, b"a"))
    running.store.hold()
    connection.submit(produce_of(numbered(1, b"b", b"c")))
    await until(lambda: running.broker.node.produce_budget.held)
    question = asyncio.ensure_future(last_sequences(running))
    await asyncio.sleep(0.02)
    assert not question.done(), "2 may be durable or not: nothing can be told yet"
    running.store.release()
    assert await question == {7: 2}


def test_sequences_and_offsets_survive_the_node() -> None:
    async def body() -> None:
        bucket = SimulatedBucket()
        async with started(bucket=bucket) as running:
            connection = await running.topic()
            for n in range(8):
                await produce(connection, numbered(n, b"%d" % n))
            running.broker.kill()
        async with started(bucket=bucket) as running:
            connection = await running.connect()
            assert await last_sequences(running) == {7: 7}
            again = (await produce(connection, numbered(4, b"4")))[0]
            assert (again.error_code, again.base_offset) == (0, 4)
            forgotten = (await produce(connection, numbered(2, b"2")))[0]
            assert forgotten.error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
            onward = (await produce(connection, numbered(8, b"8")))[0]
            assert onward.base_offset == 8

    run(body())


def test_a_producer_id_is_never_given_twice() -> None:
    async def body() -> None:
        bucket = SimulatedBucket()
        drawn: list[int] = []
        for _ in range(3):
            async with started(bucket=bucket) as running:
                connection = await running.connect()
                for _ in range(3):
                    answer = await connection.request(InitProducerIdRequest(transactional_id=None))
                    assert answer.error_code == 0
                    drawn.append(answer.producer_id)
                running.broker.kill()
        assert len(set(drawn)) == 9, drawn

    run(body())


def speaking_of(records: int, batch: bytes) -> bytes:
    """The same bytes under a header that names another number of records."""
    fields = batch[:23] + struct.pack(">i", records - 1) + batch[27:57] + struct.pack(">i", records)
    return recrc(fields + batch[61:])


def zstd_batch() -> bytes:
    return encode_batch([Record(0, None, b"v")], compression=Compression.ZSTD)


def broken(position: int, value: bytes) -> bytes:
    data = bytearray(batch_of(b"value"))
    data[position : position + len(value)] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("records", "error"),
    [
        (None, ErrorCode.INVALID_RECORD),
        (b"", ErrorCode.INVALID_RECORD),
        (b"short", ErrorCode.CORRUPT_MESSAGE),
        (broken(16, b"\x01"), ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT),
        (broken(17, b"\0\0\0\0"), ErrorCode.CORRUPT_MESSAGE),
        (broken(8, struct.pack(">i", 1 << 20)), ErrorCode.CORRUPT_MESSAGE),
        (broken(8, struct.pack(">i", -1)), ErrorCode.CORRUPT_MESSAGE),
        (batch_of(b"v") + b"trailing junk", ErrorCode.CORRUPT_MESSAGE),
        (batch_of(bytes(2000)), ErrorCode.MESSAGE_TOO_LARGE),
        (batch_of(b"v", producer_id=4), ErrorCode.INVALID_RECORD),
        (speaking_of(5, batch_of(b"v")), ErrorCode.INVALID_RECORD),
        (speaking_of(2**31 - 1, zstd_batch()), ErrorCode.MESSAGE_TOO_LARGE),
    ],
)
def test_bad_records_are_named_and_nothing_of_them_is_kept(
    records: bytes | None, error: ErrorCode
) -> None:
    async def scenario(running: Running) -> None:
        connection = await running.topic(max_message_bytes="1000", partitions=2)
        good, bad = await produce(connection, batch_of(b"good"), records)
        assert (good.error_code, bad.error_code) == (0, error), bad
        assert values_in((await fetch(connection, 0, 0))[0]) == [b"good"]
        assert (await fetch(connection, 0, 0))[1].high_watermark == 0

    over_broker(scenario)()


@over_broker
async def test_several_batches_of_one_partition_are_taken_in_order(running: Running) -> None:
    connection = await running.topic()
    part = (await produce(connection, numbered(0, b"a") + numbered(1, b"b", b"c")))[0]
    assert (part.error_code, part.base_offset) == (0, 0)
    assert values_in((await fetch(connection, 0))[0]) == [b"a", b"b", b"c"]


@over_broker
async def test_unknown_topics_and_partitions_and_acks(running: Running) -> None:
    connection = await running.topic()
    unknown = (await produce(connection, batch_of(b"v"), topic="nope"))[0]
    assert unknown.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    beyond = (await produce(connection, batch_of(b"v"), partitions=[1]))[0]
    assert beyond.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    negative = (await produce(connection, batch_of(b"v"), partitions=[-1]))[0]
    assert negative.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    acks = (await produce(connection, batch_of(b"v"), acks=2))[0]
    assert acks.error_code == ErrorCode.INVALID_REQUIRED_ACKS
    request = produce_of(batch_of(b"v"))
    transactional = ProduceRequest(
        transactional_id="x", acks=-1, timeout_ms=1000, topic_data=request.topic_data
    )
    answer = (await connection.request(transactional)).responses[0].partition_responses[0]
    assert answer.error_code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED


@over_broker
async def test_acks_zero_is_taken_and_not_answered(running: Running) -> None:
    connection = await running.topic()
    await connection.request(produce_of(batch_of(b"quiet"), acks=0))
    assert (await produce(connection, batch_of(b"loud")))[0].base_offset == 1


@over_broker
async def test_a_store_that_is_away_times_out_and_the_retry_finds_the_record(
    running: Running,
) -> None:
    connection = await running.topic()
    running.store.hold()
    first = (await produce(connection, numbered(0, b"a"), timeout_ms=20))[0]
    assert first.error_code == ErrorCode.REQUEST_TIMED_OUT
    assert running.broker.node.produce_budget.held > 0, "its bytes are held until it is decided"
    running.store.release()
    again = (await produce(connection, numbered(0, b"a")))[0]
    assert (again.error_code, again.base_offset) == (0, 0)
    assert values_in((await fetch(connection, 0))[0]) == [b"a"]


def test_a_node_that_holds_enough_reads_no_more_records_but_goes_on_answering() -> None:
    value = bytes(100_000)

    async def scenario(running: Running) -> None:
        connection, other = await running.topic(), await running.connect()
        running.store.hold()
        answers = [
            connection.submit(produce_of(batch_of(value), timeout_ms=60_000)) for _ in range(30)
        ]
        budget = running.broker.node.produce_budget
        await until(lambda: budget.full)
        assert (await fetch(other, 0))[0].error_code == 0, "readers are not held up"
        await asyncio.sleep(0.02)
        assert budget.held <= 1_000_000 + 2 * len(value), "at most the limit and one more"
        running.store.release()
        offsets = [(await a).responses[0].partition_responses[0].base_offset for a in answers]
        assert offsets == list(range(30)), "and once there is room, everything is taken in order"

    over_broker(scenario, produce_bytes_in_flight_max=1_000_000)()


def test_a_fenced_node_says_that_it_leads_no_more() -> None:
    async def body() -> None:
        bucket = SimulatedBucket()
        async with started(bucket=bucket) as old:
            stale = await old.topic()
            await produce(stale, batch_of(b"a"))
            async with started(bucket=bucket) as new:
                part = (await produce(stale, batch_of(b"zombie")))[0]
                assert part.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
                assert "fenced" in await old.broker.wait_closed()
                assert old.broker.reasons_not_ready()
                fresh = await new.connect()
                await produce(fresh, batch_of(b"b"))
                assert values_in((await fetch(fresh, 0))[0]) == [b"a", b"b"]

    run(body())


def test_partitions_of_several_shards_are_found_by_their_name() -> None:
    async def body() -> None:
        bucket = SimulatedBucket()
        async with started(bucket=bucket, shards=3) as running:
            connection = await running.topic(partitions=12)
            parts = await produce(connection, *(batch_of(b"%d" % n) for n in range(12)))
            assert [part.error_code for part in parts] == [0] * 12
            shards = {s.number for s in running.broker.node.shards.owned() if s.state.partitions()}
            assert shards == {0, 1, 2}
        async with started(
            bucket=bucket
        ) as running:  # the count is the cluster's, not the setting's
            connection = await running.connect()
            fetched = await fetch(connection, *[0] * 12)
            assert [values_in(part) for part in fetched] == [[b"%d" % n] for n in range(12)]

    run(body())


@over_broker
async def test_compressed_batches_are_stored_as_they_came(running: Running) -> None:
    from headwater.core.batch import Compression

    connection = await running.topic()
    batch = encode_batch([Record(1, b"k", b"v" * 500)], compression=Compression.ZSTD)
    await produce(connection, batch)
    stored = bytes((await fetch(connection, 0))[0].records or b"")
    assert stored[12:16] == bytes(4), "the leader epoch"
    assert stored[16:] == batch[16:]


@over_broker
async def test_old_produce_versions_are_advertised_and_rejected(running: Running) -> None:
    connection = await running.connect()
    assert connection.versions[ProduceRequest.KEY] == (0, 11)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.broker.port)
    writer.write(struct.pack(">ihhih", 10, 0, 2, 1, -1))
    assert await reader.read() == b"", "closed"
    writer.close()
    with pytest.raises(HeadwaterError):
        await connection.request(produce_of(batch_of(b"v")), version=2)
