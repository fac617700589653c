"""Sections 3.1, 3.2, 3.14, 4.1: who may connect, what CONNACK says, sessions, keep-alive, DISCONNECT."""

from __future__ import annotations

import pytest

from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt.packets import Version
from headwater.edge.mqtt.reasons import Reason

from ..harness import Bench, split_frames
from .wire import (
    BOTH,
    PINGREQ,
    PINGRESP,
    PROTOCOL,
    V4,
    V5,
    Wire,
    ack,
    both,
    connect,
    covers,
    expect_refused,
    kept,
    number,
    opened,
    packet,
    props,
    publish,
    subscribe,
    text,
)


def connack(data: bytes) -> tuple[int, int]:
    """(flags, reason or return code) of the one CONNACK."""
    (frame,) = split_frames(data)
    assert frame[0] == 0x20
    return frame[1][0], frame[1][1]


def refused(version: Version, data: bytes, code_4: int | None, code_5: int | None) -> None:
    """Closed; with a CONNACK of this code where there is one."""
    bench = Bench()
    wire = Wire(bench, version)
    answer = wire.say(data)
    assert wire.closed
    code = code_5 if version is V5 else code_4
    if code is None:
        assert answer == b""
    else:
        assert connack(answer) == (0, code)
    assert bench.broker.sessions == {}


@both
@pytest.mark.parametrize(
    "first",
    [
        publish,
        lambda v: subscribe(v, (b"a", 0)),
        lambda v: PINGREQ,
        lambda v: b"\xe0\x00",
        lambda v: b"\xf0\x00",
        lambda v: ack(0x40, 1),
        lambda v: b"\x20\x02\0\0",
    ],
)
@covers(v4="3.1.0-1 3.2.0-1", v5="3.1.0-1 3.2.0-1 3.14.0-1")
def test_nothing_is_heard_or_said_before_connect(version: Version, first: object) -> None:
    wire = Wire(Bench(), version)
    assert wire.say(first(version), connect(version)) == b""  # type: ignore[operator]
    assert wire.closed


@both
@covers(v4="3.1.0-2", v5="3.1.0-2 3.2.0-2")
def test_a_second_connect_closes(version: Version) -> None:
    expect_refused(opened(Bench(), version), connect(version), PROTOCOL)


@both
@pytest.mark.parametrize("name", [b"MQTU", b"mqtt", b"MQIsdp", b""])
@covers(v4="3.1.2-1 3.2.2-4 3.2.2-5", v5="3.1.2-1 3.2.2-6 3.2.2-7 4.13.2-1")
def test_another_protocol_name_is_refused(version: Version, name: bytes) -> None:
    data = packet(0x10, text(name), bytes((version, 2)), number(0), props(version), text(b"c"))
    wire = Wire(Bench(), version)
    answer = wire.say(data)
    assert wire.closed
    # what another protocol is told is not laid down: at most a CONNACK that refuses
    assert answer in {b"", b"\x20\x02\x00\x01"}


@pytest.mark.parametrize("level", [0, 3, 6, 255])
@covers(v4="3.1.2-2", v5="3.1.2-2")
def test_another_protocol_level_is_refused_with_a_reason(level: int) -> None:
    data = packet(0x10, text(b"MQTT"), bytes((level, 2)), number(0), text(b"c"))
    wire = Wire(Bench(), V5)
    answer = wire.say(data)
    assert wire.closed
    assert connack(answer) == ((0, 0x84) if level > 5 else (0, 0x01))


def test_a_client_of_mqtt_3_1_is_served_and_told_why_it_is_not() -> None:
    """Paho's Java and Go clients fall back to it whenever 3.1.1 was refused, and report what they are told then."""

    def mqisdp(client_id: bytes, flags: int) -> bytes:
        return packet(0x10, text(b"MQIsdp"), bytes((3, flags)), number(0), text(client_id))

    bench = Bench()
    wire = Wire(bench, V4)
    assert connack(wire.say(mqisdp(b"c", 0x02))) == (0, 0)
    assert wire.say(publish(V4, flags=2, id=7)) == ack(0x40, 7)
    refused = Wire(bench, V4)
    assert connack(refused.say(mqisdp(b"", 0x00))) == (0, 0x02)
    assert refused.closed


