"""Codecs: what others wrote is read, what is damaged is Corrupt, what grows too large is Refused in time."""

from __future__ import annotations

import gzip
import importlib
import struct
import sys
import tracemalloc

import pytest
from backports import zstd

from headwater.core.compression import Compression, compress, decompress
from headwater.core.errors import Corrupt, Refused

cramjam = pytest.importorskip(
    "cramjam", reason="cramjam is not installed: pip install headwater[cloud]"
)

TEXT = b"".join(b'{"t": %d, "room": "kitchen"}' % number for number in range(4000))
WRITTEN = [Compression.NONE, Compression.GZIP, Compression.ZSTD]


def xerial(data: bytes, block: int = 32 * 1024) -> bytes:
    """As Java's SnappyOutputStream frames it."""
    out = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)
    for begin in range(0, len(data), block):
        piece = bytes(cramjam.snappy.compress_raw(data[begin : begin + block]))
        out += struct.pack(">i", len(piece)) + piece
    return out


SAMPLES = {
    "gzip": (Compression.GZIP, compress(Compression.GZIP, TEXT)),
    "gzip in two members": (Compression.GZIP, gzip.compress(TEXT[:9]) + gzip.compress(TEXT[9:])),
    "zstd": (Compression.ZSTD, compress(Compression.ZSTD, TEXT)),
    "zstd in two frames": (Compression.ZSTD, zstd.compress(TEXT[:9]) + zstd.compress(TEXT[9:])),
    "snappy, raw": (Compression.SNAPPY, bytes(cramjam.snappy.compress_raw(TEXT))),
    "snappy, xerial": (Compression.SNAPPY, xerial(TEXT)),
    "lz4": (Compression.LZ4, bytes(cramjam.lz4.compress(TEXT))),
}
each_sample = pytest.mark.parametrize(("codec", "data"), SAMPLES.values(), ids=SAMPLES)


@pytest.mark.parametrize("codec", WRITTEN)
@pytest.mark.parametrize("data", [b"", b"x", TEXT])
def test_what_is_compressed_comes_back(codec: Compression, data: bytes) -> None:
    assert decompress(codec, memoryview(compress(codec, memoryview(data)))) == data


def test_a_level_is_heeded() -> None:
    for codec, levels in ((Compression.ZSTD, (1, 19)), (Compression.GZIP, (1, 9))):
        fast, small = (compress(codec, TEXT, level=level) for level in levels)
        assert len(small) < len(fast)


@each_sample
def test_what_others_write_is_read(codec: Compression, data: bytes) -> None:
    assert decompress(codec, data) == TEXT
    assert decompress(codec, memoryview(data), limit=len(TEXT)) == TEXT


@each_sample
def test_one_byte_above_the_limit_is_refused(codec: Compression, data: bytes) -> None:
    with pytest.raises(Refused, match="limit"):
        decompress(codec, data, limit=len(TEXT) - 1)


@each_sample
def test_data_cut_short_anywhere_is_corrupt(codec: Compression, data: bytes) -> None:
    whole_parts = {16, *range(16, len(data))} if data.startswith(b"\x82SNAPPY") else set()
    for size in range(0, len(data), 1 if len(data) < 2000 else 37):
        try:
            read = decompress(codec, data[:size])
        except Corrupt:
            continue
        # Snappy's framing and a row of gzip members or frames have no end mark: a whole part is a whole file.
        assert size in whole_parts or read == TEXT[:9], size
        assert TEXT.startswith(read)


@each_sample
def test_noise_is_corrupt(codec: Compression, data: bytes) -> None:
    with pytest.raises(Corrupt):
        decompress(codec, b"\xff" * 40)
    with pytest.raises(Corrupt):
        decompress(codec, data + b"\xff" * 40)


def test_a_snappy_block_that_claims_gigabytes_is_refused_before_it_is_unpacked() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Refused, match="limit"):
            decompress(Compression.SNAPPY, b"\xff\xff\xff\xff\x0f" + b"x" * 10)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_zstd_frame_that_wants_a_huge_window_is_corrupt() -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 28}
    packer = zstd.ZstdCompressor(options=options)
    frame = packer.compress(b"x") + packer.flush()
    with pytest.raises(Corrupt):
        decompress(Compression.ZSTD, frame)


def test_nothing_is_read_beyond_the_limit_uncompressed() -> None:
    with pytest.raises(Refused, match="limit"):
        decompress(Compression.NONE, b"xy", limit=1)


@pytest.mark.parametrize("codec", [Compression.SNAPPY, Compression.LZ4])
def test_codecs_that_are_only_read_are_not_written(codec: Compression) -> None:
    with pytest.raises(Refused, match="only read"):
        compress(codec, b"x")


@pytest.mark.parametrize("codec", [Compression.SNAPPY, Compression.LZ4])
def test_without_cramjam_the_error_says_what_to_install(
    codec: Compression, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(Refused, match=r"pip install headwater\[cloud\]"):
        decompress(codec, SAMPLES["lz4" if codec is Compression.LZ4 else "snappy, raw"][1])


def test_cramjam_is_not_loaded_before_it_is_needed() -> None:
    import subprocess

    code = "import sys, headwater.core.batch; assert 'cramjam' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert importlib.util.find_spec("cramjam") is not None
