"""QoS 1 publishes that come again with DUP: stored once where their PUBACK was lost, stored where it had arrived.

The wire is `unacknowledged`: what TCP has not acknowledged of the bytes written, set by hand.
"""

from __future__ import annotations

import pytest

from headwater.edge.broker.doubts import LATEST
from headwater.edge.broker.peer import Peer as BrokerPeer
from headwater.edge.mqtt.packets import Acknowledgement, PacketType, Publish, Version
from headwater.edge.mqtt.properties import Properties
from headwater.edge.streams import Durability, StreamSettings

from .harness import Peer
from .machine import Machine

KEPT = Properties(session_expiry_interval=1000)
PUBACK = PacketType.PUBACK


class Wire:
    """Nothing arrives until `deliver`."""

    def __init__(self, peer: Peer) -> None:
        self._client = peer.client
        self.arrived = 0
        peer.client.unacknowledged = self.unacknowledged

    @property
    def written(self) -> int:
        written = BrokerPeer.spoken(self._client)  # whatever is still held
        assert written is not None
        return written

    def unacknowledged(self) -> int:
        return self.written - self.arrived

    def deliver(self) -> None:
        self.arrived = self.written


def connect(machine: Machine, *, version: Version = Version.V5) -> tuple[Peer, Wire]:
    properties = KEPT if version is Version.V5 else Properties()
    peer = machine.connect("c", clean=False, version=version, properties=properties)
    wire = Wire(peer)
    wire.deliver()
    return peer, wire


