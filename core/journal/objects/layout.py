"""Bytes of one log object: header, index, data. Nothing here knows of stores.

The header names slot, writer and epoch, holds the CRC32C of all that follows, and chains to the object before it.
A fence is a header alone, so a fence is recognised by its size. Batches of one partition lie side by side in one
*run*, which one range GET reads; the entry list keeps the order of submission across runs.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, assert_never

import msgspec
from crc32c import crc32c

from ...errors import Corrupt, Refused
from ...record import TopicPartition
from .entries import Batch, Drop, Entry, Event, Trim

FORMAT_VERSION = 1
_MAGIC = b"HWAL"
# magic, format, reserved, shard, index bytes, seq, epoch, writer, previous, data bytes, written ms, body CRC, header CRC
_HEADER = struct.Struct("<4sHHIIQQ16s16sQqII")
_HEADER_CRC = struct.Struct("<I")
HEADER_BYTES = _HEADER.size
FENCE_BYTES = HEADER_BYTES
NO_PREVIOUS = bytes(16)

# The few fields of a record batch v2 that the index needs (Kafka's message format document).
_BATCH_START = struct.Struct(">qi")  # base offset, length of what follows
_BATCH_DELTA = struct.Struct(">i")  # last offset delta, at byte 23
_BATCH_MAX_TIME = struct.Struct(">q")  # max timestamp, at byte 35
_BATCH_HEADER_BYTES = 61


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Who wrote which slot. Equal headers mean the same object: a writer puts one content into a slot."""

    shard: int
    seq: int
    epoch: int
    writer: bytes
    previous: bytes
    written_ms: int
    index_bytes: int = 0
    data_bytes: int = 0
    body_crc: int = 0

    @property
    def is_fence(self) -> bool:
        return self.index_bytes == 0

    @property
    def data_start(self) -> int:
        return HEADER_BYTES + self.index_bytes

    def encode(self) -> bytes:
        packed = _HEADER.pack(
            _MAGIC, FORMAT_VERSION, 0, self.shard, self.index_bytes, self.seq, self.epoch, self.writer,
            self.previous, self.data_bytes, self.written_ms, self.body_crc, 0,
        )  # fmt: skip
        return packed[:-4] + _HEADER_CRC.pack(crc32c(packed[:-4]))

    def digest(self) -> bytes:
        """What the next object's `previous` must be."""
        return hashlib.blake2b(self.encode(), digest_size=16).digest()


class BatchSpan(NamedTuple):
    """What the index keeps of a batch. `size` counts all its bytes."""

    base: int
    last: int
    max_timestamp: int
    size: int


class Run(msgspec.Struct, frozen=True, array_like=True):
    """The batches of one partition in one object. `position` counts from the start of the object."""

    topic: str
    partition: int
    base: int
    last: int
    position: int
    size: int
    max_timestamp: int


class _BatchItem(msgspec.Struct, frozen=True, array_like=True, tag=0):
    run: int
    size: int


class _EventItem(msgspec.Struct, frozen=True, array_like=True, tag=1):
    data: bytes


class _TrimItem(msgspec.Struct, frozen=True, array_like=True, tag=2):
    topic: str
    partition: int
    start: int


class _DropItem(msgspec.Struct, frozen=True, array_like=True, tag=3):
    topic: str
    partition: int


class _Index(msgspec.Struct, frozen=True, array_like=True):
    runs: list[Run]
    items: list[_BatchItem | _EventItem | _TrimItem | _DropItem]


class LogObject(NamedTuple):
    """One object, decoded. `runs` are in the order of their first entry; positions count from the object's start."""

    header: Header
    entries: Sequence[Entry]
    runs: Sequence[Run]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Index)


def batch_span(data: bytes | memoryview, position: int = 0) -> BatchSpan:
    """Reads the few fields; the CRC is the business of whoever accepts or fetches the batch. Raises Corrupt."""
    if len(data) - position < _BATCH_HEADER_BYTES:
        raise Corrupt(f"record batch cut off at byte {position} of {len(data)}")
    base, length = _BATCH_START.unpack_from(data, position)
    (delta,) = _BATCH_DELTA.unpack_from(data, position + 23)
    (max_timestamp,) = _BATCH_MAX_TIME.unpack_from(data, position + 35)
    size = length + _BATCH_START.size
    if size < _BATCH_HEADER_BYTES or position + size > len(data) or delta < 0 or base < 0:
        raise Corrupt(f"record batch at byte {position}: size {size}, base {base}, delta {delta}")
    return BatchSpan(base, base + delta, max_timestamp, size)


def split_run(data: bytes | memoryview) -> Iterator[tuple[BatchSpan, memoryview]]:
    """The whole batches of a run, in offset order. Raises Corrupt."""
    view = memoryview(data)
    position = 0
    while position < len(view):
        span = batch_span(view, position)
        yield span, view[position : position + span.size]
        position += span.size


class _RunBuilder:
    """Gathers the batches of one partition while an object is built."""

    __slots__ = ("first", "last", "max_timestamp", "partition", "parts", "size")

    def __init__(self, partition: TopicPartition, span: BatchSpan) -> None:
        self.partition = partition
        self.first = span.base
        self.last = span.base - 1
        self.max_timestamp = span.max_timestamp
        self.size = 0
        self.parts: list[bytes] = []

    def add(self, data: bytes, span: BatchSpan) -> None:
        if span.base != self.last + 1:
            raise Refused(f"{self.partition}: batch at {span.base} does not follow {self.last}")
        self.parts.append(data)
        self.last = span.last
        self.size += span.size
        self.max_timestamp = max(self.max_timestamp, span.max_timestamp)


