"""Life goes on from a crash state: the real daemon starts there, and the clients of that world come back to it.

In this order: every publisher whose session was promised repeats what it has no answer to; somebody new reads what is
retained; markers are published to every topic; every subscriber comes back and reads until it has all markers; SIGTERM.
The log is judged afterwards (oracle.py), with what was repeated as acknowledged; what the clients met, in promises.py.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from headwater.demo.daemon import headwater_command
from tests.bench import wire

from . import headwater_edge, wire5
from .promises import Returned, held, to_release, to_repeat
from .publishers import Message
from .recording import Subject
from .story import Story, happened
from .view import PROBE

ANSWER_SECONDS = 20.0
# of a broken twin that is not expected to answer
TWIN_SECONDS = 1.0
MARKERS = ("kept/0", "kept/1", "kept/2", "kept/3", "exact/0", "exact/1")


class Patience(NamedTuple):
    """Where the edge listens, and how long a client waits for all that it waits for."""

    port: int
    seconds: float


class Back:
    """A client's connection; `present` as CONNACK says."""

    def __init__(self, at: Patience, name: str, *, lasting: bool) -> None:
        self._socket = socket.create_connection(("127.0.0.1", at.port), timeout=ANSWER_SECONDS)
        self._reader = wire.PacketReader()
        self._packets: list[wire.Packet] = []
        self._deadline = time.monotonic() + at.seconds
        self.write(wire5.connect(name, lasting=lasting))
        connack = self.next()
        assert connack is not None, "the edge answers"
        assert (connack.kind, connack.body[1]) == (wire.CONNACK, 0), f"{name} was refused"
        self.present = bool(connack.body[0] & 1)

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def next(self) -> wire.Packet | None:
        """None: nothing more within the time that a client waits."""
        while not self._packets:
            remaining = self._deadline - time.monotonic()
            if remaining <= 0:
                return None
            self._socket.settimeout(remaining)
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                return None
            if not data:
                return None
            self._packets = list(self._reader.feed(data))[::-1]
        return self._packets.pop()

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def _back(at: Patience, name: str, *, lasting: bool) -> Iterator[Back]:
    back = Back(at, name, lasting=lasting)
    try:
        yield back
    finally:
        back.close()


def resume(
    subject: Subject,
    mount: Path,
    story: Story,
    messages: Mapping[str, Message],
    cut: int,
    *,
    is_twin: bool = False,
) -> tuple[Returned, dict[str, Message], list[str]]:
    """What was met, the messages as they stand now, and what went wrong with the daemon itself."""
    at = Patience(subject.port, TWIN_SECONDS if is_twin else ANSWER_SECONDS)
    met = Returned()
    try:
        subject.daemon.start()
        subject.ready()
        for client in sorted({each.client for each in messages.values() if each.lasting}):
            if happened(story.sessions.get(client, -1), cut):
                _publisher(at, client, messages, cut, met)
        _retained(at, met)
        _markers(at)
        for client in sorted({each.client for each in story.subscriptions}):
            if happened(story.sessions.get(client, -1), cut):
                _subscriber(at, client, story, cut, met)
        status = subject.daemon.stop()
    finally:
        subject.daemon.close()
    broken = [f"the daemon stopped with {status}"] if status else []
    command = headwater_command("log", "verify", str(headwater_edge.data_directory(mount)))
    verified = subprocess.run(command, capture_output=True, text=True)
    if verified.returncode:
        broken.append(f"verify: {verified.stdout}{verified.stderr}")
    return met, _after(messages, met, cut), broken


def _after(messages: Mapping[str, Message], met: Returned, cut: int) -> dict[str, Message]:
    """What the power cut undid is not said to have happened; what was repeated is acknowledged, from the start."""
    stand = {}
    for name, each in messages.items():
        if name in met.acknowledged:
            receipt = met.acknowledged[name]
            stand[name] = msgspec.structs.replace(each, acked=each.sent, receipt=receipt)
        elif not happened(each.acked, cut):
            stand[name] = msgspec.structs.replace(each, acked=-1, receipt="")
        else:
            stand[name] = each
    return stand


