"""Who is let in and what they may do, through the broker: passwords off the loop, rules at every place where they count."""

from __future__ import annotations

import queue
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from headwater.core.clock import ManualClock
from headwater.core.errors import Misconfigured
from headwater.edge.broker.access import guessing
from headwater.edge.broker.access.access import Access
from headwater.edge.broker.access.checking import Checker
from headwater.edge.broker.access.guessing import Guesses, network
from headwater.edge.broker.access.settings import AccessSettings
from headwater.edge.broker.lifetimes import Observer
from headwater.edge.broker.listening.door import Door, Visitor
from headwater.edge.broker.listening.settings import ListenerSettings
from headwater.edge.mqtt.packets import (
    Acknowledgement,
    Connack,
    Connect,
    Pingreq,
    Pingresp,
    Publish,
    Suback,
    Version,
    Will,
)
from headwater.edge.mqtt.properties import Properties

from ..harness import Bench, Peer
from .test_passwords import argon2

LOCAL = ListenerSettings(address="127.0.0.1:0")
STRICT = ListenerSettings(address="0.0.0.0:0", plain_passwords=True)


class Guarded:
    """A bench whose visitors are asked who they are; threads' answers come when `answer` is called."""

    def __init__(
        self,
        folder: Path,
        *,
        rules: str = "",
        listener: ListenerSettings = STRICT,
        waiting_max: int = 10,
        observer: Observer | None = None,
    ) -> None:
        self.bench = Bench(observer=observer)
        self.folder = folder
        self.passwords = folder / "passwd"
        self.passwords.write_text("".join(f"{user}:{argon2(user.encode())}\n" for user in "abc"))
        self.acl = folder / "acl"
        self.acl.write_text(rules)
        self.settings = AccessSettings(
            password_file=str(self.passwords),
            acl_file=str(self.acl) if rules else "",
            verifications_waiting_max=waiting_max,
        )
        self.posted: queue.Queue[Callable[[], None]] = queue.Queue()
        checker = Checker(
            threads=1,
            waiting_max=waiting_max,
            remember_s=60,
            clock=self.bench.clock,
            key=bytes(32),
            post=self.posted.put,
        )
        self.access = Access(self.settings, checker)
        self.bench.broker.guard(self.access)
        self.door = Door(listener, self.bench.clock)

    def answer(self) -> None:
        """One verification is done."""
        self.posted.get(timeout=20)()

    def knock(
        self,
        user: str | None,
        password: bytes | None,
        *,
        client_id: str = "c",
        version: Version = Version.V5,
        clean: bool = True,
        will: Will | None = None,
        expiry_s: int | None = None,
        address: str = "10.0.0.7:5",
    ) -> Peer:
        peer = Peer(self.bench, version, visitor=self.door.enter(address))
        peer.send(
            Connect(
                version=version,
                client_id=client_id,
                clean_start=clean,
                user_name=user,
                password=password,
                will=will,
                properties=Properties(session_expiry_interval=expiry_s),
            )
        )
        return peer

    def enter(
        self, user: str, *, client_id: str = "c", clean: bool = True, expiry_s: int | None = None
    ) -> Peer:
        """With the right password, accepted."""
        peer = self.knock(user, user.encode(), client_id=client_id, clean=clean, expiry_s=expiry_s)
        if not peer.transport.written:
            self.answer()
        self.bench.sync()
        assert reason(peer) == 0
        return peer

    def reload(self, rules: str) -> None:
        self.acl.write_text(rules)
        self.access.reload(self.settings)
        self.bench.broker.guard(self.access)


def reason(peer: Peer) -> int:
    (connack,) = peer.take()
    assert isinstance(connack, Connack)
    return int(connack.reason)


@pytest.mark.parametrize("version", list(Version))
def test_a_wrong_password_and_a_stranger_get_the_same_answer(
    tmp_path: Path, version: Version
) -> None:
    guarded = Guarded(tmp_path)
    for user in ("a", "nobody"):
        peer = guarded.knock(user, b"wrong", version=version)
        assert not peer.transport.written
        guarded.answer()
        assert peer.take_raw()[3] == (0x86 if version is Version.V5 else 4)
        assert peer.transport.closed
    assert guarded.door.open == 0


