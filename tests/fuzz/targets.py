"""The targets: bytes in, and what must be true whatever they are.

* No exception but the one that the decoder declares (`Violation`, `Corrupt`, `Refused`).
* What is held for one connection stays below its limit, whatever was sent and in whatever pieces.
* A compiled leaf and its pure twin say the same of every input.
* What was decoded, encoded again, decodes to the same.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from headwater.core import _records_py
from headwater.core.batch import decode_batch, parse_header
from headwater.core.errors import Corrupt, Refused, Unavailable
from headwater.core.leaves import records
from headwater.edge.broker import _plain_py, plain
from headwater.edge.broker.listening.frames import CONTROL_BYTES_MAX, Closed, Unframer, Violated
from headwater.edge.broker.listening.upgrade import HEAD_BYTES_MAX, BadHandshake, Upgrade
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt import _scan_py, scan
from headwater.edge.mqtt.connection import ServerConnection, State
from headwater.edge.mqtt.decoding import decode_packet
from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import Connack, Connect, Packet, Version
from headwater.edge.mqtt.reasons import Reason, Violation
from tests.edge.broker.harness import Bench

PACKET_BYTES_MAX = 2048
ALIASES_MAX = 4
WRITE_BUFFER_MAX = 4096
SETTINGS = MqttSettings(
    packet_bytes_max=PACKET_BYTES_MAX,  # type: ignore[arg-type]
    topic_alias_max=ALIASES_MAX,
    receive_maximum=5,
    inflight_max=5,
    subscriptions_max=8,
    sessions_max=8,
    write_buffer_max=WRITE_BUFFER_MAX,  # type: ignore[arg-type]
    retained_messages_max=4,
)
VERSIONS = (Version.V311, Version.V5)


def pieces(data: bytes, first: int) -> list[bytes]:
    """The same bytes as TCP may deliver them: in steps that the input itself chooses."""
    step = (len(data) or 1, 1, 2, 3, 7, 64, 1000)[first % 7]
    return [data[at : at + step] for at in range(0, len(data), step)]


def connection(data: bytes) -> None:
    """The protocol state machine, from CONNECT on or already open, in either version."""
    if len(data) < 2:
        return
    machine = ServerConnection(packet_bytes_max=PACKET_BYTES_MAX, topic_alias_max=ALIASES_MAX)
    if data[0] & 1:
        machine.version = VERSIONS[data[0] >> 1 & 1]
        machine.accept(Connack())
    try:
        for piece in pieces(data[2:], data[1]):
            machine.feed(piece)
            while True:
                run = machine.publishes()
                for topic, payload, _ in run:
                    assert len(topic) + len(payload) <= PACKET_BYTES_MAX
                packet = machine.next_packet()
                if packet is None:
                    break
                _check_round_trip(packet, machine.version)
                if isinstance(packet, Connect):
                    machine.accept(Connack())
            held = machine.held_bytes
            assert held <= PACKET_BYTES_MAX + ALIASES_MAX * PACKET_BYTES_MAX, f"holds {held}"
    except Violation:
        machine.farewell(Reason.MALFORMED_PACKET)
        assert machine.state is State.CLOSED


def _check_round_trip(packet: Packet, version: Version) -> None:
    encoded = encode_packet(packet, version)
    body = encoded[1:]
    while body[0] & 0x80:
        body = body[1:]
    again = decode_packet(encoded[0], body[1:], version)
    assert again == packet, f"{packet} became {again}"


def scanning(data: bytes) -> None:
    """The scanner of plain PUBLISH packets, and the pass that takes them and PUBACKs: both twins, with every start and
    limit. The topics are known, but for those that begin with a zero; every second one may be wanted, and the log
    refuses after a few records."""
    if len(data) < 3:
        return
    limit = 1 + data[0] * 8
    start = min(data[1], len(data) - 2)
    body = data[2:]
    for with_properties in (False, True):
        pure = _scan_py.scan_publishes(body, start, limit, with_properties)
        assert pure == scan.scan_publishes(body, start, limit, with_properties)
        run, end = pure
        assert start <= end <= max(start, len(body))
        assert len(run) <= (end - start) // 4
        topics = [topic for topic, _, _ in run if topic[0]]
        packets = body[start:]
        taken = _taken(_plain_py.take_plain, packets, limit, with_properties, topics)
        assert taken == _taken(plain.take_plain, packets, limit, with_properties, topics)


def _way(topic: bytes, quiet: int, append: Callable[..., int]) -> plain.Way:
    way = plain.Way()
    way.key, way.quiet, way.append = topic, quiet, append
    way.early, way.headers, way.headers_qos_0 = None, (), ()
    return way


def _taken(
    take: Callable[..., tuple[int, int]],
    data: bytes,
    limit: int,
    with_properties: bool,
    topics: list[bytes],
) -> object:
    heard: list[object] = []

    def append(*record: object) -> int:
        if len(heard) > 7:
            raise Unavailable("full")
        heard.append(record)
        return len(heard)

    known = {topic: _way(topic, 1 - index % 2, append) for index, topic in enumerate(topics)}

    def offer(route: plain.Way, *what: object) -> None:
        heard.append((route.key, what))

    acks: list[bytes] = []
    told: list[object] = []
    answer = take(data, limit, with_properties, known, 1, 5, acks, offer, heard.append, told)
    assert len(told) == len(acks) <= answer[1]
    assert answer[0] <= len(data)
    return answer, heard, acks, told


def broker(data: bytes) -> None:
    """A whole broker in memory: two strangers send the two halves, the disk syncs now and then, time passes."""
    if len(data) < 4:
        return
    bench = Bench(settings=SETTINGS)
    peers = [bench.peer(), bench.peer()]
    middle = data[0] * len(data) // 255
    halves = [pieces(data[3:middle], data[1]), pieces(data[middle:], data[1])]
    step = 0
    while any(halves):
        for peer, rest in zip(peers, halves, strict=True):
            step += 1
            if rest:
                piece = rest.pop(0)
                if peer.transport.reading and not peer.transport.closed:
                    peer.client.data_received(piece)
            if step % (1 + data[2] % 8) == 0:
                bench.sync()
            if step % (9 + data[2] % 16) == 0:
                bench.wait(1.0)
    bench.sync()
    tally = bench.broker.tally
    assert not tally.crashes, "a client was closed for a defect of ours"
    assert len(bench.broker.sessions) <= SETTINGS.sessions_max
    assert len(bench.broker.fanout.retained) <= SETTINGS.retained_messages_max
    for peer in peers:
        peer.lose()


def batches(data: bytes) -> None:
    """Record batches as they come from a disk, a cloud or a producer: both twins of the records leaf."""
    found = [_decoded(twin, data) for twin in (_records_py, records)]
    assert found[0] == found[1]
    try:
        parse_header(data)
        decode_batch(data)
    except (Corrupt, Refused):
        pass


def _decoded(twin: ModuleType, data: bytes) -> object:
    if len(data) < 4:
        return None
    span = _records_py.Span(data[0] % 16, data[1] % 16, 7, 1_700_000_000_000, None)
    try:
        return twin.decode_records(data[2:], span)
    except (Corrupt, Refused) as error:
        return type(error)


def websocket(data: bytes) -> None:
    """The HTTP upgrade, then frames, in any pieces; what is held is one header or one control frame."""
    if len(data) < 2:
        return
    upgrade: Upgrade | None = Upgrade("/mqtt", ()) if data[0] & 1 else None
    unframer = Unframer()
    payload = 0
    try:
        for piece in pieces(data[2:], data[1]):
            rest = piece
            if upgrade is not None:
                done = upgrade.feed(piece)
                if done is None:
                    assert upgrade.held_bytes < HEAD_BYTES_MAX + len(piece)
                    continue
                answer, rest = done
                assert answer.startswith(b"HTTP/1.1 101 ")
                upgrade = None
            payload += len(unframer.feed(rest))
            assert unframer.held_bytes <= CONTROL_BYTES_MAX + 14
            unframer.answers.clear()
    except (BadHandshake, Violated, Closed):
        pass
    assert payload <= len(data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "connection": connection,
    "scanning": scanning,
    "broker": broker,
    "batches": batches,
    "websocket": websocket,
}