WITH_WILL = text(b"w") + text(b"x")
# (why, connect flags, what follows the client identifier, statements of 3.1.1, of 5.0)
BROKEN = [
    ("reserved flag", 0x03, b"", "3.1.2-3 3.1.4-1", "3.1.2-3 3.1.4-1"),
    ("will qos 1 without will", 0x0A, b"", "3.1.2-11 3.1.2-13", "3.1.2-11"),
    ("will qos 2 without will", 0x12, b"", "3.1.2-11 3.1.2-13", "3.1.2-11"),
    ("will retain without will", 0x22, b"", "3.1.2-11 3.1.2-15", "3.1.2-13"),
    ("will qos 3", 0x1E, WITH_WILL, "3.1.2-14", "3.1.2-12"),
    ("will without fields", 0x06, b"", "3.1.2-9", "3.1.2-9"),
    ("will without payload", 0x06, text(b"w"), "3.1.2-9", "3.1.2-9"),
    ("fields of a will that is not", 0x02, WITH_WILL, "3.1.2-11", ""),
    ("will topic with #", 0x06, text(b"a/#") + text(b"x"), "4.7.1-1", "4.7.0-1"),
    ("empty will topic", 0x06, text(b"") + text(b"x"), "4.7.3-1", "4.7.3-1"),
    ("user name missing", 0x82, b"", "3.1.2-19", "3.1.2-17"),
    ("user name not announced", 0x02, text(b"u"), "3.1.2-18", "3.1.2-16"),
    ("password missing", 0xC2, text(b"u"), "3.1.2-21", "3.1.2-19"),
    ("password not announced", 0x82, text(b"u") + text(b"p"), "3.1.2-20", "3.1.2-18"),
    ("payload too long", 0x02, b"\0", "3.1.4-1 3.2.2-6", "3.1.4-1 3.1.4-2 4.13.1-1"),
]


@pytest.mark.parametrize(
    ("version", "flags", "rest"),
    [
        pytest.param(
            version,
            flags,
            (props(version) if flags & 4 else b"") + rest,
            id=f"{why} {'5' if version is V5 else '3.1.1'}",
            marks=covers(v4=v4 if version is V4 else "", v5=v5 if version is V5 else ""),
        )
        for why, flags, rest, v4, v5 in BROKEN
        for version in BOTH
    ],
)
def test_a_connect_that_is_not_as_it_must_be_is_closed(
    version: Version, flags: int, rest: bytes
) -> None:
    # what can be parsed and is not allowed is a protocol error
    reason = 0x82 if b"#" in rest else 0x81
    refused(version, connect(version, flags=flags, rest=rest), None, reason)


@covers(v4="3.1.2-22")
def test_no_password_without_a_user_name_in_3_1_1() -> None:
    refused(V4, connect(V4, flags=0x42, rest=text(b"p")), None, None)


@both
@covers(v4="3.1.3-1 3.1.2-19 3.1.2-21", v5="3.1.3-1 3.1.2-17 3.1.2-19")
def test_all_fields_in_their_order_are_understood(version: Version) -> None:
    bench = Bench()
    will = props(version) + text(b"will/topic") + text(b"bye")
    wire = opened(bench, version, b"me", flags=0xC6, rest=will + text(b"user") + text(b"secret"))
    watcher = opened(bench, version, b"watcher")
    watcher.say(subscribe(version, (b"will/topic", 0)))
    assert "me" in bench.broker.sessions
    wire.lose()
    assert watcher.hear().endswith(b"bye")


@both
@covers(v4="3.1.3-3", v5="3.1.3-3")
def test_a_connect_without_a_client_identifier_field_is_closed(version: Version) -> None:
    data = packet(0x10, text(b"MQTT"), bytes((version, 2)), number(0), props(version))
    refused(version, data, None, 0x81)


@both
@pytest.mark.parametrize(
    "client_id", [b"0", b"a" * 23, b"Z9" * 11, b"a b/+#$\xc3\xa9", b"x" * 1024]
)
@covers(
    v4="3.1.3-5 3.1.4-4 3.2.2-1 3.2.2-3",
    v5="3.1.3-5 3.1.4-5 3.2.2-1 3.2.2-2 3.2.2-8",
)
def test_client_identifiers_of_any_text_are_accepted(version: Version, client_id: bytes) -> None:
    for flags in (2, 0):
        wire = Wire(Bench(), version)
        assert connack(wire.say(connect(version, client_id, flags=flags))) == (0, 0)
        assert wire.say(PINGREQ) == PINGRESP


@both
@covers(v4="3.1.3-9 3.2.2-4 3.2.2-5", v5="3.1.3-8 3.2.2-6 3.2.2-7")
def test_a_client_identifier_beyond_all_measure_is_refused(version: Version) -> None:
    refused(version, connect(version, b"x" * 1025), 2, 0x85)


