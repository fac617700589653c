"""A partition whose live data came before its history: exactly once all the same, and the proof says how far it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.cloud.lake.coverage import Coverage
from headwater.cloud.lake.positions import EdgePartition, Positions, edge_app_id, parse_interval
from headwater.cloud.lake.verify import run_verify
from headwater.cloud.sink.addresses import Run, read_addresses
from headwater.cloud.sink.ledger import Ledger
from headwater.core.gap import Gap, GapReason
from headwater.core.record import RANGE_HEADER, Record, TopicPartition
from tests.cloud.sink.log import LOG, NOON, addressed

from .river import extend_lake, make_lake

TP = TopicPartition("telemetry", 0)
PLACE = EdgePartition("edge-1", LOG.decode(), "telemetry", 0)


def sent(first: int, count: int, *, label: int = 0) -> list[Record]:
    extra = ((RANGE_HEADER, b"%d" % label),) if label else ()
    return [addressed(b"%d" % n, n, extra=extra) for n in range(first, first + count)]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=30))
def test_a_coverage_is_the_set_of_what_was_added(added: list[tuple[int, int]]) -> None:
    coverage, held = Coverage(), set[int]()
    for first, size in added:
        free = held.isdisjoint(range(first, first + size + 1))
        assert coverage.is_free(first, first + size) is free
        coverage.add(first, first + size)
        held |= set(range(first, first + size))
        intervals = list(coverage)
        assert {n for a, b in intervals for n in range(a, b)} == held
        assert all(a < b for a, b in intervals)
        ends = [b for _, b in intervals[:-1]]
        assert all(b < a for b, (a, _) in zip(ends, intervals[1:], strict=True)), "apart"
        assert all((n in coverage) is (n in held) for n in range(75))
        assert coverage.end == max(held, default=-1) + 1


def test_each_interval_has_an_identifier_of_its_own_and_an_absorbed_one_is_known() -> None:
    assert parse_interval(edge_app_id(PLACE, 40)) == (PLACE, 40)
    positions = Positions(
        {edge_app_id(PLACE): 50, edge_app_id(PLACE, 40): 45, edge_app_id(PLACE, 70): 80}
    )
    assert list(positions.coverage(PLACE)) == [(0, 50), (70, 80)]
    assert positions.absorbed() == {edge_app_id(PLACE, 40)}


def test_a_record_is_new_exactly_if_its_offset_is_not_covered() -> None:
    ledger = Ledger("c", Positions({edge_app_id(PLACE): 10, edge_app_id(PLACE, 40): 45}))
    batches = [
        (sent(40, 5, label=40), 0),  # again
        (sent(45, 5, label=40), 5),
        (sent(8, 7), 5),  # two of them again
        (sent(15, 35), 25),  # up to the live data, then ten that were sent there
        (sent(50, 3), 3),  # one range again: the label goes without saying
    ]
    at = 0
    for records, new in batches:
        runs = [Run(TP, len(records))]
        offsets = list(range(at, at + len(records)))
        ledger.next_offset(TP, at)
        at += len(records)
        ledger.read(TP, at, records=len(records))
        headers = [record.headers for record in records]
        kept = ledger.admit(read_addresses(headers, runs, offsets), runs)
        assert (len(records) if kept is None else len(kept)) == new
    assert [span.ranges for span in ledger.row_spans()] == [[(10, 39), (45, 52)]]
    moved = {txn.app_id: txn.version for txn in ledger.txns(now_ms=0)}
    assert moved[edge_app_id(PLACE)] == 53
    assert edge_app_id(PLACE, 40) not in moved, "it was absorbed"


def test_records_of_several_ranges_in_one_chunk_have_each_their_label() -> None:
    records = [*sent(0, 3), *sent(40, 2, label=40)]
    headers = [record.headers for record in records]
    found = read_addresses(headers, [Run(TP, 3), Run(TP, 2)], [0, 1, 2, 3, 4])
    assert [found.label_of(row) for row in range(5)] == [0, 0, 0, 40, 40]
    assert found.others is None, "the label is ours"


@pytest.mark.parametrize("row", range(5))
def test_what_else_a_record_says_takes_no_label_from_any(row: int) -> None:
    """User properties on one of them: the chunk is then read record by record."""
    records = [*sent(0, 3), *sent(40, 2, label=40)]
    headers = [record.headers for record in records]
    runs, offsets = [Run(TP, 3), Run(TP, 2)], [0, 1, 2, 3, 4]
    plain = read_addresses(headers, runs, offsets)
    headers[row] = (*headers[row], ("unit", b"C"))
    found = read_addresses(headers, runs, offsets)
    assert found.others is not None
    labels = [found.label_of(each) for each in range(5)]
    assert labels == [plain.label_of(each) for each in range(5)] == [0, 0, 0, 40, 40]
    assert (found.places, found.place, found.offset) == (plain.places, plain.place, plain.offset)
    clocks = [found.clock, plain.clock]
    assert clocks[0] == clocks[1]


def test_history_behind_live_data_with_user_properties_is_no_duplicate(tmp_path: Path) -> None:
    live = sent(40, 5, label=40)
    marked = live[2]._replace(headers=(*live[2].headers, ("unit", b"C")))
    log = make_lake(tmp_path, {"telemetry": [*live[:2], marked, *live[3:], *sent(0, 40)]})
    extend_lake(tmp_path, log, 45)
    report = run_verify(lake=str(tmp_path))
    assert report.complete, report.text()
    assert report.places[0].rows == 45


def test_a_label_that_makes_no_sense_claims_nothing_but_its_record() -> None:
    records = [
        addressed(b"", 7, extra=((RANGE_HEADER, text),)) for text in (b"x", b"", b"9", b"-1", b"7")
    ]
    found = read_addresses([r.headers for r in records], [Run(TP, 5)], list(range(5)))
    assert [found.label_of(row) for row in range(5)] == [7] * 5


def test_history_that_fills_in_is_awaited_and_then_complete(tmp_path: Path) -> None:
    log = make_lake(tmp_path, {"telemetry": sent(0, 10)})
    log.append("telemetry", sent(40, 10, label=40))
    extend_lake(tmp_path, log, 20)
    report = run_verify(lake=str(tmp_path))
    assert (report.problems, report.complete, report.awaited) == ([], False, 30)
    assert report.places[0].awaited == [(10, 39)]
    assert "NOT COMPLETE YET: 30 offsets are on their way" in report.text()
    log.append("telemetry", sent(10, 30))
    extend_lake(tmp_path, log, 50)
    report = run_verify(lake=str(tmp_path))
    assert report.complete, report.text()
    assert (report.places[0].position, report.places[0].rows) == (50, 50)


def test_history_that_was_given_up_is_not_awaited(tmp_path: Path) -> None:
    gap = Gap(
        edge="edge-1",
        log=LOG.decode(),
        stream="telemetry",
        partition=0,
        first=10,
        last=39,
        reason=GapReason.RETENTION,
    )
    log = make_lake(tmp_path, {"telemetry": sent(0, 10), "_gaps": [gap.record(NOON)]})
    log.append("telemetry", sent(40, 10, label=40))
    extend_lake(tmp_path, log, 21)
    report = run_verify(lake=str(tmp_path))
    assert report.complete, report.text()
    place = next(place for place in report.places if place.stream == "telemetry")
    assert (place.declared_lost, place.awaited) == (30, [])


def test_a_lost_row_below_live_data_is_missing_and_not_awaited(tmp_path: Path) -> None:
    log = make_lake(tmp_path, {"telemetry": [*sent(0, 5), *sent(6, 4)]})
    log.append("telemetry", sent(40, 10, label=40))
    extend_lake(tmp_path, log, 19)
    report = run_verify(lake=str(tmp_path))
    assert report.places[0].missing == [(5, 5)]
    assert report.places[0].awaited == [(10, 39)]
    assert len(report.problems) == 1
