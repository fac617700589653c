"""Whose PUBACK arrived, of clients that say the same again and again: what the lives in once/stutter.py found, by name."""

from __future__ import annotations

import pytest

from headwater.edge.mqtt.packets import Acknowledgement, PacketType

from .harness import Peer
from .machine import Machine
from .test_repetitions import Wire, again, connect, stutter

READING = b"21.5"


def say(machine: Machine, peer: Peer, wire: Wire, *ids: int) -> None:
    for number in ids:
        peer.publish("t", READING, id=number)
        machine.sync()
        wire.deliver()


def test_a_repetition_that_was_answered_stands_for_all_before_it_under_its_identifier() -> None:
    """Else an older commit's entry takes its place, and the next reading, lost on the way, is taken for that one."""
    machine = Machine()
    peer, wire = connect(machine)
    for _ in range(3):
        peer.publish("t", READING)
        machine.sync()
    peer.publish("t", READING, id=2)
    peer.publish("t", READING, id=2)
    machine.sync()
    peer.lose()
    back, wire = connect(machine)
    back.send(again(1, READING))
    wire.deliver()  # of identifier 1, not of 2
    back.lose()
    third, _ = connect(machine)
    third.send(again(1, READING))  # a new reading, lost on the way before
    machine.sync()
    assert len(machine.values) == 6


@pytest.mark.parametrize("is_last_committed", [False, True])
def test_what_the_last_publish_shows_of_its_session_counts_at_the_end_of_the_connection(
    is_last_committed: bool,
) -> None:
    """The session stutters by a publish that no commit has yet; so TCP's word for those before it counts."""
    machine = Machine()
    peer, wire = connect(machine)
    say(machine, peer, wire, 1, 2)
    peer.publish("t", READING)
    if is_last_committed:
        machine.sync()
    peer.lose()
    back, _ = connect(machine)
    back.send(again(2, READING))  # new: the PUBACK of the other arrived
    machine.sync()
    assert len(machine.values) == 4


def test_a_repetition_whose_puback_waited_for_a_commit_is_settled_when_that_arrived() -> None:
    machine = Machine()
    peer, wire = connect(machine)
    stutter(machine, peer, wire)
    peer.publish("t", READING)
    machine.sync()
    peer.lose()
    back, wire = connect(machine)
    other = again(40, b"other")  # new, and so what is acknowledged behind it waits for its commit
    back.send(other, again(1, READING))
    assert back.take() == []
    machine.sync()
    assert back.take() == [
        Acknowledgement(PacketType.PUBACK, 40),
        Acknowledgement(PacketType.PUBACK, 1),
    ]
    wire.deliver()
    back.lose()
    third, _ = connect(machine)
    third.send(again(1, READING))  # a new reading, lost on the way before
    machine.sync()
    assert machine.values.count(READING) == 3


def test_what_arrived_behind_older_ones_that_are_in_doubt_is_known_by_itself() -> None:
    """They keep it in its place, and it would be carried as if nothing were known of it."""
    machine = Machine()
    peer, wire = connect(machine)
    stutter(machine, peer, wire, 1, 2, 3)
    peer.publish("t", READING, id=1)
    peer.publish("t", READING, id=2)
    machine.sync()
    peer.lose()
    before = machine.values.count(READING)
    back, wire = connect(machine)
    back.send(again(3, READING))  # lost on its first way: new
    machine.sync()
    wire.deliver()
    back.lose()
    third, _ = connect(machine)
    third.send(again(3, READING))  # a new reading, lost on the way before
    third.send(again(1, READING), again(2, READING))
    machine.sync()
    assert machine.values.count(READING) == before + 2