@both
@covers(v4="3.1.3-6", v5="3.1.3-6 3.1.3-7 3.2.2-16")
def test_a_client_without_identifier_is_given_one_of_its_own(version: Version) -> None:
    bench = Bench()
    names = set()
    for _ in range(5):
        wire = Wire(bench, version)
        answer = wire.say(connect(version, b""))
        assert connack(answer) == (0, 0)
        if version is V5:
            told = answer[answer.index(b"\x12") + 3 :][: answer[answer.index(b"\x12") + 2]]
            assert told.decode() in bench.broker.sessions
            names.add(told)
    assert len(bench.broker.sessions) == 5
    assert len(names) == (5 if version is V5 else 0)


@covers(v4="3.1.3-7 3.1.3-8")
def test_without_identifier_and_clean_session_3_1_1_is_refused() -> None:
    refused(V4, connect(V4, b"", flags=0), 2, None)


@covers(v5="3.1.3-6")
def test_without_identifier_and_clean_start_5_is_given_one() -> None:
    assert connack(Wire(Bench(), V5).say(connect(V5, b"", flags=0))) == (0, 0)


@both
@covers(v4="3.1.4-5", v5="3.1.4-6 3.2.2-7")
def test_what_follows_a_refused_connect_is_not_processed(version: Version) -> None:
    bench = Bench()
    Wire(bench, version).say(connect(version, b"x" * 1025), publish(version, flags=2, id=1))
    assert bench.journal.stored == []


@both
@covers(v4="3.1.4-4", v5="3.1.4-5 3.2.0-1")
def test_what_follows_an_accepted_connect_is_processed_after_connack(version: Version) -> None:
    bench = Bench()
    wire = Wire(bench, version)
    frames = wire.frames(connect(version), publish(version, flags=2, id=1), PINGREQ)
    assert frames[0][0] == 0x20
    assert sorted(first for first, _ in frames[1:]) == [0x40, 0xD0]
    assert len(bench.journal.stored) == 1


@both
@covers(v4="3.1.4-2 3.1.3-2", v5="3.1.4-3 3.1.3-2")
def test_the_newcomer_has_the_identifier(version: Version) -> None:
    bench = Bench()
    first = opened(bench, version, b"same")
    other = opened(bench, version, b"other")
    second = opened(bench, version, b"same")
    assert first.closed
    farewell = split_frames(first.peer.take_raw())
    assert [(kind, body[0]) for kind, body in farewell] == ([(0xE0, 0x8E)] if version is V5 else [])
    assert second.say(PINGREQ) == other.say(PINGREQ) == PINGRESP


@covers(v5="3.2.2-8 3.14.2-1")
@pytest.mark.parametrize("reason", Reason)
def test_whatever_the_reason_connack_and_disconnect_have_a_word_for_it(reason: Reason) -> None:
    """Tables 3-1 and 3-10 of the specification, the server's column."""
    connack_codes = (0x00, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, *range(0x99, 0x9E), 0x9F)
    disconnect_codes = {
        0x00,
        *range(0x80, 0x84),
        0x87,
        0x89,
        0x8B,
        *range(0x8D, 0x91),
        *range(0x93, 0xA3),
    }
    for data, codes in ((b"", connack_codes), (connect(V5), disconnect_codes)):
        wire = Wire(Bench(), V5)
        wire.say(data)
        connection = wire.peer.client.connection
        connection.version = V5
        farewell = connection.farewell(reason)
        assert farewell[2 if data else 3] in codes if len(farewell) > 2 else reason == 0


# --- sessions -----------------------------------------------------------------------------------------------------


@both
@covers(
    v4="3.1.2-4 3.1.2-5 3.2.2-2 3.2.2-3 4.1.0-1 4.5.0-1",
    v5="3.1.2-5 3.1.2-6 3.1.2-23 3.2.2-3 4.5.0-1",
)
def test_a_kept_session_is_resumed_with_its_subscriptions_and_messages(version: Version) -> None:
    bench = Bench()
    wire = Wire(bench, version)
    assert connack(wire.say(connect(version, b"k", **kept(version)))) == (0, 0)
    wire.say(subscribe(version, (b"a", 2)))
    wire.lose()
    other = opened(bench, version, b"p")
    other.say(
        publish(version, payload=b"1", flags=2, id=1), publish(version, payload=b"2", flags=4, id=2)
    )
    again = Wire(bench, version)
    frames = again.frames(connect(version, b"k", **kept(version)))
    frames += again.frames()
    assert (frames[0][0], frames[0][1][:2]) == (0x20, b"\x01\x00")
    assert [body[-1:] for first, body in frames[1:]] == [b"1", b"2"]


