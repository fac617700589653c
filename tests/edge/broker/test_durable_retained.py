"""Retained messages across power cuts: an acknowledged one is there, a dropped one is gone, an expired one too."""

from __future__ import annotations

import asyncio

import pytest

from headwater.core.journal.files.planning import plan
from headwater.core.journal.files.retention import carry_out
from headwater.core.journal.files.settings import StreamRetention
from headwater.core.units import ByteSize
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt.packets import Disconnect, Publish, Will
from headwater.edge.mqtt.properties import Properties

from .machine import Machine


def retain(machine: Machine, topic: str, payload: bytes, **more: object) -> None:
    publisher = machine.connect("p")
    publisher.send(
        Publish(topic=topic, payload=payload, qos=1, packet_id=1, retain=True, **more)  # type: ignore[arg-type]
    )
    machine.sync()
    assert len(publisher.take()) == 1  # its PUBACK
    publisher.send(Disconnect())


def retained(machine: Machine) -> dict[str, bytes]:
    """As a new subscriber sees it."""
    reader = machine.connect("reader")
    found = [each for each in reader.subscribe("#") if isinstance(each, Publish)]
    assert all(each.retain for each in found)
    reader.send(Disconnect())
    return {each.topic: each.payload for each in found}


@pytest.mark.parametrize("checkpointed", ["never", "before", "between", "after"])
@pytest.mark.parametrize("keep", [0.0, 1.0])
def test_the_last_acknowledged_message_of_a_topic_is_there(checkpointed: str, keep: float) -> None:
    machine = Machine()
    if checkpointed == "before":
        machine.checkpoint()
    retain(machine, "a", b"old")
    retain(machine, "b", b"gone")
    if checkpointed == "between":
        machine.checkpoint()
    retain(machine, "a", b"new")
    retain(machine, "b", b"")
    if checkpointed == "after":
        machine.checkpoint()
    for _ in range(2):
        machine.power_cut(keep=keep)
        assert machine.restored.losses == []
        assert retained(machine) == {"a": b"new"}


def test_properties_qos_and_address_come_back() -> None:
    properties = Properties(content_type="text", user_properties=(("k", "1"), ("k", "2")))
    for checkpointed in (False, True):
        machine = Machine()
        retain(machine, "a", b"1", properties=properties)
        before = machine.broker.fanout.retained.get("a")
        assert before is not None
        if checkpointed:
            machine.checkpoint()
        machine.power_cut()
        after = machine.broker.fanout.retained.get("a")
        assert after is not None
        assert after.properties == before.properties == properties
        assert (after.qos, after.tp, after.offset) == (1, before.tp, before.offset)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_an_expired_one_is_gone_and_time_off_counts_only_where_the_clock_is_trusted(
    checkpointed: bool,
) -> None:
    for trusted, left in ((True, {}), (False, {"a": b"1"})):
        machine = Machine()
        machine.trusted = trusted
        retain(machine, "a", b"1", properties=Properties(message_expiry_interval=60))
        if checkpointed:
            machine.checkpoint()
        machine.power_cut(away_s=100)
        assert retained(machine) == left
        machine.wait(61)
        assert retained(machine) == {}


def test_a_retained_will_is_there_after_the_power_cut_that_caused_it() -> None:
    machine = Machine()
    kept = Properties(session_expiry_interval=1000)
    will = Will(topic="status", payload=b"offline", qos=1, retain=True)
    machine.connect("c", clean=False, properties=kept, will=will)
    machine.power_cut()
    machine.sync()
    assert retained(machine) == {"status": b"offline"}
    machine.power_cut()
    assert retained(machine) == {"status": b"offline"}


def test_a_record_that_retention_retired_is_still_retained() -> None:
    """Before a checkpoint its segment is pinned, whatever its partition's start; afterwards its row has the payload."""
    for checkpointed in (False, True):
        machine = Machine()
        retain(machine, "a", b"kept")
        publisher = machine.connect("q")
        for number in range(40):
            publisher.publish("noise", bytes(10_000), id=number % 60 + 1)
            machine.sync()
            publisher.take()
        if checkpointed:
            machine.checkpoint()
        rules = {"default": StreamRetention(bytes_max=ByteSize(1))}
        agreed = plan(machine.log, machine.clock.wall_ms(), rules=rules, sent=None)
        carry_out(machine.log, agreed)
        assert any(writer.start > 0 for writer in machine.log.writers())
        machine.power_cut()
        assert machine.restored.losses == []
        assert retained(machine) == {"a": b"kept"}


def test_what_is_over_the_limit_after_a_restart_is_what_was_over_it_before() -> None:
    machine = Machine(settings=MqttSettings(retained_messages_max=2))
    for topic in ("a", "b", "c"):
        retain(machine, topic, b"1")
    assert set(retained(machine)) == {"a", "b"}
    machine.power_cut()
    assert set(retained(machine)) == {"a", "b"}


def test_a_round_that_a_stop_cancels_leaves_nothing_out_of_the_last_one() -> None:
    """What a cancelled round had taken is written by the next; else its `covers` would pass over the notes as well."""
    machine = Machine()
    peer = machine.connect("c")
    for number in range(3):
        peer.send(
            Publish(topic=f"t/{number}", payload=b"x", qos=1, packet_id=number + 1, retain=True)
        )
    machine.sync()

    async def stop_half_way() -> None:
        task = asyncio.create_task(machine.checkpoints.round())
        waiting = machine.committer.wait_durable

        async def cancelled(commit: int) -> None:
            raise asyncio.CancelledError

        machine.committer.wait_durable = cancelled  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await task
        machine.committer.wait_durable = waiting  # type: ignore[method-assign]
        assert await machine.checkpoints.round()

    asyncio.run(stop_half_way())
    assert sorted(machine.broker.fanout.retained.topics()) == ["t/0", "t/1", "t/2"]
    assert sorted(row.topic for row in machine.store.retained()) == ["t/0", "t/1", "t/2"]
