"""Kept sessions across power cuts: what was promised is there, what was not promised may be."""

from __future__ import annotations

import pytest

from headwater.edge.broker.sessions import Session
from headwater.edge.mqtt.packets import (
    Acknowledgement,
    Connack,
    Connect,
    Disconnect,
    PacketType,
    Pingreq,
    Publish,
    Suback,
    Subscribe,
    SubscriptionOptions,
    Unsubscribe,
    Version,
    Will,
)
from headwater.edge.mqtt.properties import NO_PROPERTIES, Properties
from tests.sim.disk import SimCrash

from .harness import Peer
from .machine import Machine

KEPT = Properties(session_expiry_interval=1000)
PUBACK, PUBREC, PUBREL, PUBCOMP = (
    PacketType.PUBACK,
    PacketType.PUBREC,
    PacketType.PUBREL,
    PacketType.PUBCOMP,
)


def come_back(machine: Machine, client_id: str = "c", *, clean: bool = False) -> tuple[Peer, bool]:
    """The peer, and whether its session was present."""
    peer = machine.peer()
    peer.send(Connect(version=Version.V5, client_id=client_id, clean_start=clean, properties=KEPT))
    machine.keep_promises()
    (connack, *_) = peer.take()
    assert isinstance(connack, Connack)
    return peer, connack.session_present


def kept(machine: Machine, client_id: str = "c", **more: object) -> Peer:
    return machine.connect(client_id, clean=False, properties=KEPT, **more)  # type: ignore[arg-type]


def session(machine: Machine, client_id: str = "c") -> Session:
    return machine.broker.sessions[client_id]


# --- promises wait for the disk -------------------------------------------------------------------------------


def test_connack_of_a_kept_session_waits_for_the_disk_and_what_follows_is_heard_after_it() -> None:
    machine = Machine()
    peer = machine.peer()
    peer.send(
        Connect(version=Version.V5, client_id="c", clean_start=False, properties=KEPT), Pingreq()
    )
    assert peer.take() == []
    assert not peer.transport.reading
    machine.sync()
    connack, pingresp = peer.take()
    assert isinstance(connack, Connack)
    assert not connack.session_present
    assert type(pingresp).__name__ == "Pingresp"
    assert peer.transport.reading


def test_connack_of_a_session_that_ends_with_its_connection_waits_for_nothing() -> None:
    machine = Machine()
    peer = machine.peer()
    peer.send(Connect(version=Version.V5, client_id="c"))
    assert len(peer.take()) == 1
    assert not machine.log.pending_bytes


def test_suback_and_unsuback_of_a_kept_session_wait_for_the_disk() -> None:
    machine = Machine()
    peer = kept(machine)
    peer.send(Subscribe(packet_id=7, subscriptions=(SubscriptionOptions("a", 1),)))
    assert peer.take() == []
    machine.sync()
    (suback,) = peer.take()
    assert isinstance(suback, Suback)
    peer.send(Unsubscribe(packet_id=8, filters=("a",)))
    assert peer.take() == []
    machine.sync()
    assert len(peer.take()) == 1


def test_nothing_is_delivered_before_connack() -> None:
    machine = Machine()
    publisher = machine.connect("p")
    subscriber = kept(machine, "s")
    subscriber.subscribe("a", qos=1)
    subscriber.lose()
    machine.sync()
    back = machine.peer()
    back.send(Connect(version=Version.V5, client_id="s", clean_start=False, properties=KEPT))
    publisher.publish("a", b"1")
    machine.sync()
    connack, first = back.take()
    assert isinstance(connack, Connack)
    assert isinstance(first, Publish)


