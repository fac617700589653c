"""The proof: it holds for what is whole, and names exactly what is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.cloud.lake.report import Report
from headwater.cloud.lake.verify import _subtract, _tile, run_verify
from headwater.core.errors import Corrupt, Refused
from headwater.core.gap import Gap, GapReason
from headwater.core.record import Record, TopicPartition
from tests.cloud.sink.log import NOON, MemoryLog, addressed

from .river import extend_lake, make_lake

Action = dict[str, dict[str, object]]


def records(first: int, count: int, *, edge: str = "edge-1") -> list[Record]:
    return [addressed(b"%d" % n, n, edge=edge) for n in range(first, first + count)]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Three commits of ten records each."""
    log = make_lake(tmp_path, {"telemetry": records(0, 10)})
    for first in (10, 20):
        log.append("telemetry", records(first, 10))
        extend_lake(tmp_path, log, first + 10)
    return tmp_path


def verify(lake: Path, edge: str | None = None) -> Report:
    return run_verify(lake=str(lake), edge=edge)


def rewrite(lake: Path, version: int, change: Callable[[Action], Action | None]) -> None:
    """A hand in the log: each action of one version changed, or left out."""
    path = lake / "telemetry" / "_delta_log" / f"{version:020d}.json"
    actions = [change(json.loads(line)) for line in path.read_text().splitlines()]
    path.write_text("\n".join(json.dumps(action) for action in actions if action) + "\n")


def test_a_whole_lake_is_complete(lake: Path) -> None:
    report = verify(lake)
    assert report.complete, report.text()
    assert "complete; 30 rows" in report.text().splitlines()[-1]
    shown = json.loads(report.json())
    assert shown["complete"] is True
    assert shown["places"][0]["rows"] == 30


def test_a_missing_file_entry_is_a_hole_of_its_offsets(lake: Path) -> None:
    rewrite(lake, 1, lambda action: None if "add" in action else action)
    report = verify(lake)
    assert not report.complete
    assert report.places[0].missing == [(10, 19)]
    assert any("offsets 10-19 are missing" in problem for problem in report.problems)
    assert any("offsets 10-19 are not accounted for" in problem for problem in report.problems)
    assert "NOT COMPLETE" in report.text()


def test_a_file_entered_twice_under_another_name_is_an_overlap(lake: Path) -> None:
    [add] = [
        json.loads(line)
        for line in (lake / "telemetry/_delta_log/00000000000000000001.json")
        .read_text()
        .splitlines()
        if '"add"' in line
    ]
    source = lake / "telemetry" / add["add"]["path"]
    source.with_name("copy.parquet").write_bytes(source.read_bytes())
    add["add"]["path"] = str(Path(add["add"]["path"]).with_name("copy.parquet"))
    (lake / "telemetry/_delta_log/00000000000000000003.json").write_text(json.dumps(add) + "\n")
    report = verify(lake)
    assert report.places[0].twice == [(10, 19)]
    assert not report.complete


def test_a_file_that_the_store_lost_is_named(lake: Path) -> None:
    file = next(iter(lake.glob("telemetry/data/*/p0-10-20-*.parquet")))
    file.unlink()
    assert any(file.name in p and "not in the store" in p for p in verify(lake).problems)


def test_a_file_of_another_size_is_named(lake: Path) -> None:
    file = next(iter(lake.glob("telemetry/data/*/p0-10-20-*.parquet")))
    file.write_bytes(file.read_bytes()[:-1])
    assert any(file.name in p and "bytes in the store" in p for p in verify(lake).problems)


def test_a_table_whose_log_is_gone_is_named(lake: Path) -> None:
    make_lake(lake, {"other": [Record(NOON, b"k", b"1")]})
    for version in (lake / "telemetry" / "_delta_log").glob("*.json"):
        version.unlink()
    assert verify(lake).problems == ["telemetry: data files, but no version in the table's log"]


def test_a_log_that_begins_with_an_empty_version_is_refused(lake: Path) -> None:
    first = lake / "telemetry" / "_delta_log" / f"{0:020d}.json"
    first.write_bytes(b"")
    with pytest.raises(Corrupt, match="begins without protocol and metadata"):
        verify(lake)


def test_another_cluster_s_offsets_of_records_without_address_are_not_twice(tmp_path: Path) -> None:
    make_lake(tmp_path, {"plain": [Record(NOON, b"k", b"1")] * 3})
    log = MemoryLog("cluster-2")
    log.append("plain", [Record(NOON, b"k", b"2")] * 2)
    extend_lake(tmp_path, log, 5)
    report = verify(tmp_path)
    assert report.complete, report.text()
    assert sorted((p.cluster, p.rows) for p in report.partitions) == [
        ("cluster-1", 3), ("cluster-2", 2),
    ]  # fmt: skip