def _publisher(
    at: Patience, client: str, messages: Mapping[str, Message], cut: int, met: Returned
) -> None:
    with _back(at, client, lasting=True) as back:
        met.present[client] = back.present
        if not back.present:
            return
        repeats = to_repeat(messages, client, cut)
        releases = to_release(messages, client, cut)
        for each in repeats:
            met.repeated.append(each.name)
            back.write(
                wire5.publish(
                    *(each.topic, each.payload.encode(), each.packet_id),
                    qos=each.qos,
                    dup=True,
                    retain=each.retain,
                )
            )
        for each in releases:
            met.repeated.append(each.name)
            back.write(wire5.answer(wire.PUBREL, each.packet_id))
        waiting = {each.packet_id: each for each in [*repeats, *releases]}
        while waiting and (packet := back.next()) is not None:
            message = waiting.get(packet.packet_id)
            if message is None or packet.kind not in (wire.PUBACK, wire.PUBREC, wire.PUBCOMP):
                continue
            if packet.kind != wire.PUBCOMP and wire5.reason(packet) < 0x80:
                # of a repetition the edge has no receipt at hand
                met.acknowledged[message.name] = wire5.receipt(packet)
            if packet.kind == wire.PUBREC:
                back.write(wire5.answer(wire.PUBREL, packet.packet_id))
                continue
            if packet.kind == wire.PUBCOMP and message in releases:
                met.acknowledged[message.name] = message.receipt
            del waiting[packet.packet_id]


def _retained(at: Patience, met: Returned) -> None:
    with _back(at, "reader", lasting=False) as back:
        back.write(wire5.subscribe(1, [("retained/#", 0)]) + wire.PINGREQ_PACKET)
        while (packet := back.next()) is not None and packet.kind != wire5.PINGRESP:
            if packet.kind == wire.PUBLISH:
                got = wire5.published(packet)
                met.retained[got.topic] = got.payload


def _markers(at: Patience) -> None:
    """One after all else to each topic, so to each partition: who has it has what lies before it."""
    with _back(at, "marker", lasting=False) as back:
        for index, topic in enumerate(MARKERS):
            back.write(wire5.publish(topic, PROBE.encode(), index + 1, qos=1))
        for _ in MARKERS:
            packet = back.next()
            assert packet is not None, "the edge takes publishes"
            assert packet.kind == wire.PUBACK, f"of all: {packet}"


def _subscriber(at: Patience, client: str, story: Story, cut: int, met: Returned) -> None:
    own = [each for each in story.subscriptions if each.client == client]
    promised = [e for e in own if happened(e.acked, cut) and not happened(e.leaving, cut)]
    markers = {t for t in MARKERS if any(e.promises(t, cut + 1, cut) for e in promised)}
    deliveries = met.deliveries.setdefault(client, [])
    released = met.released.setdefault(client, [])
    with _back(at, client, lasting=True) as back:
        met.present[client] = back.present
        releasing = set(held(story, client, cut))
        while markers and (packet := back.next()) is not None:
            if packet.kind == wire.PUBREL:
                releasing.discard(packet.packet_id)
                released.append((len(deliveries), packet.packet_id))
                back.write(wire5.answer(wire.PUBCOMP, packet.packet_id))
            elif packet.kind == wire.PUBLISH:
                got = wire5.published(packet)
                if got.payload == PROBE.encode():
                    markers.discard(got.topic)
                else:
                    deliveries.append((got.payload, got.packet_id, got.qos))
                kind = wire.PUBREC if got.qos == 2 else wire.PUBACK
                back.write(wire5.answer(kind, got.packet_id))
        if markers:
            met.silent.append(client)