@both
@covers(v4="3.1.2-6 3.1.4-3 3.2.2-1", v5="3.1.2-4 3.1.4-4 3.2.2-2")
def test_a_clean_start_discards_the_session(version: Version) -> None:
    bench = Bench()
    first = opened(bench, version, b"k", **kept(version))
    first.say(subscribe(version, (b"a", 1)))
    first.lose()
    clean = Wire(bench, version)
    assert connack(clean.say(connect(version, b"k"))) == (0, 0)
    assert clean.say(publish(version)) == b""
    clean.lose()
    # and the clean one is gone with its connection
    assert connack(Wire(bench, version).say(connect(version, b"k", **kept(version)))) == (0, 0)


@both
@covers(v4="4.1.0-2 4.1.0-1", v5="4.1.0-1")
def test_a_session_lasts_as_long_as_its_connection(version: Version) -> None:
    bench = Bench()
    wire = opened(bench, version)
    wire.say(subscribe(version, (b"a", 0)))
    bench.wait(10)
    assert wire.say(publish(version)) == publish(version)


@covers(v5="4.1.0-2 3.1.2-23")
def test_a_session_ends_when_its_expiry_is_over() -> None:
    bench = Bench()
    for wait, present in ((5, 1), (15, 0)):
        wire = opened(bench, V5, b"k", flags=0, properties=b"\x11\0\0\0\x0a")
        wire.lose()
        bench.wait(wait)
        again = Wire(bench, V5)
        assert connack(again.say(connect(V5, b"k", flags=0, properties=b"\x11\0\0\0\x0a"))) == (
            present,
            0,
        )
        again.say(b"\xe0\x07\x00\x05\x11\0\0\0\0")  # no longer
        assert connack(Wire(bench, V5).say(connect(V5, b"k", flags=0))) == (0, 0)
        bench.wait(1)


@covers(v5="3.14.2-2 4.1.0-2")
def test_session_expiry_at_disconnect() -> None:
    """It may be changed, to 0 as well, but not from 0 to more."""
    bench = Bench()
    expect_refused(opened(bench, V5), b"\xe0\x07\x00\x05\x11\0\0\0\x0a", PROTOCOL)
    wire = opened(bench, V5, b"k", properties=b"\x11\0\0\0\x0a")
    wire.say(b"\xe0\x07\x00\x05\x11\0\0\0\x64")
    bench.wait(50)
    assert connack(Wire(bench, V5).say(connect(V5, b"k", flags=0))) == (1, 0)


@both
@covers(v4="3.1.2.7")
def test_retained_messages_outlive_the_session(version: Version) -> None:
    bench = Bench()
    wire = opened(bench, version)
    wire.say(publish(version, flags=1))
    wire.say(b"\xe0\x00")
    assert (
        opened(bench, version, b"d")
        .say(subscribe(version, (b"a", 0)))
        .endswith(publish(version, flags=1))
    )


# --- keep-alive, ping, disconnect ---------------------------------------------------------------------------------


@both
@covers(v4="3.12.4-1", v5="3.12.4-1")
def test_ping_is_answered(version: Version) -> None:
    assert opened(Bench(), version).say(PINGREQ, PINGREQ) == PINGRESP * 2


@both
@covers(v4="3.1.2-24", v5="3.1.2-22 3.2.2-22")
def test_silence_of_one_and_a_half_keep_alives_closes(version: Version) -> None:
    bench = Bench()
    wire = opened(bench, version, keep_alive=10)
    bench.wait(14)
    assert wire.say(PINGREQ) == PINGRESP
    bench.wait(14)
    assert not wire.closed
    bench.wait(3)
    assert wire.closed
    assert not opened(bench, version, keep_alive=0).closed


@covers(v5="3.2.2-22")
def test_a_server_keep_alive_is_told_and_used() -> None:
    bench = Bench(settings=MqttSettings(keep_alive_max=10))
    wire = Wire(bench, V5)
    assert b"\x13\x00\x0a" in wire.say(connect(V5, keep_alive=100))
    other = Wire(bench, V5)
    assert b"\x13\x00\x0a" not in other.say(connect(V5, b"d", keep_alive=9))
    bench.wait(16)
    assert wire.closed


@both
@covers(v4="3.14.4-3 3.1.2-10", v5="3.14.4-1 3.14.4-2 3.14.4-3 3.1.2-10")
def test_disconnect_closes_discards_the_will_and_ends_what_is_said(version: Version) -> None:
    bench = Bench()
    wire = opened(bench, version, flags=6, rest=props(version) + text(b"w") + text(b"x"))
    assert wire.say(b"\xe0\x00", publish(version, flags=2, id=1), PINGREQ) == b""
    assert wire.closed
    bench.wait(5)
    assert bench.journal.stored == []
