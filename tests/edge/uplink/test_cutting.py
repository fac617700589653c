"""Cutting: whatever the commits were, the cuts hold every record once, addressed, within the limits."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.core.batch import decode_batch, encode_batch, validate_batch
from headwater.core.belief import NO_STAMP, Mark, Trust
from headwater.core.compression import Compression
from headwater.core.record import (
    ADDRESS_HEADER,
    LOG_HEADER,
    RANGE_HEADER,
    TIME_HEADER,
    Record,
    StoredRecord,
    TopicPartition,
)
from headwater.edge.uplink.cursor import Era
from headwater.edge.uplink.cutting import CutLimits, Cutter, Origin
from headwater.edge.uplink.departures import Departures, Patience
from headwater.edge.uplink.supply import Cut

SOURCE = TopicPartition("readings", 2)
ORIGIN = Origin("edge-1", "00112233aabbccdd")


def _cutter(*, bytes_max: int = 1000, records_max: int = 50, linger_s: float = 1.0) -> Cutter:
    limits = CutLimits(bytes_max, records_max, Compression.ZSTD, 1)
    return Cutter(SOURCE, ORIGIN, limits, patience=Patience(linger_s), departures=Departures())


def _commit(base: int, count: int, size: int = 10) -> bytes:
    records = [Record(1000 + n, b"k", b"v" * size, (("u", b"1"),)) for n in range(count)]
    return encode_batch(records, base_offset=base)


def _records(cut: Cut) -> list[StoredRecord]:
    header = validate_batch(cut.payload)
    assert header.base_offset == 0, "Kafka refuses a producer's batch that does not count from zero"
    assert header.base_sequence == cut.era.sequence(cut.first)
    assert (header.producer_id, header.producer_epoch) == (cut.era.producer_id, cut.era.epoch)
    assert header.record_count == cut.count
    return decode_batch(cut.payload)[1]


@settings(deadline=None)
@given(
    commits=st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 30), st.integers(0, 400)),
        min_size=1,
        max_size=20,
    ),
    records_max=st.integers(1, 60),
    bytes_max=st.integers(100, 5000),
    skip=st.integers(0, 5),
)
def test_every_record_is_cut_once_with_its_address(
    commits: list[tuple[int, int, int]], records_max: int, bytes_max: int, skip: int
) -> None:
    cutter = _cutter(bytes_max=bytes_max, records_max=records_max)
    cutter.restart(skip)
    offset, expected, batches = 0, [], []
    for hole, count, size in commits:
        offset += hole
        batches.append(_commit(offset, count, size))
        expected += [n for n in range(offset, offset + count) if n >= skip]
        offset += count
    cutter.feed(batches, 0.0)
    cut_offsets: list[int] = []
    while cutter.first is not None:
        first = cutter.first
        cut = cutter.cut(Era(9, 1, 3), label=7, records_max=records_max, plain=False)
        assert cut.first == first
        assert 1 <= cut.count <= records_max
        for number, record in enumerate(_records(cut)):
            headers = dict(record.headers)
            assert headers[ADDRESS_HEADER] == b"edge-1/readings/2/%d" % (cut.first + number)
            assert headers[LOG_HEADER] == ORIGIN.log.encode()
            assert headers["u"] == b"1"
            assert headers[RANGE_HEADER] == b"7"
            cut_offsets.append(cut.first + number)
    assert cut_offsets == expected
    assert cutter.buffered_bytes == 0


def test_a_trickle_waits_for_company_and_not_longer() -> None:
    cutter = _cutter(linger_s=0.5)
    cutter.restart(0)
    cutter.feed([_commit(0, 1)], 10.0)
    assert not cutter.ripe(10.4)
    assert cutter.due_at == 10.5
    assert cutter.ripe(10.5)


def test_a_full_batch_does_not_wait() -> None:
    cutter = _cutter(records_max=5)
    cutter.restart(0)
    cutter.feed([_commit(0, 5)], 10.0)
    assert cutter.ripe(10.0)


def test_plain_is_sent_where_the_broker_cannot_read_zstd() -> None:
    cutter = _cutter()
    cutter.restart(0)
    cutter.feed([_commit(0, 5)], 0.0)
    cut = cutter.cut(Era(1, 0, 0), label=0, records_max=50, plain=True)
    assert validate_batch(cut.payload).compression is Compression.NONE


def test_a_cut_ends_where_another_range_begins() -> None:
    cutter = _cutter(bytes_max=10_000)
    cutter.restart(0)
    cutter.end_at(7)
    cutter.feed([_commit(0, 5), _commit(5, 5), _commit(10, 5)], 0.0)
    assert cutter.wanted == 7
    cut = cutter.cut(Era(1, 0, 0), label=0, records_max=50, plain=False)
    assert (cut.first, cut.next_offset, cutter.first) == (0, 7, None)
    assert RANGE_HEADER not in dict(_records(cut)[0].headers), "a label of 0 goes without saying"


def test_what_was_fed_before_the_end_was_known_is_read_again() -> None:
    cutter = _cutter()
    cutter.restart(3)
    cutter.feed([_commit(0, 10)], 0.0)
    cutter.end_at(7)
    assert (cutter.first, cutter.wanted, cutter.buffered_bytes) == (None, 3, 0)


def test_a_cut_never_spans_a_change_of_the_clock() -> None:
    """Each record travels with the mark of the clock that stamped it; those of before the marks with none."""
    cutter = _cutter()
    cutter.restart(0)
    late = Mark("0000000b", Trust.SYNCHRONISED, 1_795_000_000_000)
    early = Mark("0000000a", Trust.FLOOR, -5)
    batches = [
        encode_batch(
            [Record(1000, b"k", b"v")] * 2,
            base_offset=2 * n,
            **(NO_STAMP if mark is None else mark.producer())._asdict(),
        )
        for n, mark in enumerate((None, early, early, late))
    ]
    cutter.feed(batches, 0.0)
    marks = []
    for count in (2, 4, 2):
        cut = cutter.cut(Era(7, 0, 0), records_max=50, plain=False, label=0)
        assert cut.count == count
        found = {dict(record.headers).get(TIME_HEADER) for record in _records(cut)}
        marks += list(found)
    assert marks == [None, early.encode(), late.encode()]


def test_lanes_that_are_due_together_leave_together() -> None:
    departures, patience = Departures(), Patience(0.25, 2.0, 8192)
    limits = CutLimits(100_000, 5000, Compression.ZSTD, 1)
    first, second = (
        Cutter(SOURCE, ORIGIN, limits, patience=patience, departures=departures) for _ in range(2)
    )
    era = Era(1, 0, 0)
    first.feed([_commit(0, 1)], 0.0)
    assert first.due_at == 0.25
    assert first.ripe(0.25)
    first.cut(era, label=0, records_max=100, plain=False)
    first.feed([_commit(1, 3)], 0.5)
    second.feed([_commit(0, 3)], 1.1)
    assert not first.ripe(2.24)
    assert first.due_at == second.due_at == 2.25
    assert first.ripe(2.25)
    assert second.ripe(2.25)
    assert first.cut(era, label=0, records_max=100, plain=False).count == 3
    assert second.ripe(2.251), "the first one's leaving does not send it back to wait"
    assert second.cut(era, label=0, records_max=100, plain=False).count == 3
    second.feed([_commit(3, 1)], 3.0)
    assert not second.ripe(4.2)
    assert second.ripe(4.25)
