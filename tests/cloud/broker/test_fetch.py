"""Fetch and ListOffsets: what is read, when it is answered, and how much of it."""

from __future__ import annotations

import asyncio

import pytest

from headwater.core.kafka.connection import KafkaConnection
from headwater.core.kafka.errors import ErrorCode
from headwater.core.kafka.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from headwater.core.kafka.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from headwater.core.kafka.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)

from .running import (
    Running,
    batch_of,
    fetch,
    fetch_of,
    over_broker,
    produce,
    produce_of,
    records_in,
    until,
    values_in,
)


@over_broker
async def test_a_waiting_fetch_is_woken_by_the_commit(running: Running) -> None:
    connection, other = await running.topic(), await running.connect()
    waiting = connection.submit(fetch_of(0, wait_ms=60_000))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await produce(other, batch_of(b"a"))
    part = (await waiting).responses[0].partitions[0]
    assert values_in(part) == [b"a"]
    assert part.high_watermark == part.last_stable_offset == 1
    assert loop.time() - began < 1


@over_broker
async def test_a_fetch_that_finds_nothing_is_answered_after_its_wait(running: Running) -> None:
    connection = await running.topic()
    loop = asyncio.get_running_loop()
    began = loop.time()
    part = (await fetch(connection, 0, wait_ms=60))[0]
    assert 0.05 <= loop.time() - began < 2
    assert (part.error_code, part.records) == (0, b"")


@over_broker
async def test_min_bytes_gathers_several_commits(running: Running) -> None:
    connection, other = await running.topic(), await running.connect()
    one = len(batch_of(b"a"))
    waiting = connection.submit(fetch_of(0, wait_ms=60_000, bytes_min=3 * one))
    for value in (b"a", b"b"):
        await produce(other, batch_of(value))
    assert not waiting.done()
    await produce(other, batch_of(b"c"))
    assert values_in((await waiting).responses[0].partitions[0]) == [b"a", b"b", b"c"]


@over_broker
async def test_what_a_limit_keeps_back_is_not_waited_for(running: Running) -> None:
    connection = await running.topic(partitions=2)
    await produce(connection, batch_of(bytes(500)), batch_of(bytes(500)))
    loop = asyncio.get_running_loop()
    began = loop.time()
    parts = await fetch(connection, 0, 0, bytes_max=600, wait_ms=60_000, bytes_min=10_000)
    assert loop.time() - began < 1
    assert sum(len(values_in(part)) for part in parts) == 1


@over_broker
async def test_the_first_batch_is_whole_even_above_every_limit(running: Running) -> None:
    connection = await running.topic()
    await produce(connection, batch_of(bytes(5000)))
    await produce(connection, batch_of(b"b"))
    part = (await fetch(connection, 0, bytes_max=10, partition_bytes_max=10))[0]
    assert len(records_in(part)) == 1
    part = (await fetch(connection, 0, bytes_max=0, partition_bytes_max=0))[0]
    assert len(records_in(part)) == 1


@over_broker
async def test_no_partition_starves_behind_a_full_answer(running: Running) -> None:
    connection = await running.topic(partitions=4)
    await produce(connection, *(batch_of(bytes(900)) for _ in range(4)))
    seen: set[int] = set()
    for _ in range(4):
        parts = await fetch(connection, 0, 0, 0, 0, bytes_max=1000)
        filled = [part.partition_index for part in parts if part.records]
        assert [part.partition_index for part in parts] == [0, 1, 2, 3], "answered as asked"
        assert len(filled) == 1
        seen.update(filled)
    assert seen == {0, 1, 2, 3}


@over_broker
async def test_reading_begins_with_the_batch_that_holds_the_offset(running: Running) -> None:
    connection = await running.topic()
    await produce(connection, batch_of(b"0", b"1", b"2"))
    await produce(connection, batch_of(b"3"))
    assert values_in((await fetch(connection, 2))[0]) == [b"0", b"1", b"2", b"3"]
    assert values_in((await fetch(connection, 3))[0]) == [b"3"]


@over_broker
async def test_offsets_outside_the_log_are_told_at_once(running: Running) -> None:
    connection = await running.topic(partitions=2)
    await produce(connection, batch_of(b"0"))
    for offset in (-1, 2):
        part = (await fetch(connection, offset, 0, wait_ms=60_000))[0]
        assert part.error_code == ErrorCode.OFFSET_OUT_OF_RANGE
    unknown = (await fetch(connection, 0, topic="nope", wait_ms=60_000))[0]
    assert unknown.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


@over_broker
async def test_sessions_are_declined(running: Running) -> None:
    connection = await running.topic()
    first = await connection.request(fetch_of(0, session_id=0, session_epoch=0))
    assert (first.error_code, first.session_id) == (0, 0)
    unknown = await connection.request(fetch_of(0, session_id=77, session_epoch=3))
    assert unknown.error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    odd = await connection.request(fetch_of(0, session_id=0, session_epoch=3))
    assert odd.error_code == ErrorCode.INVALID_FETCH_SESSION_EPOCH


