"""Life goes on from a crash state: the real daemon starts there, and the clients of that world come back to it.

In this order: every publisher whose session was promised repeats what it has no answer to, and so does the broker upstream;
the members of shared subscriptions come back, all at once; markers are published to every topic; the members read until
their groups have all that is owed; every other subscriber comes back and reads until it has all markers, and the wills that
are due; somebody new reads what is retained; SIGTERM.
The log is judged afterwards (oracle.py), with what was repeated as acknowledged; what the clients met, in promises.py.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from tests.bench import wire

from . import wire5
from .bridging import returning
from .promises import SOON_S, Returned, groups, owed_wills, to_release, to_repeat
from .publishers import Message, name_of
from .recording import Subject
from .story import Story, happened
from .view import PROBE

ANSWER_SECONDS = 20.0
# of a broken twin that is not expected to answer
TWIN_SECONDS = 1.0


class Patience(NamedTuple):
    """Where the edge listens, and how long a client waits for all that it waits for. `markers`: topics to each of which one
    message is published after all else."""

    port: int
    seconds: float
    markers: Sequence[str]


class World(NamedTuple):
    """What is known of the recording, and where it was cut."""

    story: Story
    messages: Mapping[str, Message]
    cut: int


class Back:
    """A client's connection; `present` as CONNACK says."""

    def __init__(
        self, at: Patience, name: str, *, lasting: bool, will: wire5.Will | None = None
    ) -> None:
        self.name = name
        self.aliases = wire5.Aliases()
        self._socket = socket.create_connection(("127.0.0.1", at.port), timeout=ANSWER_SECONDS)
        self._reader = wire.PacketReader()
        self._packets: list[wire.Packet] = []
        self._deadline = time.monotonic() + at.seconds
        expiry_s = wire5.DAY_SECONDS if lasting else 0
        self.write(wire5.connect(name, expiry_s=expiry_s, will=will, aliases=wire5.ALIASES))
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

    def ready(self, seconds: float) -> bool:
        """Something is there to be read."""
        return bool(self._packets or select.select([self._socket], [], [], seconds)[0])

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def _back(
    at: Patience, name: str, *, lasting: bool, will: wire5.Will | None = None
) -> Iterator[Back]:
    back = Back(at, name, lasting=lasting, will=will)
    try:
        yield back
    finally:
        back.close()


def resume(
    subject: Subject, world: World, markers: Sequence[str], *, is_twin: bool = False
) -> tuple[Returned, dict[str, Message], list[str]]:
    """What was met, the messages as they stand now, and what went wrong with the daemon itself."""
    story, messages, cut = world
    at = Patience(subject.port, TWIN_SECONDS if is_twin else ANSWER_SECONDS, markers)
    met = Returned(began=time.monotonic())
    try:
        with returning(world, subject.upstream, met) as bridge, contextlib.ExitStack() as together:
            subject.daemon.start()
            subject.ready()
            sentinel = _sentinel(at, together) if story.last_wills else None
            for client in sorted({each.client for each in messages.values() if each.lasting}):
                if happened(story.sessions.get(client, -1), cut):
                    _publisher(at, client, messages, cut, met)
            bridge.wait(at.seconds)
            members = _members(at, world, met, together)
            _markers(at)
            _shared(at, world, members, met)
            if sentinel is not None:
                while (packet := sentinel.next()) is not None and packet.kind != wire.PUBLISH:
                    pass
            for client in sorted({e.client for e in story.subscriptions if not e.is_shared}):
                if happened(story.sessions.get(client, -1), cut):
                    _subscriber(at, client, world, met)
            _retained(at, met)
            met.ended = time.monotonic()
            status = subject.daemon.stop()
    finally:
        subject.daemon.close()
    broken = [f"the daemon stopped with {status}"] if status else []
    return met, _after(world, met), broken


def _after(world: World, met: Returned) -> dict[str, Message]:
    """What the power cut undid is not said to have happened; what was repeated is acknowledged, from the start."""
    stand = {}
    for name, each in world.messages.items():
        if name in met.acknowledged:
            receipt = met.acknowledged[name]
            stand[name] = msgspec.structs.replace(each, acked=each.sent, receipt=receipt)
        elif not happened(each.acked, world.cut):
            stand[name] = msgspec.structs.replace(each, acked=-1, receipt="")
        else:
            stand[name] = each
    for each in owed_wills(*world):
        stand[each.name] = msgspec.structs.replace(each, acked=each.sent)
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
                    expiry_s=each.expiry_s,
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
        filters = [("retained/#", 0), ("wills/#", 0)]
        back.write(wire5.subscribe(1, filters) + wire.PINGREQ_PACKET)
        while (packet := back.next()) is not None and packet.kind != wire5.PINGRESP:
            if packet.kind == wire.PUBLISH:
                got = wire5.published(packet, back.aliases)
                met.retained[got.topic] = got.payload


