"""A broker without a loop: a journal in memory, transports that keep what was written, a clock moved by hand.

`Bench.sync()` is the disk saying that everything appended so far is durable; nothing else moves it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from headwater.core.clock import ManualClock
from headwater.core.journal.reading import Bounds
from headwater.core.record import Headers, Record, StoredRecord, TopicPartition
from headwater.edge.broker.broker import Broker
from headwater.edge.broker.client import Client
from headwater.edge.broker.departures import Reading
from headwater.edge.broker.lifetimes import TICK_S, Observer
from headwater.edge.broker.listening.door import Visitor
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.mqtt.decoding import decode_packet
from headwater.edge.mqtt.encoding import encode_packet
from headwater.edge.mqtt.packets import (
    Connack,
    Connect,
    Packet,
    Pingreq,
    Pingresp,
    Publish,
    Subscribe,
    SubscriptionOptions,
    Version,
    Will,
)
from headwater.edge.mqtt.properties import NO_PROPERTIES, Properties
from headwater.edge.streams import StreamSettings, StreamTable


class Stored(NamedTuple):
    partition: TopicPartition
    offset: int
    record: Record


class MemoryJournal:
    """The journal and the committer in one: `sync` seals the open commit and calls the listeners."""

    def __init__(self) -> None:
        self.open_commit = 1
        self.durable = 0
        self.overfull = False
        self.stalled: str | None = None
        self.gathering = False
        self.requests = 0
        self.stored: list[Stored] = []
        self.notes: list[tuple[int, bytes]] = []
        self.refusal: Exception | None = None
        self.early: set[str] = set()
        self.reserved = True
        self.noted = False  # something, in the open commit
        self.starts: dict[TopicPartition, int] = {}  # moved by hand: retention
        self.ends: dict[TopicPartition, int] = {}
        self._sealed: dict[int, dict[TopicPartition, int]] = {}
        self._by_partition: dict[TopicPartition, list[Record]] = {}
        self._durable_records = 0
        self._before_seal: list[Callable[[int], None]] = []
        self._next: dict[TopicPartition, int] = {}
        self._listeners: list[Callable[[int], None]] = []

    def writer(self, tp: TopicPartition, /) -> MemoryWriter:
        return MemoryWriter(self, tp)

    def append(self, tp: TopicPartition, record: Record) -> int:
        if self.refusal is not None:
            raise self.refusal
        offset = self._next.get(tp, 0)
        self._next[tp] = offset + 1
        self._by_partition.setdefault(tp, []).append(record)
        self.stored.append(Stored(tp, offset, record))
        return offset

    def note(self, kind: int, payload: bytes, /) -> int:
        self.notes.append((kind, payload))
        self.noted = True
        return self.open_commit

    def partitions(self) -> list[TopicPartition]:
        return [tp for tp, end in self.ends.items() if end]

    def bounds(self, tp: TopicPartition, /) -> Bounds:
        return Bounds(self.starts.get(tp, 0), self.ends.get(tp, 0))

    def unsettled(self) -> list[tuple[TopicPartition, int]]:
        return [(tp, end) for tp, end in self._next.items() if end > self.ends.get(tp, 0)]

    def records(self, tp: TopicPartition, offset: int) -> list[StoredRecord]:
        """Durable ones of a partition from an offset on."""
        own = self._by_partition.get(tp, [])
        return [StoredRecord(at, *own[at]) for at in range(offset, self.ends.get(tp, 0))]

    @property
    def pending_bytes(self) -> int:
        return len(self.stored) - self._durable_records + self.noted

    def before_seal(self, hook: Callable[[int], None], /) -> None:
        self._before_seal.append(hook)

    def request(self) -> None:
        self.requests += 1

    def add_listener(self, listener: Callable[[int], None], /) -> None:
        self._listeners.append(listener)

    def seal(self) -> int:
        """The open commit goes to the disk; appends from now on are in the next one."""
        for hook in self._before_seal:
            hook(self.open_commit)
        self.noted = False
        self._sealed[self.open_commit] = dict(self._next)
        self.open_commit += 1
        return self.open_commit - 1

    def complete(self, commit: int) -> None:
        self.durable = commit
        self.ends.update(self._sealed.pop(commit, {}))
        self._durable_records = len(self.stored)
        for listener in self._listeners:
            listener(commit)

    def crashed(self) -> MemoryJournal:
        """What a process that starts after a kill finds: what was durable."""
        after = MemoryJournal()
        after.starts, after.ends = dict(self.starts), dict(self.ends)
        after._next = dict(self.ends)
        after._by_partition = {
            tp: records[: self.ends.get(tp, 0)] for tp, records in self._by_partition.items()
        }
        after.stored = [
            each for each in self.stored if each.offset < self.ends.get(each.partition, 0)
        ]
        after._durable_records = len(after.stored)
        after.durable = self.durable
        after.open_commit = self.durable + 1
        return after

    @property
    def values(self) -> list[bytes | None]:
        return [stored.record.value for stored in self.stored]


class MemoryWriter:
    """`early` streams of the journal: acknowledged at once while `reserved` says so."""

    def __init__(self, journal: MemoryJournal, tp: TopicPartition) -> None:
        self._journal = journal
        self._tp = tp
        self.early = tp.topic in journal.early
        self.passed = False
        self.volatile = False

    def hurry(self) -> None:
        self._journal.requests += 1

    def append(
        self, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers = ()
    ) -> int:
        self.passed = self.early and self._journal.reserved
        return self._journal.append(self._tp, Record(timestamp, key, value, headers))


class MemorySource:
    """Reads of the memory journal, carried out at once, or by hand where `by_hand`: in the order of asking."""

    def __init__(self, journal: MemoryJournal) -> None:
        self.by_hand = False
        self.waiting: list[Callable[[], None]] = []
        self.reads = 0
        self.failing = False
        self._journal = journal

    def read(
        self,
        tp: TopicPartition,
        offset: int,
        *,
        bytes_max: int,
        done: Callable[[Reading], None],
    ) -> None:
        self.reads += 1
        if self.by_hand:
            self.waiting.append(lambda: done(self._read(tp, offset, bytes_max)))
        else:
            done(self._read(tp, offset, bytes_max))

    def _read(self, tp: TopicPartition, offset: int, bytes_max: int) -> Reading:
        bounds = self._journal.bounds(tp)
        if self.failing:
            return Reading([], failed=True)
        if offset < bounds.start:
            return Reading([], start=bounds.start)
        found: list[StoredRecord] = []
        size = 0
        for record in self._journal.records(tp, offset):
            size += len(record.value or b"") + len(record.key or b"")
            if found and size > bytes_max:
                break
            found.append(record)
        return Reading(found, size, start=0 if found else bounds.end)


class MemoryTransport:
    """Keeps what was written. `stuck`: the peer does not read, so the buffer only grows."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.writes = 0
        self.closed = False
        self.aborted = False
        self.reading = True
        self.stuck = False

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after close"
        assert data, "an empty write"
        self.written += data
        self.writes += 1

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def reset(self) -> None:
        self.abort()

    def pause_reading(self) -> None:
        assert self.reading, "paused twice"
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading, "resumed twice"
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return len(self.written) if self.stuck else 0