@over_broker
async def test_a_reader_that_leaves_gives_everything_back(running: Running) -> None:
    connection, other = await running.topic(), await running.connect()
    await produce(other, batch_of(b"a"))
    waiting = connection.submit(fetch_of(0, wait_ms=60_000, bytes_min=1 << 20))
    budget = running.broker.node.fetch_budget
    await until(lambda: budget.held)
    await connection.close()
    with pytest.raises(Exception, match="closed"):
        await waiting
    await until(lambda: not budget.held)


def test_readers_share_a_small_memory_and_all_are_served() -> None:
    async def scenario(running: Running) -> None:
        connection = await running.topic()
        for n in range(5):
            await produce(connection, batch_of(bytes([n]) * 20_000))
        readers = [await running.connect() for _ in range(20)]
        answers = await asyncio.gather(*(fetch(reader, 0) for reader in readers))
        assert all(len(values_in(parts[0])) >= 1 for parts in answers)
        await asyncio.sleep(0.01)
        assert running.broker.node.fetch_budget.held == 0

    over_broker(scenario, fetch_memory_max=50_000)()


async def offset_for(
    connection: KafkaConnection, timestamp: int, topic: str = "t"
) -> tuple[int, int, int]:
    asked = ListOffsetsPartition(partition_index=0, timestamp=timestamp)
    answer = await connection.request(
        ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name=topic, partitions=[asked])])
    )
    part = answer.topics[0].partitions[0]
    return part.error_code, part.offset, part.timestamp


@over_broker
async def test_offsets_are_found_by_time(running: Running) -> None:
    connection = await running.topic()
    assert await offset_for(connection, -1) == (0, 0, -1)
    assert await offset_for(connection, -2) == (0, 0, -1)
    assert await offset_for(connection, -3) == (0, -1, -1)
    await produce(connection, batch_of(b"0", b"1", b"2", timestamp=1000))
    await produce(connection, batch_of(b"3", b"4", timestamp=5000))
    await produce(connection, batch_of(b"5", timestamp=3000))
    assert await offset_for(connection, 0) == (0, 0, 1000)
    assert await offset_for(connection, 1001) == (0, 1, 1001)
    assert await offset_for(connection, 1003) == (0, 3, 5000)
    assert await offset_for(connection, 5001) == (0, 4, 5001)
    assert await offset_for(connection, 5002) == (0, -1, -1)
    assert await offset_for(connection, -1) == (0, 6, -1)
    assert await offset_for(connection, -3) == (0, 4, 5001)
    assert (await offset_for(connection, -1, "nope"))[0] == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


@over_broker
async def test_deleted_records_are_out_of_range_and_the_rest_stays(running: Running) -> None:
    connection = await running.topic()
    for n in range(4):
        await produce(connection, batch_of(b"%d" % n, timestamp=1000 * n))

    async def delete(offset: int) -> tuple[int, int]:
        asked = DeleteRecordsPartition(partition_index=0, offset=offset)
        topic = DeleteRecordsTopic(name="t", partitions=[asked])
        answer = await connection.request(DeleteRecordsRequest(topics=[topic], timeout_ms=1000))
        part = answer.topics[0].partitions[0]
        return part.error_code, part.low_watermark

    assert await delete(2) == (0, 2)
    assert await delete(1) == (0, 2), "never back"
    assert await delete(9) == (ErrorCode.OFFSET_OUT_OF_RANGE, -1)
    assert (await fetch(connection, 1))[0].error_code == ErrorCode.OFFSET_OUT_OF_RANGE
    part = (await fetch(connection, 2))[0]
    assert (values_in(part), part.log_start_offset) == ([b"2", b"3"], 2)
    assert await offset_for(connection, 0) == (0, 2, 2000)
    assert await delete(-1) == (0, 4)
    assert (await fetch(connection, 4))[0].error_code == 0
    assert (await produce(connection, batch_of(b"4")))[0].base_offset == 4


@over_broker
async def test_there_is_one_epoch_and_nothing_of_it_was_ever_cut_back(running: Running) -> None:
    connection = await running.topic()
    await produce(connection, batch_of(b"0", b"1"))

    async def ask(current: int, epoch: int) -> tuple[int, int, int]:
        asked = OffsetForLeaderPartition(
            partition=0, current_leader_epoch=current, leader_epoch=epoch
        )
        topic = OffsetForLeaderTopic(topic="t", partitions=[asked])
        answer = await connection.request(OffsetForLeaderEpochRequest(topics=[topic]))
        part = answer.topics[0].partitions[0]
        return part.error_code, part.leader_epoch, part.end_offset

    assert await ask(0, 0) == await ask(-1, 0) == (0, 0, 2)
    assert await ask(0, 3) == (0, -1, -1)
    assert (await ask(3, 3))[0] == ErrorCode.UNKNOWN_LEADER_EPOCH


@over_broker
async def test_draining_sends_waiting_readers_home(running: Running) -> None:
    connection = await running.topic()
    waiting = connection.submit(fetch_of(0, wait_ms=60_000))
    producing = connection.submit(produce_of(batch_of(b"last")))
    await until(lambda: running.broker.node.produce_budget.held)
    await running.broker.close()
    await waiting
    assert (await producing).responses[0].partition_responses[0].error_code == 0