def test_what_retention_took_before_it_was_read_is_said_in_the_verdict(tmp_path: Path) -> None:
    log = make_lake(tmp_path, {"plain": [Record(NOON, b"k", b"1")]})
    for _ in range(3):
        log.append("plain", [Record(NOON, b"k", b"2")])
    log.trim(TopicPartition("plain", 0), 3)
    extend_lake(tmp_path, log, 2)
    verdict = verify(tmp_path).text().splitlines()[-1]
    assert verdict.endswith(
        "2 rows, 0 offsets declared lost, 2 retired on the cluster before they were read"
    )


def test_a_position_ahead_of_the_rows_is_a_hole_at_the_end(lake: Path) -> None:
    def ahead(action: Action) -> Action:
        if "txn" in action and "/edge/" in str(action["txn"]["appId"]):
            action["txn"]["version"] = 35
        return action

    rewrite(lake, 2, ahead)
    assert verify(lake).places[0].missing == [(30, 34)]


def test_rows_ahead_of_the_position_are_named(lake: Path) -> None:
    rewrite(lake, 2, lambda action: None if "txn" in action else action)
    assert any("beyond the committed position" in p for p in verify(lake).problems)


def test_ranges_that_do_not_add_up_to_the_rows_are_named(lake: Path) -> None:
    def fewer(action: Action) -> Action:
        if "add" in action:
            action["add"]["stats"] = '{"numRecords":9}'
        return action

    rewrite(lake, 1, fewer)
    assert any("9 rows, but addresses for 10" in p for p in verify(lake).problems)


@pytest.mark.parametrize("reason", GapReason)
def test_a_declared_gap_is_no_hole_and_an_undeclared_part_of_it_is(
    tmp_path: Path, reason: GapReason
) -> None:
    gap = Gap(
        edge="edge-1", log="0123456789abcdef", stream="telemetry", partition=0, first=10, last=14,
        reason=reason,
    )  # fmt: skip
    make_lake(
        tmp_path,
        {
            "telemetry": [*records(0, 10), *records(15, 5), *records(22, 3)],
            "_gaps": [gap.record(NOON)],
        },
    )
    report = verify(tmp_path)
    assert [place.declared_lost for place in report.places] == [5]
    assert [place.missing for place in report.places] == [[(20, 21)]]
    assert report.gaps == [gap]


def test_an_edge_whose_first_records_never_came_is_not_complete(tmp_path: Path) -> None:
    make_lake(tmp_path, {"telemetry": records(3, 5)})
    assert verify(tmp_path).places[0].missing == [(0, 2)]


def test_one_edge_is_judged_by_itself(tmp_path: Path) -> None:
    make_lake(tmp_path, {"telemetry": [*records(0, 5, edge="good"), *records(2, 5, edge="bad")]})
    assert verify(tmp_path, "good").complete
    assert not verify(tmp_path, "bad").complete
    assert not verify(tmp_path).complete
    nobody = verify(tmp_path, "nobody")
    assert nobody.problems == ["the lake holds nothing of edge 'nobody'"]


def test_dead_letters_are_counted_and_no_hole(tmp_path: Path) -> None:
    make_lake(tmp_path, {"telemetry": [addressed(b"{", 0), addressed(b"{}", 1)]})
    report = verify(tmp_path)
    assert report.complete
    assert report.places[0].dead_letters == 1


def test_an_empty_lake_proves_nothing_and_none_is_refused(tmp_path: Path) -> None:
    assert verify(tmp_path).problems == [f"there are no tables at {tmp_path}"]
    with pytest.raises(Refused):
        verify(tmp_path / "nowhere")


RANGES = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 5)).map(lambda pair: (pair[0], pair[0] + pair[1])),
    max_size=6,
)


@given(RANGES, st.integers(0, 40))
def test_tiling_finds_exactly_the_offsets_that_a_set_finds(
    ranges: list[tuple[int, int]], end: int
) -> None:
    holes, overlaps = _tile(ranges, 0, end)
    count = [0] * 80
    for first, last in ranges:
        for offset in range(first, last + 1):
            count[offset] += 1
    assert offsets(holes) == {n for n in range(end) if not count[n]}
    assert offsets(overlaps) == {n for n in range(80) if count[n] > 1}


@given(RANGES, RANGES)
def test_subtracting_gaps_leaves_exactly_the_rest(
    holes: list[tuple[int, int]], gaps: list[tuple[int, int]]
) -> None:
    assert offsets(_subtract(holes, sorted(gaps))) == offsets(holes) - offsets(gaps)


def offsets(ranges: list[tuple[int, int]]) -> set[int]:
    return {offset for first, last in ranges for offset in range(first, last + 1)}
