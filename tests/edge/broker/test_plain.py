"""The plain case: both twins alike, and never another result than the ordinary path's."""

from __future__ import annotations

import importlib
import random
from types import ModuleType, SimpleNamespace

import pytest

from headwater.core.errors import Unavailable
from headwater.core.record import Headers
from headwater.edge.broker import _plain_py, plain
from headwater.edge.broker.client import Client
from headwater.edge.broker.doubts import Fresh
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import (
    Acknowledgement,
    Disconnect,
    PacketType,
    Pingreq,
    Publish,
    Version,
)
from headwater.edge.mqtt.properties import Properties
from headwater.edge.mqtt.reasons import Reason

from .harness import Bench, Peer

TWINS = [_plain_py]
if plain.COMPILED:
    TWINS.append(importlib.import_module("headwater.edge.broker._plain"))
GENERATION = 7
LIMIT = 600


@pytest.fixture(params=TWINS, ids=lambda twin: twin.__name__.rpartition(".")[2])
def twin(request: pytest.FixtureRequest) -> ModuleType:
    found: ModuleType = request.param
    return found


class Routed(plain.Way):
    """A route that keeps what was appended and refuses after `room` records."""

    def __init__(self, name: str, room: int = 1000, quiet: int = GENERATION) -> None:
        self.key = name.encode()
        self.quiet = quiet
        self.early = None
        self.headers = (("q", b"1"),)
        self.headers_qos_0 = (("q", b"0"),)
        self.appended: list[tuple[int, bytes, bytes, Headers]] = []
        self._room = room
        self.append = self._append

    def _append(self, timestamp: int, key: bytes, value: bytes, headers: Headers) -> int:
        if len(self.appended) >= self._room:
            raise Unavailable("full")
        self.appended.append((timestamp, key, value, headers))
        return len(self.appended)


def publish(
    topic: str, payload: bytes, qos: int, *, version: Version = Version.V311, **more: object
) -> bytes:
    packet = Publish(topic=topic, payload=payload, qos=qos, packet_id=9 if qos else 0, **more)  # type: ignore[arg-type]
    return encode_packet(packet, version)


class Heard:
    """What `take_plain` hands over."""

    def __init__(self) -> None:
        self.offered: list[tuple[bytes, bytes, int, int]] = []
        self.settled: list[int] = []
        self.told: list[Fresh] = []

    def offer(self, route: Routed, payload: bytes, qos: int, offset: int) -> None:
        self.offered.append((route.key, payload, qos, offset))


def take(
    twin: ModuleType,
    data: bytes,
    *routes: Routed,
    version: Version = Version.V311,
    heard: Heard | None = None,
) -> tuple[int, int, list[bytes]]:
    acks: list[bytes] = []
    known = {route.key: route for route in routes}
    told = None if heard is None else heard.told
    heard = heard or Heard()
    position, taken = twin.take_plain(
        *(data, LIMIT, version is Version.V5, known, GENERATION, 5, acks),
        *(heard.offer, heard.settled.append, told),
    )
    return position, taken, acks


@pytest.mark.parametrize("version", list(Version))
def test_plain_publishes_are_appended_and_their_acknowledgements_gathered(
    twin: ModuleType, version: Version
) -> None:
    a, b = Routed("a"), Routed("b/c")
    data = publish("a", b"1", 1, version=version) + publish("b/c", b"", 0, version=version)
    data += publish("a", b"x" * 300, 1, version=version)
    assert take(twin, data, a, b, version=version) == (len(data), 3, [b"\x40\x02\x00\x09"] * 2)
    assert a.appended == [(5, b"a", b"1", a.headers), (5, b"a", b"x" * 300, a.headers)]
    assert b.appended == [(5, b"b/c", b"", b.headers_qos_0)]


