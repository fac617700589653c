"""Our tables in other people's hands: deltalake, polars and DuckDB read them, and what deltalake writes we survive."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import deltalake
import duckdb
import polars
import pyarrow as pa
import pytest

from headwater.cloud.lake.query import connect
from headwater.cloud.lake.verify import run_verify
from headwater.core.batch import encode_batch
from headwater.core.record import Record, TopicPartition
from tests.cloud.sink.log import NOON, MemoryLog, addressed

from .river import extend_lake, make_lake


def records(first: int, count: int) -> list[Record]:
    return [addressed(b'{"t":%d.5,"s":"x%d"}' % (n, n), n) for n in range(first, first + count)]


def in_many_commits(folder: Path, commits: int) -> MemoryLog:
    log = make_lake(folder, {"telemetry": records(0, 10)})
    for number in range(1, commits):
        log.append("telemetry", records(number * 10, 10))
        extend_lake(folder, log, number * 10 + 10)
    return log


def ours(folder: Path) -> int:
    with connect(str(folder)) as connection:
        found = connection.execute("select count(*) from telemetry").fetchone()
    assert found is not None
    return int(found[0])


def test_all_engines_count_the_same(tmp_path: Path) -> None:
    in_many_commits(tmp_path, 4)
    table = deltalake.DeltaTable(str(tmp_path / "telemetry"))
    assert table.version() >= 3
    arrow = pa.table(
        deltalake.QueryBuilder().register("t", table).execute("select * from t").read_all()
    )
    frame = polars.scan_delta(str(tmp_path / "telemetry")).collect()
    assert arrow.num_rows == frame.height == ours(tmp_path) == 40
    assert sorted(frame["t"].to_list()) == [n + 0.5 for n in range(40)]
    assert frame.schema["ts"] == polars.Datetime("us", "UTC")
    assert str(frame["day"].dtype) == "Date"


def test_they_read_from_our_checkpoint_too(tmp_path: Path) -> None:
    log = make_lake(tmp_path, {"telemetry": records(0, 1)})
    tp = TopicPartition("telemetry", 0)
    for n in range(1, 60):
        log.append_bytes(tp, encode_batch(records(n, 1), base_offset=n))
        if n % 1 == 0:
            extend_lake(tmp_path, log, n + 1)
    folder = tmp_path / "telemetry" / "_delta_log"
    checkpoints = sorted(folder.glob("*.checkpoint.parquet"))
    assert checkpoints
    last = int(checkpoints[-1].name[:20])
    for version in range(last):
        (folder / f"{version:020d}.json").unlink()
    assert len(deltalake.DeltaTable(str(tmp_path / "telemetry")).file_uris()) == 60
    assert polars.scan_delta(str(tmp_path / "telemetry")).collect().height == 60
    assert ours(tmp_path) == 60
    assert run_verify(lake=str(tmp_path)).complete
    raw = duckdb.sql(f"select count(*) from '{checkpoints[-1]}'").fetchone()
    assert raw is not None


@pytest.mark.parametrize("checkpointed", [False, True])
def test_after_their_compaction_the_sink_goes_on_and_the_proof_holds(
    tmp_path: Path, checkpointed: bool
) -> None:
    log = in_many_commits(tmp_path, 3)
    table = deltalake.DeltaTable(str(tmp_path / "telemetry"))
    table.optimize.compact()
    if checkpointed:
        table.create_checkpoint()
    log.append("telemetry", records(30, 10))
    extend_lake(tmp_path, log, 40)
    assert ours(tmp_path) == 40
    report = run_verify(lake=str(tmp_path))
    assert report.complete, report.text()
    assert any("written by another tool" in note for note in report.notes)


def test_after_their_delete_the_proof_names_what_is_gone(tmp_path: Path) -> None:
    log = in_many_commits(tmp_path, 2)
    deltalake.DeltaTable(str(tmp_path / "telemetry")).delete('"offset" >= 5 AND "offset" < 8')
    log.append("telemetry", records(20, 10))
    extend_lake(tmp_path, log, 27)
    report = run_verify(lake=str(tmp_path))
    assert [place.missing for place in report.places] == [[(5, 7)]]
    assert ours(tmp_path) == 27


def test_after_their_delete_of_records_without_address_nothing_is_called_complete(
    tmp_path: Path,
) -> None:
    make_lake(tmp_path, {"plain": [Record(NOON, b"k", b"%d" % n) for n in range(10)]})
    deltalake.DeltaTable(str(tmp_path / "plain")).delete('"offset" = 4')
    [problem] = run_verify(lake=str(tmp_path)).problems
    assert "offsets 4 have no row" in problem


def test_their_own_table_beside_ours_hides_nothing(tmp_path: Path) -> None:
    in_many_commits(tmp_path, 2)
    deltalake.write_deltalake(str(tmp_path / "theirs"), pa.table({"a": [1, 2]}))
    report = run_verify(lake=str(tmp_path))
    assert report.complete, report.text()
    assert report.notes == ["theirs: no sink made this table; it is not judged"]
    with connect(str(tmp_path)) as connection:
        counts = [
            connection.execute(f"select count(*) from {view}").fetchone()
            for view in ("readings", "theirs", "dead_letters", "gaps")
        ]
    assert counts == [(20,), (2,), (0,), (0,)]


def test_a_table_of_ours_whose_columns_another_took_away_is_not_complete(tmp_path: Path) -> None:
    make_lake(tmp_path, {"plain": [Record(NOON, b"k", b"1")]})
    theirs = pa.table({"a": [1], "day": pa.array([NOON // 86_400_000], pa.date32())})
    deltalake.write_deltalake(
        str(tmp_path / "plain"), theirs, mode="overwrite", schema_mode="overwrite"
    )
    [problem] = run_verify(lake=str(tmp_path)).problems
    assert "another writer took away the columns" in problem


def test_a_file_of_theirs_that_cannot_be_read_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    in_many_commits(tmp_path, 3)
    table = deltalake.DeltaTable(str(tmp_path / "telemetry"))
    table.optimize.compact()
    [uri] = table.file_uris()
    Path(uri.removeprefix("file://")).write_bytes(b"short")
    problems = run_verify(lake=str(tmp_path)).problems
    assert any("cannot be read" in problem for problem in problems), problems


def test_the_query_side_loads_nothing_of_the_edge_s_and_no_deltalake(tmp_path: Path) -> None:
    code = (
        "import sys; from headwater.cloud.lake.query import connect; "
        f"connect({str(tmp_path)!r}); "
        "assert not {'deltalake', 'polars', 'headwater.edge'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