def encode_fence(header: Header) -> bytes:
    assert header.is_fence
    return header.encode()


def encode_commit(header: Header, entries: Sequence[Entry]) -> tuple[LogObject, bytes]:
    """Completes `header` (sizes, CRC) over the entries, which must not be empty."""
    assert entries, "an object without entries would be taken for a fence"
    builders: list[_RunBuilder] = []
    open_run: dict[TopicPartition, int] = {}
    items: list[_BatchItem | _EventItem | _TrimItem | _DropItem] = []
    for entry in entries:
        match entry:
            case Batch(partition, data):
                span = batch_span(data)
                number = open_run.get(partition)
                if number is None:
                    number = open_run[partition] = len(builders)
                    builders.append(_RunBuilder(partition, span))
                builders[number].add(data, span)
                items.append(_BatchItem(number, span.size))
            case Event(data):
                items.append(_EventItem(data))
            case Trim(partition, start):
                items.append(_TrimItem(partition.topic, partition.partition, start))
            case Drop(partition):
                open_run.pop(partition, None)  # what follows is another life of the same name
                items.append(_DropItem(partition.topic, partition.partition))
            case _:
                assert_never(entry)
    relative: list[Run] = []
    position = 0
    for run in builders:
        relative.append(
            Run(*run.partition, run.first, run.last, position, run.size, run.max_timestamp)
        )
        position += run.size
    index = _encoder.encode(_Index(relative, items))
    body = b"".join([index, *(part for run in builders for part in run.parts)])
    full = Header(
        shard=header.shard, seq=header.seq, epoch=header.epoch, writer=header.writer,
        previous=header.previous, written_ms=header.written_ms,
        index_bytes=len(index), data_bytes=position, body_crc=crc32c(body),
    )  # fmt: skip
    runs = _absolute(relative, full.data_start)
    return LogObject(full, entries, runs), full.encode() + body


def decode_header(data: bytes | memoryview, *, key: str) -> Header:
    """Raises Corrupt."""
    if len(data) < HEADER_BYTES:
        raise Corrupt(f"{key}: {len(data)} bytes are no log object")
    (
        magic, version, _, shard, index_bytes, seq, epoch, writer, previous, data_bytes, written_ms,
        body_crc, header_crc,
    ) = _HEADER.unpack_from(data)  # fmt: skip
    if magic != _MAGIC or header_crc != crc32c(data[: HEADER_BYTES - 4]):
        raise Corrupt(f"{key}: not the header of a log object")
    if version != FORMAT_VERSION:
        raise Refused(f"{key}: log format {version}, this build reads {FORMAT_VERSION}")
    return Header(
        shard=shard, seq=seq, epoch=epoch, writer=writer, previous=previous, written_ms=written_ms,
        index_bytes=index_bytes, data_bytes=data_bytes, body_crc=body_crc,
    )  # fmt: skip


def decode_object(data: bytes, *, key: str) -> LogObject:
    """The whole object, every length and the CRC checked. Raises Corrupt."""
    header, index = _checked(data, key)
    runs = _absolute(index.runs, header.data_start)
    return LogObject(header, _entries(index, memoryview(data)[header.data_start :], key), runs)


def decode_runs(data: bytes, *, key: str) -> list[Run]:
    """Where the batches lie, after the same checks, without copying them. Raises Corrupt."""
    header, index = _checked(data, key)
    return _absolute(index.runs, header.data_start)


def _checked(data: bytes, key: str) -> tuple[Header, _Index]:
    header = decode_header(data, key=key)
    body = memoryview(data)[HEADER_BYTES:]
    if len(body) != header.index_bytes + header.data_bytes or crc32c(body) != header.body_crc:
        raise Corrupt(f"{key}: {len(data)} bytes do not match the header's length and CRC")
    if header.is_fence:
        return header, _Index([], [])
    try:
        return header, _decoder.decode(body[: header.index_bytes])
    except msgspec.MsgspecError as error:
        raise Corrupt(f"{key}: index: {error}") from error


def _absolute(runs: Sequence[Run], data_start: int) -> list[Run]:
    return [
        Run(r.topic, r.partition, r.base, r.last, r.position + data_start, r.size, r.max_timestamp)
        for r in runs
    ]


def _entries(index: _Index, data: memoryview, key: str) -> list[Entry]:
    cursors = [run.position for run in index.runs]
    entries: list[Entry] = []
    for item in index.items:
        match item:
            case _BatchItem(number, size):
                if number >= len(cursors) or cursors[number] + size > len(data):
                    raise Corrupt(f"{key}: a batch lies outside the data")
                run = index.runs[number]
                start = cursors[number]
                cursors[number] = start + size
                partition = TopicPartition(run.topic, run.partition)
                entries.append(Batch(partition, bytes(data[start : start + size])))
            case _EventItem(payload):
                entries.append(Event(payload))
            case _TrimItem(topic, number, start):
                entries.append(Trim(TopicPartition(topic, number), start))
            case _DropItem(topic, number):
                entries.append(Drop(TopicPartition(topic, number)))
            case _:
                assert_never(item)
    return entries