def again(
    packet_id: int = 1, payload: bytes = b"21.5", topic: str = "t", **more: object
) -> Publish:
    return Publish(topic=topic, payload=payload, qos=1, packet_id=packet_id, dup=True, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", list(Version))
@pytest.mark.parametrize("loss", ["connection", "kill", "power", "checkpoint and power"])
def test_a_publish_repeated_after_its_puback_was_lost_is_stored_once(
    version: Version, loss: str
) -> None:
    machine = Machine()
    peer, _ = connect(machine, version=version)
    peer.publish("t", b"21.5")
    machine.sync()
    assert peer.take() == [Acknowledgement(PUBACK, 1)]  # written, and lost
    if "checkpoint" in loss:
        machine.checkpoint()
    if loss == "connection":
        peer.lose()
    elif loss == "kill":
        machine.kill()
    else:
        machine.power_cut()
    back, _ = connect(machine, version=version)
    back.send(again())
    machine.sync()
    assert back.take() == [Acknowledgement(PUBACK, 1)]
    assert machine.values == [b"21.5"]
    assert machine.broker.tally.repeated == 1


@pytest.mark.parametrize("loss", ["connection", "power"])
def test_it_may_be_repeated_as_often_as_its_puback_is_lost(loss: str) -> None:
    machine = Machine()
    peer, _ = connect(machine)
    peer.publish("t", b"21.5")
    machine.sync()
    for _ in range(4):
        if loss == "connection":
            peer.lose()
        else:
            machine.power_cut()
        peer, _ = connect(machine)
        peer.send(again())
        machine.sync()
        assert peer.take() == [Acknowledgement(PUBACK, 1)]
    assert machine.values == [b"21.5"]


@pytest.mark.parametrize("bad", [b"a/#", b"a/\xff"])
def test_what_came_in_one_piece_with_a_fatal_publish_is_stored_once(bad: bytes) -> None:
    """The first is in the log, unanswered, when the second ends the connection."""
    machine = Machine()
    peer, _ = connect(machine)
    good = b"\x32\x0a\x00\x01t\x00\x01\x0021.5"
    wrong = (
        b"\x32" + bytes((7 + len(bad),)) + b"\x00" + bytes((len(bad),)) + bad + b"\x00\x02\x0021"
    )
    peer.client.data_received(good + wrong)
    machine.sync()
    assert not peer.client.is_open
    back, _ = connect(machine)
    back.send(again())
    machine.sync()
    assert machine.values == [b"21.5"]


def test_a_publish_that_never_reached_the_disk_is_stored_when_it_comes_again() -> None:
    machine = Machine()
    peer, _ = connect(machine)
    peer.publish("t", b"21.5")
    machine.power_cut(keep=0.0)
    back, _ = connect(machine)
    back.send(again())
    machine.sync()
    assert machine.values == [b"21.5"]


def test_repeated_while_the_disk_still_has_it_it_is_acknowledged_when_it_is_durable() -> None:
    machine = Machine()
    peer, _ = connect(machine)
    commit_before = machine.log.open_commit
    peer.publish("t", b"21.5")
    peer.lose()
    assert machine.log.open_commit == commit_before
    back, _ = connect(machine)  # its CONNACK waited for the same commit
    back.send(again())
    machine.sync()
    assert back.take() == [Acknowledgement(PUBACK, 1)]
    assert machine.values == [b"21.5"]


# --- the trap: the identifier was free again --------------------------------------------------------------------


def stutter(machine: Machine, peer: Peer, wire: Wire, *ids: int, payload: bytes = b"21.5") -> None:
    """A first reading; its equal under the same identifier is then what a constant sensor sends."""
    for number in ids or (1,):
        peer.publish("t", payload, id=number)
    machine.sync()
    wire.deliver()


@pytest.mark.parametrize("loss", ["connection", "power"])
def test_a_new_reading_under_the_same_identifier_is_not_swallowed(loss: str) -> None:
    """The PUBACK of the first arrived; the second, with the same bytes, was lost on the way and comes with DUP."""
    machine = Machine()
    peer, wire = connect(machine)
    stutter(machine, peer, wire)
    peer.publish("t", b"21.5")
    machine.sync()
    wire.deliver()
    machine.wait(3)  # the evidence is noted by itself
    machine.sync()
    if loss == "connection":
        peer.lose()
    else:
        machine.power_cut()
    back, _ = connect(machine)
    back.send(again())
    machine.sync()
    assert machine.values == [b"21.5"] * 3


def test_what_follows_a_repetition_is_settled_when_its_own_puback_arrived() -> None:
    machine = Machine()
    peer, _ = connect(machine)
    peer.publish("t", b"21.5")
    machine.sync()
    machine.power_cut()
    back, wire = connect(machine)
    back.send(again())
    machine.sync()
    back.publish("t", b"21.5")
    machine.sync()
    wire.deliver()
    machine.wait(3)
    machine.sync()
    machine.power_cut()
    third, _ = connect(machine)
    third.send(again())  # a new reading, lost on the way before
    machine.sync()
    assert machine.values == [b"21.5"] * 3


@pytest.mark.parametrize("loss", ["connection", "power"])
@pytest.mark.parametrize("count", [1, 150, 900])
def test_what_tcp_had_and_the_client_never_read_is_stored_once(loss: str, count: int) -> None:
    """A proxy swallowed the PUBACKs, or the client went without reading them: TCP's word is not the client's."""
    machine = Machine()
    peer, wire = connect(machine)
    for number in range(1, count + 1):
        peer.publish("t", b"reading %d" % number, id=number)
        if number % 50 == 0 or number == count:
            machine.sync()
            wire.deliver()
    machine.wait(5)
    machine.sync()
    if loss == "connection":
        peer.lose()
    else:
        machine.power_cut()
    back, _ = connect(machine)
    back.send(*(again(number, b"reading %d" % number) for number in range(1, count + 1)))
    machine.sync()
    assert len(machine.values) == count
    assert len(back.take()) == count


def test_evidence_counts_at_the_end_of_the_connection_without_waiting() -> None:
    machine = Machine()
    peer, wire = connect(machine)
    stutter(machine, peer, wire)
    peer.publish("t", b"21.5")
    machine.sync()
    wire.deliver()
    peer.lose()
    back, _ = connect(machine)
    back.send(again())
    machine.sync()
    assert machine.values == [b"21.5"] * 3


def test_evidence_rides_with_the_next_commit_whoever_makes_it() -> None:
    machine = Machine()
    peer, wire = connect(machine)
    other = machine.connect("other")
    stutter(machine, peer, wire)
    peer.publish("t", b"21.5")
    machine.sync()
    wire.deliver()
    machine.wait(0.5)  # a tick
    other.publish("u", b"x")
    machine.sync()
    machine.power_cut()
    back, _ = connect(machine)
    back.send(again())
    machine.sync()
    assert machine.values.count(b"21.5") == 3


def test_of_several_only_those_whose_puback_arrived_are_new() -> None:
    machine = Machine()
    peer, wire = connect(machine)
    stutter(machine, peer, wire, 1, 2, payload=b"same")
    for number in (1, 2):
        peer.publish("t", b"same", id=number)
        machine.sync()
        if number == 1:
            wire.deliver()
    peer.lose()
    back, _ = connect(machine)
    back.send(again(1, b"same"), again(2, b"same"))
    machine.sync()
    assert len(machine.values) == 5  # the first was new, the second was not
    assert back.take() == [Acknowledgement(PUBACK, 1), Acknowledgement(PUBACK, 2)]


def test_an_identifier_used_again_without_dup_proves_that_its_puback_arrived() -> None:
    machine = Machine()
    peer, _ = connect(machine)
    peer.publish("t", b"21.5")
    machine.sync()
    peer.publish("t", b"22.0")
    machine.sync()
    machine.power_cut()
    back, _ = connect(machine)
    back.send(again(1, b"21.5"))
    machine.sync()
    assert machine.values == [b"21.5", b"22.0", b"21.5"]


def test_what_a_resumed_connection_did_not_repeat_is_no_longer_in_doubt() -> None:
    machine = Machine()
    peer, wire = connect(machine)
    stutter(machine, peer, wire)
    peer.publish("t", b"21.5")
    machine.sync()
    peer.lose()
    middle, wire = connect(machine)
    middle.publish("t", b"other", id=99)  # it goes on: it did have the PUBACK
    machine.sync()
    wire.deliver()
    middle.lose()
    back, _ = connect(machine)
    back.send(again())
    machine.sync()
    assert machine.values == [b"21.5", b"21.5", b"other", b"21.5"]


# --- what is no repetition ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        again(2),
        again(1, b"21.6"),
        again(1, topic="u"),
        again(1, retain=True),
        again(1, properties=Properties(content_type="x")),
    ],
    ids=["identifier", "payload", "topic", "retain", "properties"],
)
def test_only_the_same_content_under_the_same_identifier_is_a_repetition(other: Publish) -> None:
    machine = Machine()
    peer, _ = connect(machine)
    peer.publish("t", b"21.5")
    machine.sync()
    machine.power_cut()
    back, _ = connect(machine)
    back.send(other)
    machine.sync()
    assert len(machine.values) == 2