def _markers(at: Patience) -> None:
    """One after all else to each topic, so to each partition: who has it has what lies before it."""
    with _back(at, "marker", lasting=False) as back:
        for index, topic in enumerate(at.markers):
            back.write(wire5.publish(topic, PROBE.encode(), index + 1, qos=1))
        for _ in at.markers:
            packet = back.next()
            assert packet is not None, "the edge takes publishes"
            assert packet.kind == wire.PUBACK, f"of all: {packet}"


def _subscriber(at: Patience, client: str, world: World, met: Returned) -> None:
    story, _, cut = world
    own = [each for each in story.subscriptions if each.client == client]
    promised = [e for e in own if happened(e.acked, cut) and not happened(e.leaving, cut)]
    waits = {t for t in at.markers if any(e.promises(t, cut + 1, cut) for e in promised)}
    for will in owed_wills(*world):
        if any(each.promises(will.topic, will.sent, cut) for each in promised):
            waits.add(will.name)
    waits -= {e.message for e in story.deliveries if e.client == client and e.received <= cut}
    with _back(at, client, lasting=True) as back:
        met.present[client] = back.present
        while waits and (packet := back.next()) is not None:
            waits.discard(_take(back, packet, world, met))
        if waits & set(at.markers):
            met.silent.append(client)


def _sentinel(at: Patience, together: contextlib.ExitStack) -> Back:
    """Who hears a will that is due after all others that are: its delay is the longest, and begins now."""
    topic = "wills/sentinel"
    watcher = together.enter_context(_back(at, "watcher", lasting=False))
    watcher.write(wire5.subscribe(1, [(topic, 1)]))
    packet = watcher.next()
    assert packet is not None, "the edge grants a subscription"
    assert packet.kind == wire5.SUBACK, f"first of all: {packet}"
    will = wire5.Will(topic, PROBE.encode(), qos=1, retain=False, delay_s=SOON_S)
    with _back(at, "sentinel", lasting=True, will=will):
        pass
    return watcher


def _members(
    at: Patience, world: World, met: Returned, together: contextlib.ExitStack
) -> list[Back]:
    """All of all groups that have a session, connected at once."""
    found = {client for each in groups(world.story, world.cut) for client in each.members}
    members = []
    for client in sorted(found):
        if happened(world.story.sessions.get(client, -1), world.cut):
            members.append(together.enter_context(_back(at, client, lasting=True)))
            met.present[client] = members[-1].present
    return members


def _shared(at: Patience, world: World, members: list[Back], met: Returned) -> None:
    """They read until among them they have what is owed to each group, and what was published after the start."""
    story, messages, cut = world
    waits = set()
    for group in groups(story, cut):
        had = {
            e.message for e in story.deliveries if e.client in group.members and e.received <= cut
        }
        waits |= {
            each.name
            for each in messages.values()
            if happened(each.acked, cut)
            and each.name not in had
            and any(s.promises(each.topic, each.sent, cut) for s in group.staying)
        }
        waits |= {t for t in at.markers if any(s.promises(t, cut + 1, cut) for s in group.staying)}
    for back in members:
        met.deliveries.setdefault(back.name, [])
    deadline = time.monotonic() + at.seconds
    while waits and members and time.monotonic() < deadline:
        for back in members:
            while back.ready(0.002) and (packet := back.next()) is not None:
                waits.discard(_take(back, packet, world, met))
    for back in members:  # what was under way to others
        back.write(wire.PINGREQ_PACKET)
        while (packet := back.next()) is not None and packet.kind != wire5.PINGRESP:
            _take(back, packet, world, met)


def _take(back: Back, packet: wire.Packet, world: World, met: Returned) -> str:
    """Noted and answered. The name of the message that it brings; of a marker, the topic; of another packet, nothing."""
    deliveries = met.deliveries.setdefault(back.name, [])
    if packet.kind == wire.PUBREL:
        met.released.setdefault(back.name, []).append((len(deliveries), packet.packet_id))
        back.write(wire5.answer(wire.PUBCOMP, packet.packet_id))
    if packet.kind != wire.PUBLISH:
        return ""
    got = wire5.published(packet, back.aliases)
    back.write(wire5.answer(wire.PUBREC if got.qos == 2 else wire.PUBACK, got.packet_id))
    if got.payload == PROBE.encode():
        return got.topic
    deliveries.append((got.payload, got.packet_id, got.qos))
    name = name_of(got.payload)
    if got.expiry_s >= 0:
        met.expiries.append((back.name, name, got.expiry_s, time.monotonic()))
    sent = world.messages.get(name)
    if sent is not None and sent.topic != got.topic:
        met.misdirected.append(f"{name} of {sent.topic} comes to {back.name} by {got.topic}")
    return name
