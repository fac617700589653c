"""Record batch v2: what is written is read back, by both twins, and the header tells the truth."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.core import _records_py
from headwater.core.batch import (
    HEADER_BYTES,
    Compression,
    decode_batch,
    decode_columns,
    encode_addressed,
    encode_batch,
    parse_header,
    rebase,
    split_batches,
    stamp,
    validate_batch,
)
from headwater.core.errors import Corrupt, Refused
from headwater.core.leaves import PURE_FORCED
from headwater.core.leaves import records as chosen
from headwater.core.record import Address, Record, StoredRecord

from .conftest import Leaf, compiled
from .strategies import batches

any_examples = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
RECORDS = [
    Record(1_700_000_000_000, b"a/b", b"21.5"),
    Record(1_700_000_000_250, None, None, (("mqtt.topic", b"a/b"), ("none", None))),
    Record(1_699_999_999_999, b"", b"", ()),
]


def stored(records: list[Record], base_offset: int) -> list[StoredRecord]:
    return [StoredRecord(base_offset + index, *record) for index, record in enumerate(records)]


def test_the_twin_that_is_named_is_the_one_that_runs(
    leaf: Leaf, request: pytest.FixtureRequest
) -> None:
    assert leaf.COMPILED is ("compiled" in request.node.name)


def test_the_compiled_twin_is_chosen_where_it_is_built() -> None:
    compiled()
    assert chosen.COMPILED is not PURE_FORCED


@any_examples
@given(records=batches, base=st.integers(0, 2**40), codec=st.sampled_from([0, 1, 4]))
def test_a_batch_reads_back_as_it_was_written(
    leaf: Leaf, records: list[Record], base: int, codec: int
) -> None:
    batch = encode_batch(records, base_offset=base, compression=Compression(codec))
    header, read = decode_batch(batch)
    assert read == stored(records, base)
    assert all(type(record) is StoredRecord for record in read)
    assert validate_batch(batch) == header == parse_header(batch)
    assert header.size == len(batch)
    assert (header.base_offset, header.next_offset) == (base, base + len(records))
    assert (header.base_timestamp, header.max_timestamp) == (
        records[0].timestamp,
        max(record.timestamp for record in records),
    )


@any_examples
@given(records=batches)
def test_columns_hold_what_records_hold(leaf: Leaf, records: list[Record]) -> None:
    batch = encode_batch(records, base_offset=7)
    header, columns = decode_columns(batch)
    assert list(map(StoredRecord, *columns)) == decode_batch(batch)[1]
    assert {len(column) for column in columns} == {header.record_count}


@any_examples
@given(records=batches)
def test_both_twins_write_the_same_bytes(records: list[Record]) -> None:
    twin = compiled()
    assert twin.encode_records(records) == _records_py.encode_records(records)
    rows = stored(records, 2**40)
    assert twin.encode_addressed(rows, b"edge/s/0/", b"0" * 16) == _records_py.encode_addressed(
        rows, b"edge/s/0/", b"0" * 16
    )


def test_the_header_carries_what_the_producer_said(leaf: Leaf) -> None:
    header = parse_header(
        encode_batch(RECORDS, producer_id=2**40, producer_epoch=3, base_sequence=9, leader_epoch=5)
    )
    assert (header.producer_id, header.producer_epoch, header.leader_epoch) == (2**40, 3, 5)
    assert (header.base_sequence, header.last_sequence) == (9, 11)
    assert not header.is_control
    assert not header.is_transactional
    assert header.compression is Compression.NONE


def test_sequence_numbers_wrap_to_zero() -> None:
    header = parse_header(encode_batch(RECORDS, base_sequence=2**31 - 2))
    assert header.last_sequence == 0
    assert parse_header(encode_batch(RECORDS)).last_sequence == -1


def test_an_address_travels_in_two_more_headers(leaf: Leaf) -> None:
    batch = encode_addressed(
        stored(RECORDS, 998), prefix=b"pi/readings/0/", log=b"0123456789abcdef", base_sequence=4
    )
    header, read = decode_batch(batch)
    assert (header.base_offset, header.base_sequence) == (998, 4)
    for record, original in zip(read, stored(RECORDS, 998), strict=True):
        *own, address, log = record.headers
        assert (record[:4], tuple(own)) == (original[:4], original.headers)
        assert log == ("hw.log", b"0123456789abcdef")
        assert address[0] == "hw.address"
        assert Address.decode(address[1] or b"") == Address("pi", "readings", 0, record.offset)


def test_headers_for_all_follow_the_address(leaf: Leaf) -> None:
    more = (("hw.range", b"1000"), ("hw.time", None))
    rows = [row._replace(headers=()) if n % 2 else row for n, row in enumerate(stored(RECORDS, 0))]
    batch = encode_addressed(rows, prefix=b"e/s/0/", log=b"0" * 16, more=more)
    for record, original in zip(decode_batch(batch)[1], rows, strict=True):
        assert record.headers[: len(original.headers)] == original.headers
        assert record.headers[len(original.headers) + 2 :] == more


def test_an_address_needs_offsets_without_a_hole(leaf: Leaf) -> None:
    rows = stored(RECORDS, 0)
    with pytest.raises(Refused, match="hole"):
        encode_addressed([rows[0], rows[2]], prefix=b"e/s/0/", log=b"0" * 16)


def test_a_batch_is_moved_without_touching_what_the_crc_covers(leaf: Leaf) -> None:
    batch = encode_batch(RECORDS)
    moved = rebase(batch, base_offset=2**40, leader_epoch=7)
    assert moved[16:] == batch[16:]
    header = validate_batch(moved)
    assert (header.base_offset, header.leader_epoch) == (2**40, 7)
    assert rebase(memoryview(batch), base_offset=2**40, leader_epoch=7) == moved


def test_the_brokers_time_stands_for_every_record(leaf: Leaf) -> None:
    stamped = stamp(encode_batch(RECORDS), timestamp=1_800_000_000_000)
    header, read = decode_batch(stamped)
    assert header.is_stamped
    assert {record.timestamp for record in read} == {1_800_000_000_000}
    assert set(decode_columns(stamped)[1][1]) == {1_800_000_000_000}
    assert [record[2:] for record in read] == [record[1:] for record in RECORDS]


def test_batches_in_a_row_are_told_apart_and_a_cut_one_is_left_out() -> None:
    first = encode_batch(RECORDS, base_offset=0)
    second = encode_batch(RECORDS[:1], base_offset=3, compression=Compression.ZSTD)
    row = first + second
    assert [bytes(view) for _, view in split_batches(row)] == [first, second]
    for size in range(len(first), len(row)):
        assert [bytes(view) for _, view in split_batches(row[:size])] == [first]
    assert list(split_batches(b"")) == []


def test_a_batch_is_found_at_any_position(leaf: Leaf) -> None:
    batch = encode_batch(RECORDS, base_offset=5)
    assert decode_batch(b"xyz" + batch + b"tail", 3) == decode_batch(batch)


def test_a_batch_that_compaction_thinned_out_is_read_but_not_taken_from_a_producer(
    leaf: Leaf,
) -> None:
    """Kafka keeps the offsets of what is left, and the last offset delta; even of an empty batch."""
    section, base, newest = leaf.encode_records(RECORDS)
    lengths = [section[0] // 2 + 1]
    lengths.append(section[lengths[0]] // 2 + 1)
    thinned = section[: lengths[0]] + section[sum(lengths) :]
    for count, body in ((2, thinned), (0, b"")):
        batch = assembled(body, count=count, last_delta=2, base=base, newest=newest)
        header, read = decode_batch(batch)
        assert (header.record_count, header.next_offset) == (count, 3)
        assert [record.offset for record in read] == [0, 2][:count]
        with pytest.raises(Corrupt, match="records over 3 offsets"):
            validate_batch(batch)


def assembled(body: bytes, *, count: int, last_delta: int, base: int = 0, newest: int = 0) -> bytes:
    """A batch made by hand, its CRC right."""
    import struct

    from crc32c import crc32c

    checked = struct.pack(">hiqqqhii", 0, last_delta, base, newest, -1, -1, -1, count) + body
    return struct.pack(">qiiBI", 0, len(checked) + 9, -1, 2, crc32c(checked)) + checked


def test_an_empty_batch_is_not_written(leaf: Leaf) -> None:
    with pytest.raises(Refused):
        encode_batch([])
    with pytest.raises(Refused):
        encode_addressed([], prefix=b"", log=b"")


@pytest.mark.parametrize(
    "records",
    [
        [Record(-(2**63), None, None), Record(2**63 - 1, None, None)],
        [Record(2**63, None, None)],
    ],
    ids=["too far apart", "more than 64 bits"],
)
def test_timestamps_that_do_not_fit_are_refused(leaf: Leaf, records: list[Record]) -> None:
    with pytest.raises(Refused):
        encode_batch(records)


def test_a_field_that_does_not_fit_is_refused() -> None:
    with pytest.raises(Refused, match="does not fit"):
        encode_batch(RECORDS, producer_epoch=2**15)


def test_the_worked_example_byte_for_byte(leaf: Leaf) -> None:
    """One record, key "k", value "v", header h=x, at 1 ms; laid out by hand from the format's description."""
    batch = encode_batch([Record(1, b"k", b"v", (("h", b"x"),))], base_offset=3)
    assert batch[HEADER_BYTES:] == bytes.fromhex("18 00 00 00 02 6b 02 76 02 02 68 02 78")
    assert batch[:17] == bytes.fromhex("0000000000000003 0000003e ffffffff 02")
    assert batch[21:HEADER_BYTES] == bytes.fromhex(
        "0000 00000000 0000000000000001 0000000000000001 ffffffffffffffff ffff ffffffff 00000001"
    )
