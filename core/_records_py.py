"""The records section of a batch, in pure Python: the twin of the compiled leaf `_records.pyx`.

Both have the same functions and pass the same tests; `records_codec.py` chooses. The section is a row of records:

    length varint, attributes int8 (0), timestamp delta varlong, offset delta varint,
    key length varint (-1: null) and key, value length varint (-1: null) and value,
    header count varint, then for each header: key length varint and key (UTF-8), value length varint (-1: null) and value

Varints are zigzag. Rule for reading: no length and no count is believed before it was held against the bytes that are there;
whatever does not fit raises `Corrupt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from .errors import Corrupt, Refused
from .record import ADDRESS_HEADER, LOG_HEADER, Headers, StoredRecord

Buffer: TypeAlias = bytes | bytearray | memoryview
RecordLike: TypeAlias = tuple[int, bytes | None, bytes | None, Headers]
Columns: TypeAlias = tuple[
    list[int], list[int], list[bytes | None], list[bytes | None], list[Headers]
]

COMPILED = False
# Raised when a signature changes: a leaf that was built before then is not used (leaves.py).


class Span(NamedTuple):
    """What a batch's header says of its records."""

    record_count: int
    last_offset_delta: int
    base_offset: int
    base_timestamp: int
    append_timestamp: int | None  # of all records, where the broker stamped the batch


# Length, attributes, two deltas, key length, value length, header count: one byte each at the least.
RECORD_BYTES_MIN = 7
_INT32_MAX = 2**31 - 1
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_NULL = b"\x01"  # the zigzag varint of -1


