"""Record batch v2: the same bytes on disk, on the wire and in the bucket.

    bytes  field                    note
    0      base offset       int64  outside the CRC: whoever appends the batch fills it in
    8      length            int32  of what follows this field
    12     leader epoch      int32  outside the CRC too
    16     magic             int8   2
    17     CRC32C            uint32 of everything from byte 21 on
    21     attributes        int16  bits 0-2 codec, 3 stamped by the broker, 4 transactional, 5 control
    23     last offset delta int32  so the next offset is known even where compaction removed records
    27     base timestamp    int64  the first record's, milliseconds
    35     max timestamp     int64
    43     producer id       int64  -1: not idempotent
    51     producer epoch    int16
    53     base sequence     int32  numbered modulo 2**31, one per record
    57     record count      int32
    61     records                  compressed as one piece; see _records_py.py for the layout

Two strengths of checking. `validate_batch` is the door for what somebody else *sends*: length, magic, CRC, a known codec and
as many records as offsets; it does not look inside. `decode_batch` is for reading: it also accepts batches that compaction
made holes in, and every length inside is held against the bytes that are there. Both raise `Corrupt`; a batch that would
grow beyond a limit when decompressed raises `Refused`.

This file knows nothing of journals, sockets or topics.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import msgspec
from crc32c import crc32c

from ._records_py import Span
from .compression import DECOMPRESSED_BYTES_MAX, Buffer, Compression, compress, decompress
from .errors import Corrupt, Refused
from .leaves import records as _leaf
from .record import Headers, StoredRecord

__all__ = [
    "HEADER_BYTES",
    "BatchHeader",
    "Buffer",
    "Columns",
    "Compression",
    "decode_batch",
    "decode_columns",
    "decode_weighed",
    "encode_addressed",
    "encode_batch",
    "parse_header",
    "rebase",
    "split_batches",
    "stamp",
    "validate_batch",
]

HEADER_BYTES = 61
# What precedes a batch's own length: base offset and the length field.
OVERHEAD_BYTES = 12
SEQUENCE_MODULUS = 2**31
_OFFSET_MAX = 2**63 - 1

_MAGIC = 2
_HEADER = struct.Struct(">qiiBIhiqqqhii")
_CHECKED = struct.Struct(">hiqqqhii")  # what the CRC covers of the header
_CHECKED_POSITION = 21
_PREFIX = struct.Struct(">qiiBI")
_LENGTH = struct.Struct(">i")
_BASE_OFFSET = struct.Struct(">q")
_LEADER_EPOCH = struct.Struct(">i")
_LEADER_EPOCH_POSITION = 12
_MAX_TIMESTAMP_POSITION = 35

_CODEC_BITS = 0x07
_LOG_APPEND_TIME = 0x08
_TRANSACTIONAL = 0x10
_CONTROL = 0x20
_CODECS = {codec.value: codec for codec in Compression}

RecordLike = tuple[int, bytes | None, bytes | None, Headers]
Columns = tuple[list[int], list[int], list[bytes | None], list[bytes | None], list[Headers]]


class BatchHeader(msgspec.Struct, frozen=True):
    """The 61 bytes before the records."""

    base_offset: int
    batch_length: int
    leader_epoch: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return OVERHEAD_BYTES + self.batch_length

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def compression(self) -> Compression:
        codec = _CODECS.get(self.attributes & _CODEC_BITS)
        if codec is None:
            raise Corrupt(f"codec {self.attributes & _CODEC_BITS} of a batch is not known")
        return codec

    @property
    def is_control(self) -> bool:
        """Its records are transaction markers, not data."""
        return bool(self.attributes & _CONTROL)

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & _TRANSACTIONAL)

    @property
    def is_stamped(self) -> bool:
        """The broker's clock at append (LogAppendTime) stands for every record: it is `max_timestamp`."""
        return bool(self.attributes & _LOG_APPEND_TIME)

    @property
    def last_sequence(self) -> int:
        """The sequence number of the last record; -1 without one. Wraps from 2**31 - 1 to 0, as Kafka's does."""
        if self.base_sequence < 0:
            return -1
        return (self.base_sequence + self.last_offset_delta) % SEQUENCE_MODULUS


