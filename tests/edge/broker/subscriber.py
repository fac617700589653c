"""The other side of a subscription: takes, acknowledges, goes and comes back; and a broker killed and started again."""

from __future__ import annotations

from collections.abc import Callable

from headwater.core.record import TopicPartition
from headwater.edge.broker.outboundstate import OutboundState, unpack
from headwater.edge.broker.sessions import Session
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt.packets import (
    Acknowledgement,
    Connect,
    Packet,
    PacketType,
    Publish,
    SubscriptionOptions,
    Version,
)
from headwater.edge.mqtt.properties import Properties
from headwater.edge.streams import StreamSettings

from .harness import Bench, Peer

KEPT = Properties(session_expiry_interval=100_000)
DEFAULT = TopicPartition("default", 0)


def publishes(packets: list[Packet]) -> list[Publish]:
    return [packet for packet in packets if isinstance(packet, Publish)]


def payloads(packets: list[Packet]) -> list[bytes]:
    return [packet.payload for packet in publishes(packets)]


def back(bench: Bench, client_id: str = "s", properties: Properties = KEPT) -> Peer:
    peer = bench.peer()
    peer.send(
        Connect(version=Version.V5, client_id=client_id, clean_start=False, properties=properties)
    )
    bench.keep_promises()
    return peer


def drain(peer: Peer, bench: Bench) -> list[Publish]:
    """Take and acknowledge until nothing comes."""
    found: list[Publish] = []
    while packets := settle(peer, bench):
        for packet in packets:
            if isinstance(packet, Publish):
                found.append(packet)
                if packet.qos == 1:
                    peer.send(Acknowledgement(PacketType.PUBACK, packet.packet_id))
                elif packet.qos == 2:
                    peer.send(Acknowledgement(PacketType.PUBREC, packet.packet_id))
            elif isinstance(packet, Acknowledgement) and packet.kind is PacketType.PUBREL:
                peer.send(Acknowledgement(PacketType.PUBCOMP, packet.packet_id))
    return found


def settle(peer: Peer, bench: Bench) -> list[Packet]:
    """What comes when the disk has done what it was asked to."""
    bench.finish_reads()
    bench.keep_promises()
    return peer.take()


class MemoryBook:
    """Notes outbound states in the memory journal; `survivors` are those whose commit became durable."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.notes: list[tuple[int, str, bytes]] = []

    def outbound(self, session: Session) -> int:
        commit = self._bench.journal.open_commit
        self._bench.journal.note(7, b"")
        self.notes.append((commit, session.client_id, session.outbound_state()))
        return commit

    def survivor(self, client_id: str) -> OutboundState | None:
        durable = self._bench.journal.durable
        states = [p for c, who, p in self.notes if who == client_id and c <= durable]
        return unpack(states[-1]) if states else None


def with_book(settings: MqttSettings | None = None) -> tuple[Bench, MemoryBook]:
    bench = Bench(settings=settings)
    book = MemoryBook(bench)
    bench.broker.departures.book = book
    return bench, book


def restarted(
    bench: Bench,
    book: MemoryBook,
    subscribe: Callable[[Bench, str, Session], None],
    *names: str,
    streams: tuple[StreamSettings, ...] = (),
) -> tuple[Bench, MemoryBook]:
    """The process is killed: what is durable is there, and nothing else."""
    after = Bench(settings=bench.broker.settings, journal=bench.journal.crashed(), streams=streams)
    again = MemoryBook(after)
    again.notes = [note for note in book.notes if note[0] <= after.journal.durable]
    after.broker.departures.book = again
    for name in names:
        session = Session(name, after.broker.departures)
        session.expiry_s = 1e6
        after.broker.sessions[name] = session
        subscribe(after, name, session)
        session.outbound.restore(book.survivor(name))
    return after, again


def to(topic_filter: str, qos: int) -> Callable[[Bench, str, Session], None]:
    def subscribe(bench: Bench, _: str, session: Session) -> None:
        bench.broker.subscriptions.add(session, SubscriptionOptions(topic_filter, qos), 0)

    return subscribe