def test_what_may_be_wanted_is_offered_once_it_is_appended(twin: ModuleType) -> None:
    a, b = Routed("a", quiet=GENERATION - 1), Routed("b")
    heard = Heard()
    data = publish("a", b"1", 1) + publish("b", b"2", 1) + publish("a", b"3", 0)
    assert take(twin, data, a, b, heard=heard) == (len(data), 3, [b"\x40\x02\x00\x09"] * 2)
    assert heard.offered == [(b"a", b"1", 1, 1), (b"a", b"3", 0, 2)]
    assert heard.told == [(b"a", b"1", 9, True), (b"b", b"2", 9, True)]


def test_plain_acknowledgements_are_settled_wherever_they_stand(twin: ModuleType) -> None:
    a, heard = Routed("a"), Heard()
    data = b"\x40\x02\x01\x02" + publish("a", b"1", 1) + b"\x40\x02\x00\x01\x40\x02\xff\xff"
    assert take(twin, data, a, heard=heard)[:2] == (len(data), 1)
    assert heard.settled == [0x102, 1, 0xFFFF]


def test_an_acknowledgement_that_must_be_judged_is_left_to_the_ordinary_path(
    twin: ModuleType,
) -> None:
    a = Routed("a")
    data = publish("a", b"1", 1) + b"\x40\x02\x00\x07" + publish("a", b"2", 1)
    acks: list[bytes] = []
    told = twin.take_plain(
        *(data, LIMIT, False, {a.key: a}, GENERATION, 5, acks),
        *(Heard().offer, lambda packet_id: packet_id == 7, None),
    )
    assert told == (len(publish("a", b"1", 1)), 1)


@pytest.mark.parametrize(
    "stop",
    [
        b"\x40\x02\x00\x00",  # no identifier
        b"\x40\x02\x01",
        b"\x40",
        b"\x40\x03\x00\x01\x10",  # a reason
        b"\x41\x02\x00\x01",
        b"\x50\x02\x00\x01",
        publish("unknown", b"x", 1),
        publish("early", b"x", 1),
        publish("full", b"x", 1),
        publish("a", b"x", 2),
        publish("a", b"x", 1, dup=True),
        publish("a", b"x", 0, retain=True),
        publish("a", b"x" * 2000, 1),
        publish("a", b"x", 1)[:-1],
        b"\x32",
        b"\x32\x07\x00\x01a\x00\x00xx",
        b"\x30\x03\x00\x00x",
        b"\x30\x84\x00\x00\x01ax",
        b"\xc0\x00",
        b"\x32\xff\xff\xff\xff\x01",
        b"\x32\x03\x00\x09a",
    ],
)
def test_it_stops_before_anything_else_and_does_nothing_of_it(
    twin: ModuleType, stop: bytes
) -> None:
    a, early, full = Routed("a"), Routed("early", quiet=-1), Routed("full", room=0)
    early.early = early  # type: ignore[assignment]
    before = publish("a", b"1", 1)
    heard = Heard()
    position, taken, acks = take(twin, before + stop, a, early, full, heard=heard)
    assert (position, taken, len(acks)) == (len(before), 1, 1)
    assert len(a.appended) == 1
    assert not early.appended
    assert not full.appended
    assert not heard.settled
    assert not heard.offered
    assert len(heard.told) == 1


def test_twins_agree_on_any_bytes() -> None:
    rng = random.Random(3)
    good = publish("a", b"payload", 1) + b"\x40\x02\x00\x07" + publish("b", b"p", 0)
    for _ in range(3000):
        data = bytearray(good * rng.randrange(1, 4))
        for _ in range(rng.randrange(4)):
            data[rng.randrange(len(data))] = rng.choice(
                (0, 1, 2, 0x30, 0x32, 0x40, 0x7F, 0x80, 0xFF)
            )
        cut = bytes(data[: rng.randrange(len(data) + 1)])
        found = []
        for each in TWINS:
            for version in Version:
                routes = Routed("a", room=2), Routed("b", quiet=GENERATION - 1)
                heard = Heard()
                answer = take(each, cut, *routes, version=version, heard=heard)
                found.append((answer, [route.appended for route in routes], vars(heard)))
        half = len(found) // len(TWINS)
        assert found[:half] == found[-half:]


