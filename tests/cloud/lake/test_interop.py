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
from tests.cloud.sink.log import MemoryLog, addressed

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


def test_the_query_side_loads_nothing_of_the_edge_s_and_no_deltalake(tmp_path: Path) -> None:
    code = (
        "import sys; from headwater.cloud.lake.query import connect; "
        f"connect({str(tmp_path)!r}); "
        "assert not {'deltalake', 'polars', 'headwater.edge'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