def test_without_dup_and_without_a_resumed_session_everything_is_new() -> None:
    machine = Machine()
    peer, _ = connect(machine)
    peer.publish("t", b"21.5")
    peer.send(again())  # the same connection
    machine.sync()
    peer.lose()
    back, _ = connect(machine)
    back.publish("t", b"21.5")
    machine.sync()
    back.lose()
    clean = machine.connect("c", clean=True)
    clean.send(again())
    machine.sync()
    assert len(machine.values) == 4


def test_of_a_burst_that_was_surely_read_only_the_latest_are_kept() -> None:
    machine = Machine()
    peer, wire = connect(machine)
    for number in range(900):
        peer.publish("t", b"%d" % number, id=number + 1)
        if number % 50 == 49:
            machine.sync()
            wire.deliver()
    doubts = machine.broker.sessions["c"].doubts
    assert doubts is not None
    machine.wait(10)
    assert sum(len(packed) for _, packed in doubts.state()) == 9000
    machine.wait(15)
    assert sum(len(packed) for _, packed in doubts.state()) <= (LATEST + 50) * 10


def test_doubts_are_bounded_by_the_receive_maximum() -> None:
    machine = Machine()
    peer, _ = connect(machine)
    maximum = machine.broker.settings.receive_maximum
    for number in range(3 * maximum):
        peer.publish("t", b"%d" % number, id=number % 60_000 + 1)
        if number % 100 == 99:
            machine.sync()
    doubts = machine.broker.sessions["c"].doubts
    assert doubts is not None
    assert sum(len(packed) for _, packed in doubts.state()) <= (maximum + 100) * 10
    machine.power_cut()
    back, _ = connect(machine)
    back.send(again(3 * maximum, b"%d" % (3 * maximum - 1)))
    machine.sync()
    assert len(machine.values) == 3 * maximum