def _varint(value: int) -> bytes:
    """Zigzag of a 64-bit number, then seven bits a byte, the lowest first."""
    rest = (value << 1) ^ (value >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


# Lengths and deltas are nearly always small: looked up rather than computed.
_SMALL_MAX = 4096
_SMALL = tuple(_varint(value) for value in range(_SMALL_MAX))


def _size(value: int) -> bytes:
    """The varint of a length, a count or a delta."""
    return _SMALL[value] if 0 <= value < _SMALL_MAX else _varint(value)


def _encode_headers(headers: Headers) -> bytes:
    parts = [_size(len(headers))]
    for name, value in headers:
        encoded = name.encode()
        if value is None:
            parts += (_size(len(encoded)), encoded, _NULL)
        else:
            parts += (_size(len(encoded)), encoded, _size(len(value)), value)
    return b"".join(parts)


def encode_records(records: Sequence[RecordLike]) -> tuple[bytes, int, int]:
    """The section, the base timestamp (the first record's) and the largest timestamp."""
    small = _SMALL
    small_max = _SMALL_MAX
    if not records:
        raise Refused("a batch holds at least one record")
    base = newest = records[0][0]
    parts: list[bytes] = []
    add = parts.append
    for offset, (timestamp, key, value, headers) in enumerate(records):
        if timestamp > newest:  # noqa: PLR1730 - a third faster than max()
            newest = timestamp
        delta = timestamp - base
        if not _INT64_MIN <= delta <= _INT64_MAX:
            raise Refused(f"timestamps {base} and {timestamp} do not fit into one batch")
        head = b"\0%b%b" % (
            small[delta] if 0 <= delta < small_max else _varint(delta),
            small[offset] if offset < small_max else _varint(offset),
        )
        if key is None:
            head += _NULL
        else:
            size = len(key)
            head += (small[size] if size < small_max else _varint(size)) + key
        tail = _encode_headers(headers) if headers else b"\0"
        if value is None:
            size = len(head) + 1 + len(tail)
            add(small[size] if size < small_max else _varint(size))
            add(head)
            add(_NULL)
        else:
            size = len(value)
            head += small[size] if size < small_max else _varint(size)
            size += len(head) + len(tail)
            add(small[size] if size < small_max else _varint(size))
            add(head)
            add(value)
        add(tail)
    return b"".join(parts), base, newest


def _read_varint(data: Buffer, position: int, end: int) -> tuple[int, int]:
    """A zigzag varint of up to 64 bits, and the position after it."""
    value = shift = 0
    while position < end:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return (value >> 1) ^ -(value & 1), position
        shift += 7
        if shift > 63:
            break
    raise Corrupt(f"a varint that ends at byte {position} of the records is too long or cut short")


def _read_int32(data: Buffer, position: int, end: int) -> tuple[int, int]:
    value, position = _read_varint(data, position, end)
    if not -_INT32_MAX - 1 <= value <= _INT32_MAX:
        raise Corrupt(f"a 32-bit varint that ends at byte {position} of the records is {value}")
    return value, position


def _read_bytes(data: Buffer, position: int, end: int) -> tuple[bytes | None, int]:
    if position < end and (byte := data[position]) < 0x80:  # one byte: the common case
        size = (byte >> 1) ^ -(byte & 1)
        position += 1
    else:
        size, position = _read_int32(data, position, end)
    if size < 0:
        if size != -1:
            raise Corrupt(f"a length at byte {position} of the records is {size}")
        return None, position
    stop = position + size
    if stop > end:
        raise Corrupt(f"{size} bytes at byte {position} of the records reach past the record's end")
    return bytes(data[position:stop]), stop


def _read_headers(data: Buffer, position: int, end: int) -> tuple[Headers, int]:
    count, position = _read_int32(data, position, end)
    if not 0 <= count <= (end - position) // 2:  # two lengths each
        raise Corrupt(f"{count} headers at byte {position} of the records")
    headers = []
    for _ in range(count):
        name, position = _read_bytes(data, position, end)
        if name is None:
            raise Corrupt(f"a header before byte {position} of the records has no name")
        value, position = _read_bytes(data, position, end)
        try:
            headers.append((name.decode(), value))
        except UnicodeDecodeError as error:
            raise Corrupt(f"a header's name is not UTF-8: {name[:40]!r}") from error
    return tuple(headers), position


def _check_count(section: Buffer, count: int) -> None:
    if not 0 <= count <= len(section) // RECORD_BYTES_MIN:
        raise Corrupt(f"{count} records cannot lie in {len(section)} bytes")


def decode_columns(section: Buffer, span: Span) -> Columns:
    """Offsets, timestamps, keys, values and headers as five lists of equal length."""
    count, last_offset_delta, base_offset, base_timestamp, append_timestamp = span
    _check_count(section, count)
    offsets: list[int] = []
    timestamps: list[int] = []
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    all_headers: list[Headers] = []
    position = 0
    whole = len(section)
    previous = -1
    for _ in range(count):
        size, position = _read_int32(section, position, whole)
        end = position + size
        if size < RECORD_BYTES_MIN - 1 or end > whole:
            raise Corrupt(f"a record of {size} bytes at byte {position} of {whole}")
        delta, position = _read_varint(section, position + 1, end)
        offset_delta, position = _read_int32(section, position, end)
        if not previous < offset_delta <= last_offset_delta:
            raise Corrupt(
                f"offset delta {offset_delta} after {previous} (last {last_offset_delta})"
            )
        previous = offset_delta
        key, position = _read_bytes(section, position, end)
        value, position = _read_bytes(section, position, end)
        headers: Headers = ()
        if position < end and section[position] == 0:
            position += 1
        else:
            headers, position = _read_headers(section, position, end)
        if position != end:
            raise Corrupt(f"a record ends at byte {position} instead of {end}")
        offsets.append(base_offset + offset_delta)
        if append_timestamp is None:
            timestamp = base_timestamp + delta
            if not _INT64_MIN <= timestamp <= _INT64_MAX:
                raise Corrupt(f"a timestamp of {base_timestamp} and {delta} is out of range")
            timestamps.append(timestamp)
        else:
            timestamps.append(append_timestamp)
        keys.append(key)
        values.append(value)
        all_headers.append(headers)
    if position != whole:
        raise Corrupt(f"{whole - position} bytes follow the last record")
    return offsets, timestamps, keys, values, all_headers


def decode_records(section: Buffer, span: Span) -> list[StoredRecord]:
    """The same, as records."""
    return list(map(StoredRecord, *decode_columns(section, span)))


def encode_addressed(
    records: Sequence[StoredRecord], prefix: bytes, log: bytes, more: Headers = ()
) -> tuple[bytes, int, int]:
    """As `encode_records`, with two headers more on each record: where it lives, and in which log; then `more`.

    The address is `prefix` (edge/stream/partition/) followed by the record's offset in ASCII.
    """
    trailer = ((LOG_HEADER, log), *more)
    return encode_records(
        [
            (
                timestamp,
                key,
                value,
                (*headers, (ADDRESS_HEADER, b"%b%d" % (prefix, offset)), *trailer),
            )
            for offset, timestamp, key, value, headers in records
        ]
    )