def encode_batch(
    records: Sequence[RecordLike],
    *,
    base_offset: int = 0,
    compression: Compression = Compression.NONE,
    level: int | None = None,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    leader_epoch: int = -1,
) -> bytes:
    """One batch of `Record`s, or of tuples of that shape, at offsets that follow one another."""
    section, base_timestamp, max_timestamp = _leaf.encode_records(records)
    return _assemble(
        section if compression is Compression.NONE else compress(compression, section, level=level),
        attributes=compression.value,
        count=len(records),
        base_timestamp=base_timestamp,
        max_timestamp=max_timestamp,
        base_offset=base_offset,
        producer=(producer_id, producer_epoch, base_sequence),
        leader_epoch=leader_epoch,
    )


def encode_addressed(
    records: Sequence[StoredRecord],
    *,
    prefix: bytes,
    log: bytes,
    more: Headers = (),
    compression: Compression = Compression.NONE,
    level: int | None = None,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
) -> bytes:
    """One batch of stored records, each with its address and its log's identity as two more headers.

    `prefix` is the address up to the offset (`edge/stream/partition/`), `log` the 16 hex digits, `more` headers that
    all of them get after these (packed once, so they cost next to nothing). The offsets must follow one another, since
    sequence numbers count them; a hole raises Refused.
    """
    if not records:
        raise Refused("a batch holds at least one record")
    base_offset = records[0][0]
    if records[-1][0] - base_offset != len(records) - 1:
        raise Refused(f"offsets {base_offset} to {records[-1][0]} of {len(records)} have a hole")
    rest = (more,) if more else ()
    section, base_timestamp, max_timestamp = _leaf.encode_addressed(records, prefix, log, *rest)
    return _assemble(
        section if compression is Compression.NONE else compress(compression, section, level=level),
        attributes=compression.value,
        count=len(records),
        base_timestamp=base_timestamp,
        max_timestamp=max_timestamp,
        base_offset=base_offset,
        producer=(producer_id, producer_epoch, base_sequence),
        leader_epoch=-1,
    )


def _assemble(
    body: bytes,
    *,
    attributes: int,
    count: int,
    base_timestamp: int,
    max_timestamp: int,
    base_offset: int,
    producer: tuple[int, int, int],
    leader_epoch: int,
) -> bytes:
    try:
        checked = _CHECKED.pack(
            attributes, count - 1, base_timestamp, max_timestamp, *producer, count
        )
        length = HEADER_BYTES - OVERHEAD_BYTES + len(body)
        crc = crc32c(body, crc32c(checked))
        prefix = _PREFIX.pack(base_offset, length, leader_epoch, _MAGIC, crc)
    except struct.error as error:
        raise Refused(f"a field of the batch does not fit: {error}") from error
    return b"".join((prefix, checked, body))


def parse_header(buffer: Buffer, position: int = 0) -> BatchHeader:
    """The header at `position`; raises Corrupt where it is cut short, of another magic, or impossible. No CRC."""
    if len(buffer) - position < HEADER_BYTES or position < 0:
        raise Corrupt(f"a batch header at byte {position} is cut short")
    (
        base_offset, length, epoch, magic, crc, attributes, last_delta,
        base_timestamp, max_timestamp, producer_id, producer_epoch, sequence, count,
    ) = _HEADER.unpack_from(buffer, position)  # fmt: skip
    if magic != _MAGIC:
        raise Corrupt(f"a batch at byte {position} has magic {magic}; only 2 is read")
    if length < HEADER_BYTES - OVERHEAD_BYTES:
        raise Corrupt(f"a batch at byte {position} has the impossible length {length}")
    if last_delta < 0 or not 0 <= count <= last_delta + 1:
        raise Corrupt(
            f"a batch at byte {position} has {count} records over {last_delta + 1} offsets"
        )
    if base_offset > _OFFSET_MAX - last_delta:
        raise Corrupt(f"a batch at byte {position} reaches past the last possible offset")
    return BatchHeader(
        base_offset, length, epoch, crc, attributes, last_delta,
        base_timestamp, max_timestamp, producer_id, producer_epoch, sequence, count,
    )  # fmt: skip