def stream(rng: random.Random, version: Version) -> bytes:
    """What a client may send in one go: mostly plain publishes, and everything else in between."""
    packets = []
    for number in range(rng.randrange(1, 12)):
        topic = rng.choice(("s/a", "s/b", "wanted/x", "$no", "s/" + "deep/" * 60))
        qos = rng.choice((0, 1, 1, 1, 2))
        properties = Properties()
        if version is Version.V5 and rng.random() < 0.2:
            properties = Properties(user_properties=(("k", "v"),))
        if rng.random() < 0.06:
            packets.append(encode_packet(Pingreq(), version))
        if (
            rng.random() < 0.3
        ):  # the publisher subscribes as well, and acknowledges, not always what it was sent
            kind = rng.choice((*(PacketType.PUBACK,) * 6, PacketType.PUBREC))
            reason = Reason.QUOTA_EXCEEDED if rng.random() < 0.2 else Reason.SUCCESS
            packets.append(
                encode_packet(Acknowledgement(kind, rng.randrange(1, 6), reason), version)
            )
        packets.append(
            encode_packet(
                Publish(
                    topic=topic,
                    payload=rng.randbytes(rng.randrange(200)),
                    qos=qos,
                    packet_id=number + 1 if qos else 0,
                    retain=rng.random() < 0.1,
                    dup=qos > 0 and rng.random() < 0.05,
                    properties=properties,
                ),
                version,
            )
        )
    if rng.random() < 0.05:
        packets.append(encode_packet(Disconnect(), version))
    if rng.random() < 0.05:
        packets.append(rng.randbytes(5))
    return b"".join(packets)


@pytest.mark.parametrize("version", list(Version))
def test_the_ordinary_path_would_have_done_the_same(
    version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(11)
    shortcuts = 0
    for seed in range(150):
        inputs = [stream(rng, version) for _ in range(6)]
        cuts = [rng.randrange(len(each) + 1) for each in inputs]
        syncs = [rng.random() < 0.5 for _ in inputs]
        clean = rng.random() < 0.7
        seen = []
        for shortcut in (True, False):
            with monkeypatch.context() as patch:
                if not shortcut:
                    patch.setattr(Client, "_take_plain", lambda self, data: 0)
                bench = Bench(settings=MqttSettings(receive_maximum=20))
                subscriber = bench.connect("sub")
                subscriber.subscribe("wanted/#", qos=1)
                peer = bench.connect(
                    "pub", version=version, clean=clean, properties=_kept(version, clean)
                )
                peer.subscribe("wanted/#", qos=1)
                bench.sync()
                for data, cut, sync in zip(inputs, cuts, syncs, strict=True):
                    for piece in (data[:cut], data[cut:]):
                        if piece and not peer.transport.closed and peer.transport.reading:
                            peer.client.data_received(piece)
                    if sync:
                        bench.sync()
                bench.sync()
                tally = bench.broker.tally
                seen.append(
                    SimpleNamespace(
                        stored=bench.journal.stored,
                        written=peer.take_raw(),
                        delivered=subscriber.take_raw(),
                        closed=peer.transport.closed,
                        counts=(tally.published, tally.acknowledged, dict(tally.refused)),
                        flying=_flying(bench, peer),
                        noted=bench.journal.notes,
                    )
                )
                shortcuts += shortcut and len(bench.journal.stored)
        assert seen[0] == seen[1], f"seed {seed}"
    assert shortcuts > 1000


def _flying(bench: Bench, peer: Peer) -> object:
    session = bench.broker.sessions.get("pub")
    return None if session is None else (session.in_flight, session.queued, peer.client.is_open)


def _kept(version: Version, clean: bool) -> Properties:
    if version is Version.V311 or clean:
        return Properties()
    return Properties(session_expiry_interval=100)
