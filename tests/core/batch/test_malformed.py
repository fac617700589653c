"""Damaged batches: cut short anywhere, any bit flipped, lengths that lie. Corrupt or Refused, and nothing else."""

from __future__ import annotations

import random

import pytest

from headwater.core._records_py import Span
from headwater.core.batch import (
    HEADER_BYTES,
    Compression,
    decode_batch,
    decode_columns,
    encode_batch,
    parse_header,
    validate_batch,
)
from headwater.core.errors import Corrupt, Refused
from headwater.core.record import Record

from .conftest import Leaf
from .test_batch import RECORDS, assembled

BATCH = encode_batch(RECORDS, base_offset=5)
SECTION = BATCH[HEADER_BYTES:]
SPAN = Span(3, 2, 5, RECORDS[0].timestamp, None)


def test_a_batch_cut_short_anywhere_is_corrupt(leaf: Leaf) -> None:
    for size in range(len(BATCH)):
        for read in (validate_batch, decode_batch, decode_columns):
            with pytest.raises(Corrupt):
                read(BATCH[:size])


def test_every_flipped_bit_is_noticed(leaf: Leaf) -> None:
    """Those of base offset and leader epoch lie outside the CRC on purpose."""
    for position in range(8, len(BATCH)):
        if 12 <= position < 16:
            continue
        for bit in range(8):
            damaged = bytearray(BATCH)
            damaged[position] ^= 1 << bit
            with pytest.raises(Corrupt):
                decode_batch(damaged)


def test_a_section_cut_short_anywhere_is_corrupt(leaf: Leaf) -> None:
    assert len(leaf.decode_records(SECTION, SPAN)) == 3
    for size in range(len(SECTION)):
        with pytest.raises(Corrupt):
            leaf.decode_records(SECTION[:size], SPAN)
        with pytest.raises(Corrupt):
            leaf.decode_columns(SECTION[:size], SPAN)


def test_bytes_after_the_last_record_are_corrupt(leaf: Leaf) -> None:
    with pytest.raises(Corrupt, match="follow"):
        leaf.decode_records(SECTION + b"\0", SPAN)


def test_a_damaged_section_is_corrupt_or_read_but_never_anything_else(leaf: Leaf) -> None:
    rng = random.Random(2)
    for _ in range(5000):
        damaged = bytearray(SECTION)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.choice((0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF))
        try:
            records = leaf.decode_records(damaged, SPAN)
        except Corrupt:
            with pytest.raises(Corrupt):
                leaf.decode_columns(damaged, SPAN)
        else:
            columns = leaf.decode_columns(damaged, SPAN)
            assert [tuple(record) for record in records] == list(zip(*columns, strict=True))


@pytest.mark.parametrize(
    "section",
    [
        "0c 00 00 00 01 01",  # longer than what is there
        "0a 00 00 00 01 01 00",  # shorter than what it holds
        "0e 00 00 00 01 01 00 00",  # longer than what it holds
        "0c 00 00 00 03 01 00",  # a key of -2 bytes
        "0c 00 00 00 7e 01 00",  # a key of 63 bytes
        "0c 00 00 00 01 01 01",  # -1 headers
        "0c 00 00 00 01 01 7e",  # 63 headers
        "10 00 00 00 01 01 02 01 01",  # a header without a name
        "12 00 00 00 01 01 02 02 ff 01",  # a header's name that is not UTF-8
        "0c 00 00 02 01 01 00",  # an offset past the last
        "0c 00 00 01 01 01 00",  # a negative offset
        "20 00 ff ff ff ff ff ff ff ff ff 02 00 01 01 00 00",  # a timestamp of 65 bits
        "ff ff ff ff 0f 00 00 00 01 01 00",  # a length of -2**31
        "fe ff ff ff 0f 00 00 00 01 01 00",  # a length of 2**31 - 1
        "fe ff ff ff ff ff ff ff ff 01 00 00",  # a length of 64 bits
        "01 00 00 00 00 00 00",  # a length of -1
    ],
)
def test_lengths_that_lie_are_corrupt(leaf: Leaf, section: str) -> None:
    with pytest.raises(Corrupt):
        leaf.decode_records(bytes.fromhex(section), Span(1, 0, 0, 0, None))


def test_the_lies_above_differ_from_the_truth_by_the_lie_alone(leaf: Leaf) -> None:
    truth = leaf.decode_records(bytes.fromhex("0c 00 00 00 01 01 00"), Span(1, 0, 0, 0, None))
    assert truth == [(0, 0, None, None, ())]


def test_offsets_that_do_not_grow_are_corrupt(leaf: Leaf) -> None:
    with pytest.raises(Corrupt, match="after 0"):
        leaf.decode_records(bytes.fromhex("0c 00 00 00 01 01 00") * 2, Span(2, 1, 0, 0, None))


def test_a_timestamp_past_64_bits_is_corrupt(leaf: Leaf) -> None:
    for base, delta in ((2**63 - 1, "02"), (-(2**63), "01")):
        section = bytes.fromhex(f"0c 00 {delta} 00 01 01 00")
        with pytest.raises(Corrupt, match="out of range"):
            leaf.decode_records(section, Span(1, 0, 0, base, None))


@pytest.mark.parametrize("count", [-1, 2**31 - 1, 4])
def test_a_count_that_cannot_be_is_corrupt_before_anything_is_made(leaf: Leaf, count: int) -> None:
    with pytest.raises(Corrupt):
        leaf.decode_records(SECTION[:21], Span(count, 2**31 - 1, 0, 0, None))
    with pytest.raises(Corrupt):
        decode_batch(assembled(SECTION[:21], count=count, last_delta=2**31 - 1))


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (16, b"\1"),
        (16, b"\0"),
        (8, b"\0\0\0\x30"),
        (8, b"\xff\xff\xff\xff"),
        (0, b"\x7f" + b"\xff" * 7),
    ],
    ids=["magic 1", "magic 0", "too short", "negative", "past the last offset"],
)
def test_a_header_that_cannot_be_is_corrupt(position: int, value: bytes) -> None:
    damaged = bytearray(BATCH)
    damaged[position : position + len(value)] = value
    with pytest.raises(Corrupt):
        parse_header(damaged)


def test_a_codec_that_is_not_known_is_corrupt() -> None:
    for codec in (5, 6, 7):
        batch = bytearray(assembled(SECTION, count=3, last_delta=2))
        batch[22] = codec
        with pytest.raises(Corrupt):
            validate_batch(batch)


@pytest.mark.parametrize("codec", [Compression.GZIP, Compression.ZSTD])
def test_a_batch_that_grows_beyond_the_limit_is_refused(codec: Compression) -> None:
    bomb = encode_batch([Record(0, None, bytes(2**20))], compression=codec)
    assert len(bomb) < 2000
    with pytest.raises(Refused, match="limit of 1000000 bytes"):
        decode_batch(bomb, limit=1_000_000)
    assert len(decode_batch(bomb)[1][0].value or b"") == 2**20