def _check_crc(buffer: Buffer, position: int, header: BatchHeader) -> None:
    end = position + header.size
    if end > len(buffer):
        raise Corrupt(
            f"a batch of {header.size} bytes at byte {position} is cut short at {len(buffer)}"
        )
    crc = crc32c(memoryview(buffer)[position + _CHECKED_POSITION : end])
    if crc != header.crc:
        raise Corrupt(f"a batch at byte {position} has CRC {header.crc:08x}, its bytes {crc:08x}")


def validate_batch(buffer: Buffer, position: int = 0) -> BatchHeader:
    """The door for a batch that a producer made: whole, CRC right, a known codec, one record for each offset."""
    header = parse_header(buffer, position)
    _check_crc(buffer, position, header)
    if header.record_count != header.last_offset_delta + 1:
        raise Corrupt(
            f"a batch at byte {position} has {header.record_count} records over "
            f"{header.last_offset_delta + 1} offsets"
        )
    _ = header.compression  # raises for an unknown codec
    return header


def _section(buffer: Buffer, position: int, limit: int) -> tuple[BatchHeader, Buffer]:
    """The header, and the records decompressed."""
    header = parse_header(buffer, position)
    _check_crc(buffer, position, header)
    body: Buffer = memoryview(buffer)[position + HEADER_BYTES : position + header.size]
    codec = header.compression
    if codec is not Compression.NONE and header.record_count:
        body = decompress(codec, body, limit=limit)
    return header, body


def _span(header: BatchHeader) -> Span:
    return Span(
        header.record_count,
        header.last_offset_delta,
        header.base_offset,
        header.base_timestamp,
        header.max_timestamp if header.is_stamped else None,
    )


def decode_batch(
    buffer: Buffer, position: int = 0, *, limit: int = DECOMPRESSED_BYTES_MAX
) -> tuple[BatchHeader, list[StoredRecord]]:
    """The batch at `position`, its CRC checked; `limit` bounds what it may decompress to."""
    header, body = _section(buffer, position, limit)
    return header, _leaf.decode_records(body, _span(header))


def decode_columns(
    buffer: Buffer, position: int = 0, *, limit: int = DECOMPRESSED_BYTES_MAX
) -> tuple[BatchHeader, Columns]:
    """As `decode_batch`, but as (offsets, timestamps, keys, values, headers): five lists of equal length."""
    header, columns, _ = decode_weighed(buffer, position, limit=limit)
    return header, columns


def decode_weighed(
    buffer: Buffer, position: int = 0, *, limit: int = DECOMPRESSED_BYTES_MAX
) -> tuple[BatchHeader, Columns, int]:
    """As `decode_columns`, and how many bytes the records were when decompressed: for whoever gathers many batches."""
    header, body = _section(buffer, position, limit)
    return header, _leaf.decode_columns(body, _span(header)), len(body)


def rebase(batch: Buffer, *, base_offset: int, leader_epoch: int = -1) -> bytes:
    """The same batch at another offset: both fields lie outside the CRC, nothing is encoded again."""
    return b"".join(
        (
            _BASE_OFFSET.pack(base_offset),
            batch[_BASE_OFFSET.size : _LEADER_EPOCH_POSITION],
            _LEADER_EPOCH.pack(leader_epoch),
            batch[_LEADER_EPOCH_POSITION + _LEADER_EPOCH.size :],
        )
    )


def stamp(batch: Buffer, *, timestamp: int) -> bytes:
    """The same batch with the broker's time on every record (LogAppendTime): one field and one bit, and so a new CRC."""
    out = bytearray(batch)
    (attributes,) = struct.unpack_from(">h", out, _CHECKED_POSITION)
    struct.pack_into(">h", out, _CHECKED_POSITION, attributes | _LOG_APPEND_TIME)
    struct.pack_into(">q", out, _MAX_TIMESTAMP_POSITION, timestamp)
    struct.pack_into(">I", out, _CHECKED_POSITION - 4, crc32c(memoryview(out)[_CHECKED_POSITION:]))
    return bytes(out)


def split_batches(buffer: Buffer) -> Iterator[tuple[BatchHeader, memoryview]]:
    """The batches that follow one another in `buffer`, no CRC checked. A last one that is cut short is left out (KIP-74)."""
    view = memoryview(buffer)
    position = 0
    while len(view) - position >= HEADER_BYTES:
        header = parse_header(view, position)
        if header.size > len(view) - position:
            return
        yield header, view[position : position + header.size]
        position += header.size