# --- across a power cut ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("keep", [0.0, 1.0])
def test_a_session_is_there_after_a_power_cut_with_its_subscriptions(
    checkpointed: bool, keep: float
) -> None:
    machine = Machine()
    peer = kept(machine)
    options = SubscriptionOptions("x/#", 1, no_local=True, retain_as_published=True)
    identified = Properties(subscription_identifiers=(77,))
    peer.send(Subscribe(packet_id=1, subscriptions=(options,), properties=identified))
    peer.subscribe("gone")
    peer.send(Unsubscribe(packet_id=3, filters=("gone",)))
    machine.sync()
    if checkpointed:
        assert machine.checkpoint()
    machine.power_cut(keep=keep)
    assert machine.restored.losses == []
    assert session(machine).filters == {"x/#": (options, 77)}
    _, present = come_back(machine)
    assert present


def test_what_was_not_promised_may_be_gone_but_nothing_else() -> None:
    machine = Machine()
    peer = kept(machine)
    peer.subscribe("a")
    peer.send(Subscribe(packet_id=9, subscriptions=(SubscriptionOptions("b"),)))
    machine.power_cut()
    assert set(session(machine).filters) == {"a"}


def test_a_clean_start_ends_what_was_kept_also_after_a_power_cut() -> None:
    machine = Machine()
    kept(machine).subscribe("a")
    machine.checkpoint()
    _, present = come_back(machine, clean=True)
    assert not present
    machine.power_cut()
    assert session(machine).filters == {}
    machine.checkpoint()
    machine.power_cut()
    assert session(machine).filters == {}


def test_a_session_that_ended_does_not_come_back() -> None:
    machine = Machine()
    peer = kept(machine)
    machine.checkpoint()
    peer.send(Disconnect(properties=Properties(session_expiry_interval=0)))
    machine.sync()
    machine.power_cut()
    assert machine.broker.sessions == {}
    machine.checkpoint()
    assert machine.store.session_rows == {}


def test_sessions_that_end_with_their_connection_leave_no_trace() -> None:
    machine = Machine()
    peer = machine.connect("c")
    peer.subscribe("a")
    peer.publish("a")
    peer.publish("a", qos=2, id=3)
    machine.sync()
    machine.checkpoint()
    assert machine.store.saves == 0
    assert not list(machine.log.notes(0))


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("connected", [False, True])
def test_what_was_published_for_a_session_is_delivered_after_a_power_cut(
    checkpointed: bool, connected: bool
) -> None:
    machine = Machine()
    subscriber = kept(machine, "s")
    subscriber.subscribe("a", qos=1)
    publisher = machine.connect("p")
    if checkpointed:
        machine.checkpoint()
    if not connected:
        subscriber.lose()
        machine.sync()
    for number in range(3):
        publisher.publish("a", b"%d" % number, id=number + 1)
        machine.sync()
    machine.power_cut()  # nothing was acknowledged by the subscriber
    back = machine.peer()
    back.send(Connect(version=Version.V5, client_id="s", clean_start=False, properties=KEPT))
    machine.sync()
    machine.wait(1)
    payloads = [packet.payload for packet in back.take() if isinstance(packet, Publish)]
    assert payloads == [b"0", b"1", b"2"]


# --- time ------------------------------------------------------------------------------------------------------


def test_a_session_expires_while_the_power_is_off_where_both_clocks_are_trusted() -> None:
    machine = Machine()
    kept(machine).lose()
    machine.sync()
    machine.power_cut(away_s=1001)
    assert machine.broker.sessions == {}


def test_a_session_that_was_connected_begins_to_expire_at_the_restart() -> None:
    machine = Machine()
    kept(machine)
    machine.power_cut(away_s=100_000)
    machine.wait(999)
    assert "c" in machine.broker.sessions
    machine.wait(2)
    assert machine.broker.sessions == {}


def test_a_board_without_a_clock_expires_nothing_at_boot() -> None:
    """Both lies: the clock was in 1970 and is right now, and the other way round."""
    for step_ms in (1_700_000_000_000, -1_700_000_000_000):
        machine = Machine()
        machine.trusted = False
        kept(machine).lose()
        machine.sync()
        machine.clock.step_wall(step_ms)
        machine.power_cut()
        assert "c" in machine.broker.sessions
        machine.wait(998)
        assert "c" in machine.broker.sessions
        machine.wait(4)
        assert machine.broker.sessions == {}


