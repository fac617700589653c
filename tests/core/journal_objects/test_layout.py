"""The bytes of a log object, as FORMAT.md gives them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.core.batch import encode_batch
from headwater.core.errors import Corrupt
from headwater.core.journal.objects import Batch, Drop, Entry, Event, Trim
from headwater.core.journal.objects.index import LogIndex
from headwater.core.journal.objects.layout import (
    FENCE_BYTES,
    Header,
    decode_header,
    decode_object,
    encode_commit,
    encode_fence,
)
from headwater.core.record import Record, TopicPartition

READINGS = TopicPartition("readings", 0)
HEADER = Header(
    shard=0, seq=7, epoch=2, writer=bytes(range(16)), previous=bytes(16),
    written_ms=1_700_000_000_000,
)  # fmt: skip
BATCH = encode_batch([Record(1_700_000_000_000, b"k", b"v")], base_offset=41)
EXAMPLE = bytes.fromhex(
    "4857414c 0100 0000 00000000 24000000 0700000000000000 0200000000000000"
    "000102030405060708090a0b0c0d0e0f 00000000000000000000000000000000"
    "4600000000000000 0068e5cf8b010000 c9fc0070 e85ad13f"
    "92 91 97 a872656164696e6773 00 29 29 00 46 cf0000018bcfe56800 92 92 01 c40165 93 00 00 46"
    "0000000000000029 0000003a ffffffff 02 e99b8dd8 0000 00000000 0000018bcfe56800 0000018bcfe56800"
    "ffffffffffffffff ffff ffffffff 00000001 10 00 00 00 02 6b 02 76 00"
)


def test_the_worked_example_is_these_bytes() -> None:
    entries: list[Entry] = [Event(b"e"), Batch(READINGS, BATCH)]
    log_object, data = encode_commit(HEADER, entries)

    assert data == EXAMPLE
    assert len(data) == 194
    assert log_object.runs[0].position == 124
    assert decode_object(EXAMPLE, key="example") == log_object


def test_a_fence_is_a_header_alone() -> None:
    data = encode_fence(HEADER)

    assert len(data) == FENCE_BYTES == 88
    assert decode_header(data, key="fence") == HEADER
    assert decode_header(data, key="fence").is_fence


@pytest.mark.parametrize("length", range(len(EXAMPLE)))
def test_an_object_cut_short_is_corrupt(length: int) -> None:
    with pytest.raises(Corrupt):
        decode_object(EXAMPLE[:length], key="example")


@pytest.mark.parametrize("place", range(len(EXAMPLE)))
def test_a_flipped_bit_anywhere_is_corrupt(place: int) -> None:
    damaged = bytearray(EXAMPLE)
    damaged[place] ^= 0x10
    with pytest.raises(Corrupt):
        decode_object(bytes(damaged), key="example")


_OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(("batch", "event", "trim", "drop")),
        st.sampled_from((READINGS, TopicPartition("alerts", 2))),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=12,
)


@given(objects=st.lists(_OPERATIONS, min_size=1, max_size=6))
def test_entries_keep_their_order_and_the_index_survives_a_checkpoint(
    objects: list[list[tuple[str, TopicPartition, int]]],
) -> None:
    ends: dict[TopicPartition, int] = {}
    starts: dict[TopicPartition, int] = {}
    index = LogIndex()
    for number, operations in enumerate(objects):
        entries: list[Entry] = []
        for kind, partition, count in operations:
            end = ends.get(partition, 0)
            match kind:
                case "batch":
                    records = [Record(count, None, b"v")] * count
                    entries.append(Batch(partition, encode_batch(records, base_offset=end)))
                    ends[partition] = end + count
                case "event":
                    entries.append(Event(bytes(count)))
                case "trim":
                    start = min(end, starts.get(partition, 0) + count)
                    entries.append(Trim(partition, start))
                    starts[partition], ends[partition] = start, end
                case _:
                    entries.append(Drop(partition))
                    ends.pop(partition, None)
                    starts.pop(partition, None)
        header = Header(
            shard=0, seq=number + 1, epoch=1, writer=bytes(16), previous=bytes(16), written_ms=0
        )
        log_object, data = encode_commit(header, entries)
        assert list(decode_object(data, key="k").entries) == entries
        index.apply(log_object)
        index = LogIndex.decode(index.encode(), key="k")

    assert {p: tuple(index.bounds(p)) for p in index.partitions()} == {
        partition: (starts.get(partition, 0), end) for partition, end in ends.items()
    }
