"""The words in which Kafka's messages are written: wire types as annotations, and the variable-length integers.

A field's annotation says how it lies on the wire and in which versions:

    partition: int32 = 0
    log_start_offset: Annotated[int64, since(5)] = -1
    topics: Annotated[Sequence[Topic] | None, nullable_since(1)] = ()
    current_leader: Annotated[Leader, tagged(0, since=10)] = Leader()

To a type checker they are plain int, str, bytes; `schema.py` reads the rest. Everything is big-endian.
"""

from __future__ import annotations

import uuid as _uuid
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from ..errors import Refused

Buffer: TypeAlias = bytes | bytearray | memoryview

ZERO_UUID = _uuid.UUID(int=0)


@dataclass(frozen=True, slots=True)
class Fixed:
    """A value of fixed size, by its letter in `struct`."""

    letter: str
    size: int


@dataclass(frozen=True, slots=True)
class Text:
    """UTF-8 with a length: int16, or an unsigned varint of length + 1 in flexible versions."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes with a length: int32, or an unsigned varint of length + 1 in flexible versions.

    Record batches are handed over as a view of the frame they came in (`view`), everything else as a copy.
    """

    view: bool = False


@dataclass(frozen=True, slots=True)
class Since:
    version: int


@dataclass(frozen=True, slots=True)
class Until:
    version: int


@dataclass(frozen=True, slots=True)
class NullableSince:
    version: int


@dataclass(frozen=True, slots=True)
class Tagged:
    tag: int
    since: int


def since(version: int) -> Since:
    """The field exists from this version on."""
    return Since(version)


def until(version: int) -> Until:
    """The field exists up to this version."""
    return Until(version)


def nullable_since(version: int) -> NullableSince:
    """Null can be written from this version on; without it, `| None` means: in every version."""
    return NullableSince(version)


def tagged(tag: int, *, since: int) -> Tagged:
    """The field travels in the tag buffer, and only when it is not its default (KIP-482)."""
    return Tagged(tag, since)


boolean = Annotated[bool, Fixed("?", 1)]
int8 = Annotated[int, Fixed("b", 1)]
int16 = Annotated[int, Fixed("h", 2)]
int32 = Annotated[int, Fixed("i", 4)]
int64 = Annotated[int, Fixed("q", 8)]
uuid = Annotated[_uuid.UUID, Fixed("16s", 16)]
string = Annotated[str, Text()]
blob = Annotated[bytes, Blob()]
record_set = Annotated[Buffer, Blob(view=True)]

_UVARINT32_BYTES_MAX = 5


def encode_uvarint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_uvarint(buffer: Buffer, position: int) -> tuple[int, int]:
    """A 32-bit unsigned varint and the position after it; IndexError at the buffer's end (the codec's to translate)."""
    value = shift = 0
    for _ in range(_UVARINT32_BYTES_MAX):
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 32:
                break
            return value, position
        shift += 7
    raise Refused(f"a varint that ends at byte {position} is longer than 32 bits")