def test_time_that_passed_before_the_restart_counts_in_the_same_boot() -> None:
    machine = Machine()
    kept(machine).lose()
    machine.sync()
    machine.wait(600)
    machine.boots -= 1  # the process was killed, not the machine
    machine.trusted = False
    machine.sync()
    machine.kill()
    machine.wait(399)
    assert "c" in machine.broker.sessions
    machine.wait(2)
    assert machine.broker.sessions == {}


# --- wills -----------------------------------------------------------------------------------------------------

WILL = Will(topic="w", payload=b"gone", qos=1)
DELAYED = Will(topic="w", payload=b"gone", qos=1, properties=Properties(will_delay_interval=60))


def test_the_will_of_a_session_that_was_connected_when_the_power_went_is_published_once() -> None:
    machine = Machine()
    kept(machine, will=WILL)
    machine.power_cut()
    machine.sync()
    assert machine.values == [b"gone"]
    machine.power_cut()
    machine.sync()
    assert machine.values == [b"gone"]


@pytest.mark.parametrize("checkpointed", [False, True])
def test_the_will_of_a_session_without_expiry_is_said_at_the_start_and_nothing_else_is_kept(
    checkpointed: bool,
) -> None:
    """Its connection ended with the edge ([MQTT-3.1.2-8]): a server may put that off (3.1.2.5), not forget it."""
    machine = Machine()
    peer = machine.peer()
    peer.send(Connect(version=Version.V5, client_id="c", will=WILL))
    assert peer.take() == [], "CONNACK took the will"
    machine.sync()
    assert len(peer.take()) == 1
    peer.subscribe("a", qos=2)
    peer.publish("b", qos=2, id=3)
    machine.sync()
    if checkpointed:
        machine.checkpoint()
    machine.power_cut(keep=0.0)
    assert machine.broker.sessions == {}
    machine.sync()
    assert machine.values.count(b"gone") == 1
    if checkpointed:
        machine.checkpoint()
    machine.power_cut(keep=0.0)
    machine.sync()
    assert machine.values.count(b"gone") == 1


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("end", ["disconnect", "lose", "taken over", "kept now"])
def test_the_will_of_a_session_without_expiry_is_not_said_again(
    end: str, checkpointed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine()
    peer = machine.connect("c", will=WILL)
    asked: list[bool] = []
    monkeypatch.setattr(machine.committer, "request", lambda: asked.append(True))
    if checkpointed:
        machine.checkpoint()
    if end == "disconnect":
        peer.send(Disconnect())
    elif end == "lose":
        peer.lose()
    else:
        machine.connect("c", properties=KEPT if end == "kept now" else NO_PROPERTIES)
    assert asked, "a quiet site's next commit may be hours away"
    machine.sync()
    said = [] if end == "disconnect" else [b"gone"]
    assert machine.values == said
    machine.power_cut(keep=0.0)
    machine.sync()
    assert machine.values == said
    assert len(machine.broker.sessions) == (end == "kept now")


def test_a_will_delay_goes_on_after_a_power_cut_and_a_client_that_returns_takes_it_back() -> None:
    machine = Machine()
    kept(machine, will=DELAYED).lose()
    machine.sync()
    machine.power_cut(away_s=30)
    machine.wait(29)
    machine.sync()
    assert machine.values == []
    machine.wait(2)
    machine.sync()
    assert machine.values == [b"gone"]
    machine.power_cut()
    machine.wait(100)
    machine.sync()
    assert machine.values == [b"gone"]
    other = Machine()
    kept(other, will=DELAYED).lose()
    other.sync()
    other.power_cut(away_s=30)
    come_back(other)
    other.wait(100)
    other.sync()
    assert other.values == []


def test_a_will_given_up_by_disconnect_is_not_published_after_a_power_cut() -> None:
    machine = Machine()
    kept(machine, will=WILL).send(Disconnect())
    machine.sync()
    machine.power_cut()
    machine.sync()
    assert machine.values == []


# --- QoS 2 in --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_qos_2_publish_repeated_after_a_power_cut_is_stored_once(checkpointed: bool) -> None:
    machine = Machine()
    peer = kept(machine)
    peer.publish("a", b"once", qos=2, id=5)
    machine.sync()
    assert peer.take() == [Acknowledgement(PUBREC, 5)]
    if checkpointed:
        machine.checkpoint()
    machine.power_cut()
    back, _ = come_back(machine)
    back.send(Publish(topic="a", payload=b"once", qos=2, packet_id=5, dup=True))
    machine.sync()
    assert back.take() == [Acknowledgement(PUBREC, 5)]
    assert machine.values == [b"once"]


@pytest.mark.parametrize("checkpointed", [False, True])
def test_pubcomp_waits_for_the_disk_so_that_the_identifier_is_really_free(
    checkpointed: bool,
) -> None:
    machine = Machine()
    peer = kept(machine)
    peer.publish("a", b"1", qos=2, id=5)
    machine.sync()
    peer.take()
    if checkpointed:
        machine.checkpoint()
    peer.send(Acknowledgement(PUBREL, 5))
    assert peer.take() == []
    machine.sync()
    assert peer.take() == [Acknowledgement(PUBCOMP, 5)]
    machine.power_cut()
    back, _ = come_back(machine)
    back.publish("a", b"2", qos=2, id=5)
    machine.sync()
    assert machine.values == [b"1", b"2"]


# --- packets in a checkpoint that is cut short ------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True])
def test_a_checkpoint_cut_short_is_as_good_as_none(after: bool) -> None:
    machine = Machine()
    kept(machine).subscribe("a")
    machine.store.crash = after
    with pytest.raises(SimCrash):
        machine.checkpoint()
    machine.power_cut()
    assert set(session(machine).filters) == {"a"}


def test_a_row_may_say_that_a_session_ended_which_the_notes_after_it_open_again() -> None:
    """They end it, too: nothing is lost, and nothing is said to be."""
    machine = Machine()
    kept(machine)
    machine.checkpoint()
    kept(machine)  # opened again, which is noted
    come_back(machine, clean=True)[0].subscribe("b")  # the first ended, and another began
    machine.store.crash = True  # after the rows, before the end of the round
    with pytest.raises(SimCrash):
        machine.checkpoint()
    machine.power_cut()
    assert machine.restored.losses == []
    assert set(session(machine).filters) == {"b"}


def test_a_checkpoint_that_is_refused_leaves_its_notes_pinned_and_is_tried_again() -> None:
    machine = Machine()
    kept(machine).subscribe("a")
    machine.store.refusing = True
    pinned = machine.log.notes_needed_from
    assert not machine.checkpoint()
    assert machine.log.notes_needed_from == pinned
    machine.store.refusing = False
    assert machine.checkpoint()
    assert machine.log.notes_needed_from == machine.log.durable_commit + 1
    machine.power_cut()
    assert set(session(machine).filters) == {"a"}


def test_notes_that_a_start_had_to_read_count_towards_the_next_checkpoint() -> None:
    """A log that they fill could else not be written, no checkpoint would become due, and nothing would ever be retired."""
    machine = Machine()
    peer = kept(machine)
    for number in range(1, 101):
        peer.send(Publish(topic="t", payload=bytes(8000), qos=1, packet_id=number))
        machine.keep_promises()
    machine.power_cut(keep=1.0)
    assert machine.checkpoints.due
    assert machine.checkpoint()
    assert not machine.checkpoints.due