def split_frames(data: bytes) -> list[tuple[int, bytes]]:
    """(first byte, body) of each packet: the tests' own reading of the fixed header."""
    frames: list[tuple[int, bytes]] = []
    position = 0
    while position < len(data):
        first, length, shift = data[position], 0, 0
        position += 1
        while True:
            byte = data[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        assert position + length <= len(data), "half a packet was written"
        frames.append((first, data[position : position + length]))
        position += length
    return frames


class Peer:
    """A client on the other side of a memory transport, speaking through the codec."""

    def __init__(self, bench: Bench, version: Version, visitor: Visitor | None = None) -> None:
        self._bench = bench
        self.version = version
        self.told: list[str] = []
        self.transport = MemoryTransport()
        self.client: Client = bench.broker.client(visitor)
        self.client.connection_made(self.transport)

    def send(self, *packets: Packet) -> None:
        self.send_raw(b"".join(encode_packet(packet, self.version) for packet in packets))

    def send_raw(self, data: bytes) -> None:
        assert self.transport.reading, "a paused socket delivers nothing"
        self.client.data_received(data)

    def take_raw(self) -> bytes:
        data = bytes(self.transport.written)
        self.transport.written.clear()
        return data

    def take(self) -> list[Packet]:
        """What was written since the last time, decoded. Reason strings are put aside in `told`."""
        packets = [
            decode_packet(first, body, self.version)
            for first, body in split_frames(self.take_raw())
        ]
        return [self._put_aside(packet) for packet in packets]

    def _put_aside(self, packet: Packet) -> Packet:
        if isinstance(packet, Pingreq | Pingresp) or packet.properties.reason_string is None:
            return packet
        self.told.append(packet.properties.reason_string)
        properties = msgspec.structs.replace(packet.properties, reason_string=None)
        return msgspec.structs.replace(packet, properties=properties)

    def publish(self, topic: str, payload: bytes = b"x", *, qos: int = 1, id: int = 1) -> None:  # noqa: A002
        self.send(Publish(topic=topic, payload=payload, qos=qos, packet_id=id if qos else 0))

    def subscribe(self, *filters: str, qos: int = 2, id: int = 1) -> list[Packet]:  # noqa: A002
        self.send(
            Subscribe(
                packet_id=id,
                subscriptions=tuple(SubscriptionOptions(each, qos) for each in filters),
            )
        )
        self._bench.keep_promises()
        return self.take()

    def lose(self) -> None:
        """The connection breaks without a DISCONNECT."""
        self.client.connection_lost(None)


class Bench:
    def __init__(
        self,
        *,
        settings: MqttSettings | None = None,
        streams: tuple[StreamSettings, ...] = (),
        journal: MemoryJournal | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.clock = ManualClock()
        self.journal = journal or MemoryJournal()
        self.source = MemorySource(self.journal)
        self.broker = Broker(
            self.journal,
            self.journal,
            source=self.source,
            streams=StreamTable(streams),
            settings=settings or MqttSettings(),
            clock=self.clock,
            rng=random.Random(1),
            observer=observer,
        )

    def sync(self) -> None:
        self.journal.complete(self.journal.seal())

    def keep_promises(self) -> None:
        """Where something was noted of a kept session, the disk says that it has it: then CONNACK or SUBACK comes."""
        if self.journal.noted:
            self.sync()

    def finish_reads(self) -> None:
        """Carry out the reads asked for so far, each at the top of the loop."""
        waiting, self.source.waiting = self.source.waiting, []
        for read in waiting:
            read()
            self.broker.departed()

    def wait(self, seconds: float) -> None:
        """Time passes, tick by tick."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            self.clock.advance(min(TICK_S, end - self.clock.monotonic()))
            self.broker.tick()

    def peer(self, version: Version = Version.V5) -> Peer:
        return Peer(self, version)

    def connect(
        self,
        client_id: str = "c",
        *,
        version: Version = Version.V5,
        clean: bool = True,
        keep_alive: int = 0,
        will: Will | None = None,
        properties: Properties = NO_PROPERTIES,
    ) -> Peer:
        """A peer whose CONNACK was taken and said success."""
        peer = self.peer(version)
        peer.send(
            Connect(
                version=version,
                client_id=client_id,
                clean_start=clean,
                keep_alive=keep_alive,
                will=will,
                properties=properties,
            )
        )
        self.keep_promises()
        (connack,) = peer.take()[:1]
        assert isinstance(connack, Connack)
        assert connack.reason == 0, connack
        return peer
