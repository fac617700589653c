"""The journal of connections: every coming and going a record, a flood a few, nothing where nothing happens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headwater.core.errors import Unavailable
from headwater.core.units import Duration
from headwater.edge.broker.listening.door import Door
from headwater.edge.broker.listening.settings import ListenerSettings
from headwater.edge.mqtt.packets import Connect, Version
from headwater.edge.visits import CONNECTIONS_PARTITION, Visits, VisitSettings

from .broker.access.test_entry import Guarded
from .broker.harness import Bench, Peer

DOOR = ListenerSettings(address="127.0.0.1:0", name="yard")


def told(bench: Bench) -> list[dict[str, object]]:
    return [
        json.loads(stored.record.value or b"")
        for stored in bench.journal.stored
        if stored.partition == CONNECTIONS_PARTITION
    ]


class Watched:
    """A bench whose connections are written down."""

    def __init__(self, settings: VisitSettings | None = None) -> None:
        self.visits = Visits(settings or VisitSettings())
        self.bench = Bench(observer=self.visits)
        self.visits.attach(self.bench.broker, self.bench.journal)
        self.door = Door(DOOR, self.bench.clock, self.visits.turned_away)

    def peer(self, client_id: str, address: str = "10.0.0.7:5") -> Peer:
        peer = Peer(self.bench, Version.V5, visitor=self.door.enter(address))
        peer.send(Connect(version=Version.V5, client_id=client_id))
        return peer

    def told(self) -> list[dict[str, object]]:
        return told(self.bench)


def test_a_coming_and_a_going_are_two_records_with_who_and_whence() -> None:
    watched = Watched()
    peer = watched.peer("k1")
    peer.lose()
    assert not watched.told(), "gathered, not written yet"
    watched.bench.wait(11)
    came, went = watched.told()
    assert came == {
        "event": "connected",
        "client": "k1",
        "listener": "yard",
        "address": "10.0.0.7:5",
        "protocol": "mqtt 5",
    }
    assert (went["event"], went["client"], went["reason"]) == (
        "disconnected",
        "k1",
        "connection lost",
    )
    assert watched.bench.journal.requests == 1, "one commit for both"
    watched.bench.wait(60)
    assert len(watched.told()) == 2


def test_who_was_refused_stands_there_with_what_it_claimed_and_why(tmp_path: Path) -> None:
    visits = Visits(VisitSettings())
    guarded = Guarded(tmp_path, observer=visits)
    visits.attach(guarded.bench.broker, guarded.bench.journal)
    guarded.knock("mallory", b"guess", client_id="k1")
    guarded.answer()
    guarded.knock(None, None, client_id="k2")
    visits.flush()
    first, second = told(guarded.bench)
    assert (first["event"], first["client"], first["user"]) == ("refused", "k1", "mallory")
    assert first["reason"] == "bad user name or password: wrong user name or password"
    assert (second["event"], second["client"]) == ("refused", "k2")
    assert "not authorized" in str(second["reason"])


def test_who_never_said_connect_is_refused_too() -> None:
    watched = Watched()
    Peer(watched.bench, Version.V5, visitor=watched.door.enter("10.0.0.9:1"))
    watched.bench.wait(30)
    (record,) = watched.told()
    assert (record["event"], record["address"]) == ("refused", "10.0.0.9:1")
    assert "no CONNECT in time" in str(record["reason"])


def test_a_flood_is_written_as_its_first_and_a_count() -> None:
    watched = Watched(VisitSettings(records_max=5))
    door = Door(
        ListenerSettings(address="127.0.0.1:0", name="yard", connections_max=1),
        watched.bench.clock,
        watched.visits.turned_away,
    )
    for number in range(100_000):
        door.enter(f"10.0.0.1:{number}")
    watched.bench.wait(11)
    records = watched.told()
    assert len(records) == 6
    assert records[-1] == {
        "event": "many",
        "listener": "yard",
        "reason": "turned away: too many connections",
        "count": 100_000 - 1 - 5,
    }


def test_kinds_are_bounded_whatever_the_reasons_say() -> None:
    watched = Watched(VisitSettings(records_max=1))
    for number in range(1000):
        watched.visits.turned_away(watched.door, "", f"reason {number}")
    watched.bench.wait(11)
    assert len(watched.told()) == 1 + 64 + 1
    assert sum(int(str(each.get("count", 1))) for each in watched.told()) == 1000


def test_it_can_be_turned_off() -> None:
    watched = Watched(VisitSettings(journal=False))
    watched.peer("k1").lose()
    watched.bench.wait(30)
    assert not watched.bench.journal.stored


def test_a_log_without_room_loses_visits_and_says_how_many() -> None:
    watched = Watched()
    watched.peer("k1").lose()
    watched.bench.journal.refusal = Unavailable("full")
    watched.bench.wait(11)
    assert watched.visits.lost == 2
    watched.bench.journal.refusal = None
    watched.peer("k2")
    watched.bench.wait(11)
    assert [each["client"] for each in watched.told()] == ["k2"]


@pytest.mark.parametrize("seconds", [1, 5])
def test_what_gathers_is_written_after_the_interval(seconds: int) -> None:
    watched = Watched(VisitSettings(interval=Duration(seconds)))
    watched.peer("k1")
    watched.bench.wait(seconds + 1)
    assert len(watched.told()) == 1
