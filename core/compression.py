"""Compression of a batch's records section: Kafka's five codecs behind two functions.

Rule: nothing read from outside may grow without a bound. `decompress` stops one byte above its limit instead of finding out
afterwards how large the result was, and every codec's failure is reported as `Corrupt`, an honest but too large result
as `Refused`.

What is written: none, gzip, zstd. What is read: these, and snappy and lz4 where `cramjam` is installed (a part of the cloud
extra; the edge only ever reads batches that it wrote itself). It is imported by name at first use, so that the edge neither
needs nor loads it.

Snappy comes in two shapes: Java writes xerial's framing (a 16-byte preamble, then blocks with a length each), librdkafka one
raw block. Both are read. Lz4 is the standard frame format.
"""

from __future__ import annotations

import enum
import importlib
import struct
import sys
import zlib
from typing import Protocol, cast

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from .errors import Corrupt, Refused
from .units import MIB

# Why 64 MiB: batches are a few MiB at most and JSON readings compress 5 to 30 times, so an honest batch stays below,
# while two of them still fit into the memory of the smallest machine that reads foreign batches.
DECOMPRESSED_BYTES_MAX = 64 * MIB

# A zstd frame may ask its reader for a window of up to 2 GiB; ours never needs more than the result may have.
_ZSTD_WINDOW_LOG_MAX = 26
# The level at which zstd is about as fast as the link of an edge and within some percent of its best ratio on telemetry.
_ZSTD_LEVEL = 3
_GZIP_LEVEL = 6
_GZIP_WINDOW_BITS = 31  # zlib's way of saying "with a gzip header"

_XERIAL_MAGIC = b"\x82SNAPPY\0"
_XERIAL_PREAMBLE_BYTES = 16
_LENGTH = struct.Struct(">I")
# Each lz4 sequence byte can stand for at most 255 bytes of output.
_LZ4_RATIO_MAX = 255

Buffer = bytes | bytearray | memoryview


class Compression(enum.IntEnum):
    """The codec, as the low three bits of a batch's attributes carry it."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


def compress(codec: Compression, data: Buffer, *, level: int | None = None) -> bytes:
    """`data` compressed; raises Refused for a codec that we only read."""
    if codec is Compression.NONE:
        return bytes(data)
    if codec is Compression.ZSTD:
        return zstd.compress(data, level=_ZSTD_LEVEL if level is None else level)
    if codec is Compression.GZIP:
        deflate = zlib.compressobj(_GZIP_LEVEL if level is None else level, wbits=_GZIP_WINDOW_BITS)
        return deflate.compress(data) + deflate.flush()
    raise Refused(f"{codec.name.lower()} is only read; write zstd or gzip")


def decompress(codec: Compression, data: Buffer, *, limit: int = DECOMPRESSED_BYTES_MAX) -> bytes:
    """What was compressed; raises Corrupt for damaged bytes, Refused for more than `limit` bytes."""
    if codec is Compression.NONE:
        if len(data) > limit:
            raise _too_large(codec, limit)
        return bytes(data)
    if codec is Compression.ZSTD:
        return _unzstd(data, limit)
    if codec is Compression.GZIP:
        return _gunzip(data, limit)
    if codec is Compression.SNAPPY:
        return _unsnappy(data, limit)
    return _unlz4(data, limit)


def _too_large(codec: Compression, limit: int) -> Refused:
    return Refused(f"{codec.name.lower()} records grow beyond the limit of {limit} bytes")


def _unzstd(data: Buffer, limit: int) -> bytes:
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG_MAX}
    parts: list[bytes] = []
    rest: Buffer = data
    room = limit
    while rest or not parts:  # a reader must accept several frames one after the other
        stream = zstd.ZstdDecompressor(options=options)
        try:
            part = stream.decompress(rest, max_length=room + 1)
        except zstd.ZstdError as error:
            raise Corrupt(f"zstd: {error}") from error
        room -= len(part)
        if room < 0:
            raise _too_large(Compression.ZSTD, limit)
        if not stream.eof:
            raise Corrupt("zstd: the frame is cut short")
        parts.append(part)
        rest = stream.unused_data
    return b"".join(parts)


def _gunzip(data: Buffer, limit: int) -> bytes:
    parts: list[bytes] = []
    rest: Buffer = data
    room = limit
    while rest or not parts:  # RFC 1952: a gzip file is a series of members
        stream = zlib.decompressobj(wbits=_GZIP_WINDOW_BITS)
        try:
            part = stream.decompress(rest, room + 1)
        except zlib.error as error:
            raise Corrupt(f"gzip: {error}") from error
        room -= len(part)
        if room < 0:
            raise _too_large(Compression.GZIP, limit)
        if not stream.eof:
            raise Corrupt("gzip: the member is cut short")
        parts.append(part)
        rest = stream.unused_data
    return b"".join(parts)


def _unsnappy(data: Buffer, limit: int) -> bytes:
    view = memoryview(data)
    if bytes(view[: len(_XERIAL_MAGIC)]) != _XERIAL_MAGIC:
        return _unsnappy_block(view, limit, limit)
    parts: list[bytes] = []
    room = limit
    position = _XERIAL_PREAMBLE_BYTES
    if len(view) < position:
        raise Corrupt("snappy: the preamble is cut short")
    while position < len(view):
        if len(view) - position < _LENGTH.size:
            raise Corrupt("snappy: a block's length is cut short")
        (size,) = _LENGTH.unpack_from(view, position)
        position += _LENGTH.size
        if size > len(view) - position:
            raise Corrupt(f"snappy: a block of {size} bytes is cut short")
        parts.append(_unsnappy_block(view[position : position + size], room, limit))
        room -= len(parts[-1])
        position += size
    return b"".join(parts)


def _unsnappy_block(block: memoryview, room: int, limit: int) -> bytes:
    """One raw block. It begins with the size of the result, which is looked at before anything is allocated."""
    size = shift = 0
    for byte in block[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    else:
        raise Corrupt("snappy: a block's size is cut short")
    if size > room:
        raise _too_large(Compression.SNAPPY, limit)
    cramjam = _cramjam(Compression.SNAPPY)
    try:
        return bytes(cramjam.snappy.decompress_raw(block))
    except cramjam.DecompressionError as error:
        raise Corrupt(f"snappy: {error}") from error


def _unlz4(data: Buffer, limit: int) -> bytes:
    cramjam = _cramjam(Compression.LZ4)
    # Lent, not filled: pages that are never written are never backed by memory.
    room = bytearray(min(limit, _LZ4_RATIO_MAX * len(data)) + 1)
    try:
        size = cramjam.lz4.decompress_into(data, room)
    except cramjam.DecompressionError as error:
        if "failed to write whole buffer" in str(error):
            raise _too_large(Compression.LZ4, limit) from error
        raise Corrupt(f"lz4: {error}") from error
    if size > limit:
        raise _too_large(Compression.LZ4, limit)
    return bytes(memoryview(room)[:size])


class _Snappy(Protocol):
    def decompress_raw(self, data: Buffer) -> Buffer: ...


class _Lz4(Protocol):
    def decompress_into(self, data: Buffer, output: bytearray) -> int: ...


class _Cramjam(Protocol):
    """The part of cramjam that is used here."""

    snappy: _Snappy
    lz4: _Lz4
    DecompressionError: type[Exception]


def _cramjam(codec: Compression) -> _Cramjam:
    try:
        return cast("_Cramjam", importlib.import_module("cramjam"))
    except ImportError:
        raise Refused(
            f"reading {codec.name.lower()} needs the package cramjam",
            hint="pip install headwater[cloud]",
        ) from None