@pytest.mark.parametrize("version", list(Version))
def test_anonymous_is_refused_where_other_machines_come_in(
    tmp_path: Path, version: Version
) -> None:
    peer = Guarded(tmp_path).knock(None, None, version=version)
    assert peer.take_raw()[3] == (0x87 if version is Version.V5 else 5)
    local = Guarded(tmp_path, listener=LOCAL)
    assert reason(local.knock(None, None)) == 0
    # ... but who gives a name must prove it
    assert reason(local.knock("a", None)) == 0x86


def test_what_comes_while_the_password_is_verified_is_kept_in_order(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    peer = guarded.knock("a", b"a")
    assert not peer.transport.reading
    # what the transport had read already
    peer.transport.reading = True
    peer.send(Publish(topic="t", payload=b"1", qos=1, packet_id=1))
    peer.send(Publish(topic="t", payload=b"2", qos=1, packet_id=2), Pingreq())
    peer.transport.reading = False
    assert not guarded.bench.journal.stored
    guarded.answer()
    assert peer.transport.reading
    assert guarded.bench.journal.values == [b"1", b"2"]
    connack, pong = peer.take()
    assert isinstance(connack, Connack)
    assert isinstance(pong, Pingresp)
    guarded.bench.sync()
    assert [type(each) for each in peer.take()] == [Acknowledgement] * 2


def test_who_is_refused_late_leaves_nothing_of_what_it_sent(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    peer = guarded.knock("a", b"wrong")
    peer.transport.reading = True
    peer.send(Publish(topic="t", payload=b"1", qos=1, packet_id=1))
    peer.transport.reading = False
    guarded.answer()
    assert peer.transport.closed
    assert not guarded.bench.journal.stored


def test_who_does_not_wait_for_its_answer_is_forgotten(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    peer = guarded.knock("a", b"a")
    peer.lose()
    guarded.answer()
    assert not guarded.bench.broker.sessions
    assert not guarded.bench.broker.clients
    assert guarded.door.open == 0


def test_a_connect_that_waits_for_its_password_does_not_time_out(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    peer = guarded.knock("a", b"a")
    guarded.bench.wait(30)
    assert not peer.transport.closed
    guarded.answer()
    assert reason(peer) == 0


def test_beyond_the_bound_of_verifications_a_client_is_told_to_come_back(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, waiting_max=2)
    waiting = [
        guarded.knock("a", guess, client_id=str(guess), address=address)
        for guess, address in ((b"1", "10.0.0.1:1"), (b"2", "10.0.0.2:1"))
    ]
    assert reason(guarded.knock("a", b"3", address="10.0.0.3:1")) == 0x89
    guarded.answer()
    guarded.answer()
    assert [reason(peer) for peer in waiting] == [0x86, 0x86]
    # more of them from now on, as after SIGHUP
    guarded.access.reload(msgspec.structs.replace(guarded.settings, verifications_waiting_max=3))
    for number in range(3):
        peer = guarded.knock("a", b"%d" % (7 + number), address=f"10.0.0.{number}:1")
        assert not peer.transport.written


RULES = """
user a
topic write up/#
topic read down/#
topic readwrite both/#
user b
topic readwrite #
topic deny both/secret
"""


def test_a_publish_that_is_not_allowed_is_refused_and_not_stored(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, rules=RULES)
    peer = guarded.enter("a")
    for number, topic in enumerate(("up/1", "down/1", "up/2"), 1):
        peer.publish(topic, id=number)
    guarded.bench.sync()
    found = {
        each.packet_id: int(each.reason)
        for each in peer.take()
        if isinstance(each, Acknowledgement)
    }
    assert found == {1: 0, 2: 0x87, 3: 0}
    assert len(guarded.bench.journal.stored) == 2
    assert guarded.bench.broker.tally.refused["not_authorized"] == 1


def test_a_3_1_1_client_is_closed_for_it(tmp_path: Path) -> None:
    """[MQTT-3.3.5-2]: a positive acknowledgement would say that it is on disk."""
    guarded = Guarded(tmp_path, rules=RULES)
    peer = guarded.knock("a", b"a", version=Version.V311)
    guarded.answer()
    assert reason(peer) == 0
    peer.publish("down/1", qos=0)
    assert not peer.transport.closed
    peer.publish("down/1")
    assert peer.transport.closed
    assert not guarded.bench.journal.stored


def test_subscriptions_are_refused_where_nothing_can_be_read_and_filtered_where_broader(
    tmp_path: Path,
) -> None:
    guarded = Guarded(tmp_path, rules=RULES)
    a, b = guarded.enter("a", client_id="a"), guarded.enter("b", client_id="b")
    (suback,) = a.subscribe("up/#", "#", "both/+")
    assert isinstance(suback, Suback)
    assert [int(each) for each in suback.reasons] == [0x87, 2, 2]
    b.subscribe("#")
    for number, topic in enumerate(("up/1", "down/1", "both/1", "other"), 1):
        b.publish(topic, id=number)
    b.publish("both/secret", id=9)
    guarded.bench.sync()
    assert [each.topic for each in a.take() if isinstance(each, Publish)] == ["down/1", "both/1"]
    assert len([each for each in b.take() if isinstance(each, Publish)]) == 4


def test_what_is_retained_is_given_only_to_who_may_read_it(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, rules=RULES)
    b = guarded.enter("b", client_id="b")
    for number, topic in enumerate(("up/1", "down/1"), 1):
        b.send(Publish(topic=topic, payload=b"x", qos=1, packet_id=number, retain=True))
    guarded.bench.sync()
    a = guarded.enter("a", client_id="a")
    got = a.subscribe("#")
    assert [each.topic for each in got if isinstance(each, Publish)] == ["down/1"]


def test_a_will_needs_the_right_to_publish_it(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, rules=RULES)
    refused = guarded.knock("a", b"a", will=Will(topic="down/gone", payload=b""))
    guarded.answer()
    assert reason(refused) == 0x87
    peer = guarded.knock("a", b"a", will=Will(topic="up/gone", payload=b"w"))
    guarded.bench.sync()
    assert reason(peer) == 0
    guarded.reload("user a\ntopic read #\n")
    peer.lose()
    assert not guarded.bench.journal.stored, "the rules changed before it was due"


def test_new_rules_hold_at_once_for_publishes_and_subscriptions(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, rules=RULES)
    a, b = guarded.enter("a", client_id="a"), guarded.enter("b", client_id="b")
    a.subscribe("#")
    a.publish("up/1", id=1)
    b.publish("down/1", id=1)
    guarded.bench.sync()
    assert len(a.take()) == 2
    guarded.reload("user a\ntopic write other\nuser b\ntopic readwrite #\n")
    a.publish("up/1", id=2)
    b.publish("down/1", id=2)
    guarded.bench.sync()
    (ack,) = a.take()
    assert isinstance(ack, Acknowledgement)
    assert int(ack.reason) == 0x87
    a.publish("up/1", id=3)
    guarded.bench.sync()
    assert b"'up/1': not permitted" in a.take_raw()
    guarded.reload(RULES)
    b.publish("down/1", id=3)
    guarded.bench.sync()
    assert [each.topic for each in a.take() if isinstance(each, Publish)] == ["down/1"]


def test_a_wrong_file_changes_nothing(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, rules=RULES)
    passwords, rules = guarded.access.passwords, guarded.access.rules
    guarded.passwords.write_text("d:" + argon2(b"d"))
    with pytest.raises(Misconfigured, match="acl:1"):
        guarded.reload("nonsense")
    assert (guarded.access.passwords, guarded.access.rules) == (passwords, rules)


def test_nobody_inherits_the_session_of_another_user(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    a = guarded.enter("a", clean=False, expiry_s=600)
    a.subscribe("private/#")
    a.lose()
    b = guarded.knock("b", b"b", clean=False, expiry_s=600)
    guarded.answer()
    guarded.bench.sync()
    (connack,) = b.take()
    assert isinstance(connack, Connack)
    assert not connack.session_present
    assert not guarded.bench.broker.sessions["c"].filters


def test_the_user_is_the_client_identifier_where_the_listener_says_so(tmp_path: Path) -> None:
    listener = msgspec.structs.replace(STRICT, user_as_client_id=True)
    guarded = Guarded(tmp_path, listener=listener)
    first = guarded.enter("a", client_id="mine")
    second = guarded.enter("b", client_id="mine")
    assert set(guarded.bench.broker.sessions) == {"a", "b"}
    assert not first.transport.closed
    assert not second.transport.closed


def test_many_topics_are_allowed_and_refused_alike_when_they_were_forgotten(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, rules=RULES)
    peer = guarded.enter("a")
    for turn in range(2):
        for number in range(1000):
            peer.send(Publish(topic=f"up/{number}", payload=b"", qos=0))
            peer.send(Publish(topic=f"down/{number}", payload=b"", qos=0))
        assert len(guarded.bench.journal.stored) == (turn + 1) * 1000


def test_an_anonymous_visitor_has_no_user() -> None:
    assert Visitor(Door(LOCAL, Bench().clock), "").user is None


def test_what_waited_for_a_client_is_judged_by_the_rules_of_its_return(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, rules=RULES)
    a = guarded.enter("a", client_id="a", clean=False, expiry_s=600)
    b = guarded.enter("b", client_id="b")
    a.subscribe("#")
    b.publish("down/1", id=1)
    guarded.bench.sync()
    assert len([each for each in a.take() if isinstance(each, Publish)]) == 1
    a.lose()
    for number, topic in enumerate(("down/2", "both/2"), 2):
        b.publish(topic, id=number)
    guarded.bench.sync()
    guarded.reload("user a\ntopic read both/#\nuser b\ntopic readwrite #\n")
    a = guarded.knock("a", b"a", client_id="a", clean=False, expiry_s=600)
    guarded.bench.sync()
    guarded.bench.wait(1)
    topics = [each.topic for each in a.take() if isinstance(each, Publish)]
    assert "both/2" in topics
    assert "down/2" not in topics


def test_one_address_that_guesses_leaves_room_for_others(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    guarded.access.reload(msgspec.structs.replace(guarded.settings, verifications_waiting_max=8))
    for guess in (b"1", b"2"):
        guarded.knock("a", guess, client_id=str(guess))
    assert reason(guarded.knock("a", b"3", client_id="3")) == 0x89
    other = guarded.knock("a", b"a", client_id="4", address="10.0.0.8:1")
    for _ in range(3):
        guarded.answer()
    assert reason(other) == 0
    # what was answered counts no more
    assert not guarded.knock("a", b"5", client_id="5").transport.written


def test_who_guesses_is_slowed_and_who_was_right_before_is_not(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    guarded.access.reload(msgspec.structs.replace(guarded.settings, guesses_per_minute=2))
    guarded.enter("a", client_id="was here")
    for guess in (b"1", b"2", b"3"):
        wrong = guarded.knock("b", guess, client_id=str(guess))
        guarded.answer()
        assert reason(wrong) == 0x86
    assert reason(guarded.knock("b", b"4", client_id="4")) == 0x89
    assert reason(guarded.knock("b", b"b", client_id="5")) == 0x89, "though it would be right"
    assert reason(guarded.knock("b", b"1", client_id="6")) == 0x86, "remembered, and no guess"
    guarded.enter("a", client_id="again")
    other = guarded.knock("b", b"b", client_id="7", address="10.0.0.8:1")
    guarded.answer()
    guarded.bench.sync()
    assert reason(other) == 0
    guarded.bench.wait(31)
    guarded.knock("c", b"c", client_id="8")
    guarded.answer()  # it is verified again


@pytest.mark.parametrize(
    ("host", "counted_as"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("[2001:db8:1:2:3::4]", "2001:db8:1:2::/64"),
        ("[fe80::1%eth0]", "fe80::/64"),
        ("[::ffff:10.0.0.7]", "10.0.0.7"),
        ("127.0.0.9", ""),
        ("[::1]", ""),
        ("", ""),
    ],
)
def test_guesses_are_counted_by_what_one_subscriber_has(host: str, counted_as: str) -> None:
    assert network(host) == counted_as


def test_as_many_networks_are_remembered_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guessing, "NETWORKS_MAX", 2)
    guesses = Guesses(ManualClock())
    guesses.change(1)
    for host in ("10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.3", "10.0.0.3", "10.0.0.2"):
        guesses.count(host)
    assert not guesses.are_too_many("10.0.0.1"), "forgotten: it was last wrong longest ago"
    assert guesses.are_too_many("10.0.0.3")
    guesses.change(0)
    assert not guesses.are_too_many("10.0.0.3")
