"""The cursor: what the uplink must know again after a power cut, in two small files that are replaced in turn.

    <data_dir>/uplink/cursor-0, cursor-1     8 bytes "hwcursor", CRC32 of the rest, generation uint64, msgpack of `Cursors`

Two kinds of fact stand in it. *Identity* (producer ids, pinning, eras, the place to read back from) is durable before its
first use, always: a save is awaited. *Progress* (`acked`, `floor`) may be stale, since it can be asked for again; it is
written at a bounded pace.

Each file is replaced as a whole (temporary file, sync, rename, sync of the directory), so a power cut leaves the last save
or the one before. If the newest is damaged all the same, the other one serves, as *suspect*: its eras may be older than
what the broker has seen and its ranges fewer, so each partition reads back what was sent since and begins a new era
before it sends. If both are damaged the uplink starts as on a new cluster, and finds out by reading back what the cloud
already has (`rebuilt`). A file that is gone is as good as damaged: an edge whose log is still empty writes its first one
before it takes a record, so a log with records and no file has lost it (or never had an uplink: then nothing is found).
It never refuses to start.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import zlib

import msgspec

from ...core.disk import Disk, read_whole, replace_whole
from ...core.errors import HeadwaterError, Missing, Refused, Unavailable
from ...core.record import TopicPartition

_MAGIC = b"hwcursor"
_HEAD = struct.Struct(">8sIQ")
_FILES = ("cursor-0", "cursor-1")
_SEQUENCE_MASK = 2**31 - 1
EPOCH_MAX = 2**15 - 1
# Clusters remembered: one in use, one migrated from, and room to go back and forth; each costs some 60 bytes a partition.
CLUSTERS_MAX = 4


class Era(msgspec.Struct, frozen=True):
    """A producer's identity on one partition; see the package's theory."""

    producer_id: int
    epoch: int
    origin: int

    def sequence(self, offset: int) -> int:
        return (offset - self.origin) & _SEQUENCE_MASK

    def next_offset(self, last_sequence: int, *, near: int) -> int:
        """The offset after the one numbered `last_sequence`: of all that share the number, the nearest to `near`."""
        ahead = (last_sequence + 1 - self.sequence(near)) & _SEQUENCE_MASK
        if ahead > _SEQUENCE_MASK // 2:
            ahead -= _SEQUENCE_MASK + 1
        return max(self.origin, near + ahead)


class PartitionCursor(msgspec.Struct, frozen=True):
    """One range of an edge partition on one cluster. `target` of `partitions` cloud partitions is pinned at first contact.

    All of the range below `acked` is in the cloud for good; nothing of it from `acked` on lies below cloud offset `floor`.
    `origin`: where the range begins (ranges.py); it ends where the next one begins. `suspect`: this may be an older copy
    of the cursor, so what was sent since must be found by reading back, under a new identity, before anything is sent.
    """

    partitions: int
    target: int
    era: Era
    acked: int
    floor: int
    origin: int = 0
    suspect: bool = False

    def moved(self, acked: int, floor: int | None = None) -> PartitionCursor:
        """`floor` may be lower than before: a topic that was made anew counts from zero."""
        floor = self.floor if floor is None else floor
        return msgspec.structs.replace(self, acked=acked, floor=floor)


class ClusterCursor(msgspec.Struct):
    """Everything about one cluster. `used` orders the clusters by last use.

    `streams` holds the first range of each partition, `beyond` the others of those that have several: a file from before
    there were ranges is read as it stands. `topics`: the ids of the topics that all of this is about.
    """

    used: int = 0
    rebuilt: bool = False
    producers: dict[int, int] = {}
    streams: dict[str, dict[int, PartitionCursor]] = {}
    beyond: dict[str, dict[int, list[PartitionCursor]]] = {}
    topics: dict[str, str] = {}

    def get(self, partition: TopicPartition) -> list[PartitionCursor]:
        """Its ranges in the order of their offsets; none where the cluster never saw it."""
        stream, number = partition
        first = self.streams.get(stream, {}).get(number)
        return [] if first is None else [first, *self.beyond.get(stream, {}).get(number, ())]

    def put(self, partition: TopicPartition, cursors: list[PartitionCursor]) -> None:
        stream, number = partition
        self.streams.setdefault(stream, {})[number] = cursors[0]
        if len(cursors) > 1:
            self.beyond.setdefault(stream, {})[number] = cursors[1:]
        elif number in self.beyond.get(stream, {}):
            del self.beyond[stream][number]

    def pinned_partitions(self, stream: str) -> int | None:
        """How many cloud partitions the stream was spread over at first contact."""
        return next((cursor.partitions for cursor in self.streams.get(stream, {}).values()), None)


class Cursors(msgspec.Struct):
    log: str
    clusters: dict[str, ClusterCursor] = {}
    edge: str = ""

    def suspect(self) -> None:
        """A newer copy than this one was lost."""
        for cluster in self.clusters.values():
            for stream, numbers in cluster.streams.items():
                for number in numbers:
                    partition = TopicPartition(stream, number)
                    cursors = cluster.get(partition)
                    cluster.put(
                        partition,
                        [msgspec.structs.replace(cursor, suspect=True) for cursor in cursors],
                    )

    def rename(self, edge: str) -> None:
        """Whose cursors these are. Under another name they may be a copy of another edge's (an image, a backup): it goes on
        where they stand, under producer ids of its own."""
        if self.edge not in {"", edge}:
            self.suspect()
            for cluster in self.clusters.values():
                cluster.producers.clear()
        self.edge = edge


class CursorStore:
    """Loads and saves `Cursors`. `save` is synchronous and may be called in another thread with bytes made on the loop."""

    def __init__(
        self, disk: Disk, directory: str, *, log_id: str, edge: str, is_first: bool = True
    ) -> None:
        """`is_first`: the log holds nothing yet, so nothing of it can be in any cloud."""
        self._disk = disk
        self._directory = directory
        self._generation = 0
        self._written = 0
        self._writing = threading.Lock()
        self.damaged: list[str] = []
        disk.make_directory(directory)
        self.cursors = self._load(log_id, is_first)
        self.cursors.rename(edge)

    def _load(self, log_id: str, is_first: bool) -> Cursors:
        best: Cursors | None = None
        gone: list[str] = []
        for name in _FILES:
            path = f"{self._directory}/{name}"
            try:
                generation, cursors = _decode(read_whole(self._disk, path))
            except Missing:
                gone.append(f"{path} is gone")
                continue
            except (Refused, Unavailable) as error:
                self.damaged.append(f"{path}: {error}")
                continue
            if generation > self._generation:
                self._generation, best = generation, cursors
        if self._generation > 1 or (best is None and not is_first):
            self.damaged += gone  # one save fills one file, every second save the same
        if best is not None and best.log == log_id:
            if self.damaged:
                best.suspect()
            return best
        # Another log id: the edge's data were wiped, offsets begin anew. Old producer ids must not meet them.
        fresh = Cursors(log=log_id)
        if best is None and self.damaged:
            fresh.clusters[""] = ClusterCursor(
                rebuilt=True
            )  # becomes the cluster that is met first
        return fresh

    def begin(self) -> None:
        """The first file, before the log takes its first record. Without it a later start reads back in vain."""
        if not self._generation:
            with contextlib.suppress(HeadwaterError):
                self.write(self.encode())

    def cluster(self, cluster_id: str) -> tuple[ClusterCursor, bool]:
        """The cursor of this cluster and whether it was never met before; forgets the least recently used."""
        clusters = self.cursors.clusters
        known = clusters.get(cluster_id)
        cursor = known or clusters.pop("", None) or ClusterCursor()
        clusters[cluster_id] = cursor
        cursor.used = 1 + max(other.used for other in clusters.values())
        for stale in sorted(clusters, key=lambda name: -clusters[name].used)[CLUSTERS_MAX:]:
            del clusters[stale]
        return cursor, known is None

    def encode(self) -> bytes:
        """The next generation, as bytes: made on the loop, in one piece with the state it describes."""
        self._generation += 1
        body = struct.pack(">Q", self._generation) + msgspec.msgpack.encode(self.cursors)
        return _HEAD.pack(_MAGIC, zlib.crc32(body), self._generation) + body[8:]

    def write(self, data: bytes) -> None:
        """Durable on return. Raises Unavailable; then the older file still stands. Any thread."""
        generation = _HEAD.unpack_from(data)[2]
        with self._writing:
            if generation < self._written:
                return  # overtaken: newer bytes, which hold all of these facts or later ones, are durable
            replace_whole(self._disk, f"{self._directory}/{_FILES[generation % 2]}", data)
            self._written = generation


def _decode(data: bytes) -> tuple[int, Cursors]:
    if len(data) < _HEAD.size:
        raise Refused("a cursor file is cut short")
    magic, crc, generation = _HEAD.unpack_from(data)
    if magic != _MAGIC or zlib.crc32(data[12:]) != crc:
        raise Refused("a cursor file does not hold what was written")
    try:
        return generation, msgspec.msgpack.decode(data[_HEAD.size :], type=Cursors)
    except msgspec.MsgspecError as error:
        raise Refused(f"a cursor file of another format: {error}") from error
