"""Reading back: what of ours is in the cloud's tail, told by the addresses in the records' headers.

Asked where the broker's own memory (producer state) does not answer. Reads from `floor` to the high watermark as it stood
when reading began; only what is below it is replicated. A record is ours when both its address (edge, stream, partition)
and its log id match. Since we send in order, the highest own offset tells that all before it is there too, or was given
up before it was sent.

Where `floor` lies below the log's start, retention took what was there. Where it lies beyond the log's end, this is not the
log that it was found in: the topic was made anew, or an election lost its tail. Then all there is is read, and what is not
there is not anywhere.

An address says who wrote a record, and a copy of our data directory says the same. So the newest own records are held
against the journal (`Sample`): one that differs was written by another edge that believes to be this one.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from ...core.batch import BatchHeader, decode_batch, split_batches
from ...core.errors import Missing, Unavailable
from ...core.kafka.errors import ErrorCode
from ...core.kafka.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    PartitionData,
)
from ...core.kafka.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from ...core.record import (
    ADDRESS_HEADER,
    LOG_HEADER,
    RANGE_HEADER,
    StoredRecord,
    TopicPartition,
)
from .cluster import Cluster, check
from .cursor import PartitionCursor
from .cutting import Origin
from .evidence import Described, Found, Sample

# Of one answer: two links' worth of a batch; read back is rare and must not crowd out what is live.
_FETCH_BYTES = 1024 * 1024
# Batches of which a record is kept to be compared; each costs a journal read.
_SAMPLES = 32
LATEST = -1
EARLIEST = -2


async def cloud_offset(cluster: Cluster, target: TopicPartition, timestamp: int) -> int:
    """ListOffsets: the first offset at or after `timestamp` (ms); the end where there is none."""
    node = cluster.leader(target)
    if node is None:
        raise Unavailable(f"{target} has no leader")
    question = ListOffsetsPartition(partition_index=target.partition, timestamp=timestamp)
    response = await cluster.ask(
        node,
        ListOffsetsRequest(
            replica_id=-1, topics=[ListOffsetsTopic(name=target.topic, partitions=[question])]
        ),
    )
    for topic in response.topics:
        for partition in topic.partitions:
            check(partition.error_code, f"list offsets of {target}")
            if partition.offset >= 0:
                return partition.offset
            if timestamp != LATEST:
                return await cloud_offset(cluster, target, LATEST)
    raise Missing(f"no answer about {target} in ListOffsets")


async def cloud_ends(
    cluster: Cluster, targets: Collection[TopicPartition]
) -> dict[TopicPartition, int]:
    """ListOffsets: the end of each, asking each leader once. Raises Unavailable, Unknown."""
    groups: dict[int, dict[str, list[ListOffsetsPartition]]] = {}
    for target in targets:
        node = cluster.leader(target)
        if node is None:
            raise Unavailable(f"{target} has no leader")
        question = ListOffsetsPartition(partition_index=target.partition, timestamp=LATEST)
        groups.setdefault(node, {}).setdefault(target.topic, []).append(question)
    ends: dict[TopicPartition, int] = {}
    for node, topics in groups.items():
        wanted = [ListOffsetsTopic(name=name, partitions=asked) for name, asked in topics.items()]
        response = await cluster.ask(node, ListOffsetsRequest(replica_id=-1, topics=wanted))
        for topic in response.topics:
            for partition in topic.partitions:
                target = TopicPartition(topic.name, partition.partition_index)
                check(partition.error_code, f"list offsets of {target}")
                ends[target] = partition.offset
    if missing := set(targets) - set(ends):
        raise Unavailable(f"no answer about {min(missing)} in ListOffsets")
    return ends


async def read_back(
    cluster: Cluster,
    source: TopicPartition,
    target: TopicPartition,
    origin: Origin,
    *,
    cursor: PartitionCursor,
) -> Found:
    """What lies from cloud offset `cursor.floor` on. Raises Unavailable, Unknown."""
    floor, producer_id = cursor.floor, cursor.era.producer_id
    prefix = f"{origin.edge}/{source.topic}/{source.partition}/".encode()
    log = origin.log.encode()
    position, truncated, remade, end = floor, False, False, -1
    seen: dict[int, int] = {}
    samples: deque[Sample] = deque(maxlen=_SAMPLES)
    after, last = floor, None
    while end < 0 or position < end:
        data = await _fetch(cluster, target, position)
        if data.error_code == ErrorCode.OFFSET_OUT_OF_RANGE:
            start = await cloud_offset(cluster, target, EARLIEST)
            if start == position:
                raise Unavailable(f"{target} has no offset {position} and begins there")
            if start < position:  # what was seen so far lay in a log that is gone
                after, last, remade = start, None, True
                seen.clear()
                samples.clear()
            truncated = start > position
            position, end = start, -1
            continue
        check(data.error_code, f"fetch of {target} at {position}")
        end = data.high_watermark if end < 0 else end
        before = position
        for header, batch in split_batches(data.records or b""):
            if header.next_offset <= position:
                continue
            position = header.next_offset
            if header.producer_id == producer_id:
                last = Described(header.producer_epoch, header.last_sequence)
            own = _own(header, batch, prefix, log)
            if own:
                samples.append(Sample(own[-1].offset, digest(own[-1].record)))
            for each in own:
                seen[each.label] = max(each.offset + 1, seen.get(each.label, 0))
                if each.offset >= cursor.origin:
                    after = header.next_offset
        if position == before and position < end:
            raise Unavailable(f"fetch of {target} at {position} brought nothing below {end}")
    return Found(seen, after, truncated, last, tuple(samples), remade)


async def _fetch(cluster: Cluster, target: TopicPartition, position: int) -> PartitionData:
    node = cluster.leader(target)
    if node is None:
        raise Unavailable(f"{target} has no leader")
    wanted = FetchPartition(
        partition=target.partition, fetch_offset=position, partition_max_bytes=_FETCH_BYTES
    )
    response: FetchResponse = await cluster.ask(
        node,
        FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=_FETCH_BYTES,
            topics=[FetchTopic(topic=target.topic, partitions=[wanted])],
        ),
    )
    check(response.error_code, f"fetch of {target}")
    for topic in response.responses:
        for data in topic.partitions:
            return data
    raise Unavailable(f"no answer about {target} in Fetch")


class Own(NamedTuple):
    """A record of ours: its offset at the edge, the origin of the range it was sent in."""

    offset: int
    label: int
    record: StoredRecord


def digest(record: StoredRecord) -> int:
    """Of what a broker hands through as it is: not of the timestamp, which a topic may be set to replace."""
    return zlib.crc32(record.value or b"", zlib.crc32(record.key or b""))


def _own(
    header: BatchHeader, batch: bytes | bytearray | memoryview, prefix: bytes, log: bytes
) -> list[Own]:
    return [] if header.is_control else list(own_records(decode_batch(batch)[1], prefix, log))


def own_records(records: Iterable[StoredRecord], prefix: bytes, log: bytes) -> Iterator[Own]:
    """Those among these records that carry our address and log id."""
    for record in records:
        address = identity = label = None
        for name, value in record.headers:
            if name == ADDRESS_HEADER:
                address = value
            elif name == LOG_HEADER:
                identity = value
            elif name == RANGE_HEADER:
                label = value
        if address is None or identity != log or not address.startswith(prefix):
            continue
        digits = address[len(prefix) :]
        if digits.isdigit():
            origin = int(label) if label is not None and label.isdigit() else 0
            yield Own(int(digits), origin, record)