@pytest.mark.parametrize("loss", ["connection", "power"])
def test_the_bound_forgets_no_commit_of_which_something_may_be_unacknowledged(loss: str) -> None:
    """Of 1,100 the first hundred were read: the other thousand are in flight, and most of them in the older commit."""
    machine = Machine()
    peer, wire = connect(machine)
    for number in range(1, 1101):
        peer.publish("t", b"%d" % number, id=number)
        if number in {600, 1100}:
            machine.sync()
            wire.deliver()
    if loss == "connection":
        peer.lose()
    else:
        machine.power_cut()
    back, _ = connect(machine)
    back.send(*(again(number, b"%d" % number) for number in range(101, 1101)))
    machine.sync()
    assert len(machine.values) == 1100


def test_what_many_published_in_one_commit_is_noted_where_a_record_may_not_be_so_large() -> None:
    """Thirty kilobytes of doubts, and no note above 24 KiB: else the seal would fail, and with it every client's commit."""
    machine = Machine()
    peers = [machine.connect(each, clean=False, version=Version.V311) for each in ("c", "d", "e")]
    for peer in peers:
        for number in range(1, 1001):
            peer.publish(peer.client.client_id, b"%d" % number, id=number)
    machine.sync()
    machine.power_cut()
    for peer in peers:
        name = peer.client.client_id
        back = machine.connect(name, clean=False, version=Version.V311)
        back.send(*(again(number, b"%d" % number, name) for number in range(1, 1001)))
        machine.sync()
    assert len(machine.values) == 3000


def test_of_one_session_the_newest_are_noted_where_no_note_can_hold_all() -> None:
    machine = Machine()
    peer, _ = connect(machine, version=Version.V311)
    first = [Publish(topic="t", payload=b"%d" % n, qos=1, packet_id=n) for n in range(1, 4001)]
    peer.send(*first)
    machine.sync()
    machine.power_cut()
    back, _ = connect(machine, version=Version.V311)
    back.send(*(again(number, b"%d" % number) for number in range(3001, 4001)))
    machine.sync()
    assert len(machine.values) == 4000


# --- streams that do not wait for the disk -----------------------------------------------------------------------


def early_machine() -> Machine:
    return Machine(
        streams=(
            StreamSettings(name="m", filters=("m",), durability=Durability.MEMORY),
            StreamSettings(name="i", filters=("i",), durability=Durability.INTERVAL),
        )
    )


@pytest.mark.parametrize("topic", ["m", "i"])
def test_within_one_process_an_early_publish_is_stored_once(topic: str) -> None:
    machine = early_machine()
    peer, _ = connect(machine)
    peer.publish(topic, b"0", id=9)
    machine.sync()  # what comes next is acknowledged at once
    peer.publish(topic, b"1")
    peer.lose()
    back, _ = connect(machine)
    back.send(again(1, b"1", topic))
    machine.log.spill()
    machine.sync()
    assert machine.values == [b"0", b"1"]


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("alone", [False, True])
def test_what_the_power_took_of_memory_is_stored_when_it_comes_again(
    alone: bool, checkpointed: bool
) -> None:
    """Its commit's note was on disk, the record was not: recognised by that, it would be acknowledged and nowhere."""
    machine = early_machine()
    peer, _ = connect(machine)
    peer.publish("m", b"0", id=9)
    machine.sync()
    if alone:
        peer.publish("m", b"1")
    else:
        peer.send(
            Publish(topic="m", payload=b"1", qos=1, packet_id=1),
            Publish(topic="t", payload=b"2", qos=1, packet_id=2),
        )
    machine.broker.book.all_dirty(())
    machine.log.note(99, b"")  # somebody's commit
    machine.sync()
    if checkpointed:
        machine.checkpoint()
    machine.power_cut()
    back, _ = connect(machine)
    back.send(again(1, b"1", "m"), again(2, b"2"))
    machine.log.spill()
    machine.sync()
    assert sorted(value for value in machine.values if value) == [b"0", b"1", b"2"]
