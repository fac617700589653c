"""What an analyst sees: the views, the formats, the refusals."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from headwater.cloud.lake.query import connect, run_query
from headwater.core.errors import Refused
from headwater.core.gap import Gap, GapReason
from headwater.core.record import Record
from tests.cloud.sink.log import NOON, addressed

from .river import extend_lake, make_lake

TELEMETRY = [
    addressed(b'{"t":20.5,"h":40}', 0, key=b"a"),
    addressed(b'{"t":21.5}', 1, key=b"b"),
    addressed(b'{"t":', 2, key=b"b"),
    addressed(b"\xff", 3, key=b"b"),
    addressed(b'{"t":"hot"}', 4, key=b"a"),
]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("lake")
    gap = Gap(
        edge="edge-1", log="0123456789abcdef", stream="telemetry", partition=0, first=5, last=9,
        reason=GapReason.RETENTION,
    ).record(NOON)  # fmt: skip
    make_lake(
        folder,
        {
            "telemetry": TELEMETRY,
            "odd.name-1": [Record(NOON, b"k", b"7")],
            "_gaps": [gap],
        },
    )
    return str(folder)


def ask(lake: str, sql: str) -> list[tuple[object, ...]]:
    with connect(lake, sql=sql) as connection:
        found: list[tuple[object, ...]] = connection.execute(sql).fetchall()
        return found


def written(lake: str, sql: str, form: str) -> bytes:
    out = io.BytesIO()
    run_query(sql, lake=lake, format=form, out=out)
    return out.getvalue()


def test_readings_has_every_record_of_every_stream_but_internal_ones(lake: str) -> None:
    assert ask(
        lake, "select stream, count(*), count(payload) from readings group by 1 order by 1"
    ) == [
        ("odd.name-1", 1, 1),
        ("telemetry", 5, 4),
    ]


def test_a_stream_s_view_has_decoded_columns_and_no_dead_letters(lake: str) -> None:
    found = ask(lake, 'select device, t, h, t__str from telemetry order by "offset"')
    assert found == [("a", 20.5, 40.0, None), ("b", 21.5, None, None), ("a", None, None, "hot")]
    assert ask(lake, 'select value from "odd.name-1"') == [(7.0,)]


def test_streams_that_differ_in_case_alone_are_both_there(tmp_path: Path) -> None:
    warm, hot = Record(NOON, b"k", b"1"), Record(NOON, b"k", b"2")
    make_lake(tmp_path, {"Heat": [warm], "heat": [hot, hot]})
    lake = str(tmp_path)
    found = ask(lake, "select stream, count(*) from readings group by 1 order by 1")
    assert found == [("Heat", 1), ("heat", 2)]
    views = ("heat", "heat_2", "lake.heat", "lake.heat_2")
    assert [ask(lake, f"select count(*) from {view}") for view in views] == [[(1,)], [(2,)]] * 2


def test_dead_letters_say_why_and_keep_the_bytes(lake: str) -> None:
    found = ask(lake, 'select "offset", payload, payload_raw, error from dead_letters order by 1')
    assert [row[:3] for row in found] == [(2, '{"t":', None), (3, None, b"\xff")]
    assert [str(row[3]).split(":")[0] for row in found] == ["broken json", "not utf-8"]


def test_gaps_are_decoded(lake: str) -> None:
    assert ask(lake, "select edge, stream, partition, first, last, reason from gaps") == [
        ("edge-1", "telemetry", 0, 5, 9, "retention")
    ]


def test_edges_say_how_far_each_is(lake: str) -> None:
    assert ask(lake, "select edge, stream, next_offset from edges") == [("edge-1", "telemetry", 5)]


def test_all_views_are_listed(lake: str) -> None:
    names = {row[0] for row in ask(lake, "show tables")}
    assert {"readings", "telemetry", "odd.name-1", "dead_letters", "gaps", "edges"} <= names


def test_joins_of_several_streams_find_both(lake: str) -> None:
    sql = 'select count(*) from telemetry, "odd.name-1"'
    assert ask(lake, sql) == [(3,)]


def test_an_empty_lake_has_empty_readings_with_the_right_columns(tmp_path: Path) -> None:
    sql = 'select device, topic, ts, arrival, edge, stream, "partition", "offset", payload from readings'
    assert ask(str(tmp_path), sql) == []
    assert json.loads(written(str(tmp_path), sql, "json")) == []


def test_a_lake_that_is_not_there_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no lake"):
        written(str(tmp_path / "nowhere"), "select 1", "json")
    assert not (tmp_path / "nowhere").exists()


def test_files_that_no_log_names_do_not_exist(tmp_path: Path) -> None:
    make_lake(tmp_path, {"telemetry": TELEMETRY})
    [file] = tmp_path.glob("telemetry/data/*/*.parquet")
    file.with_name("orphan.parquet").write_bytes(file.read_bytes())
    assert ask(str(tmp_path), "select count(*) from readings") == [(5,)]


def test_columns_that_came_later_are_null_before(tmp_path: Path) -> None:
    log = make_lake(tmp_path, {"telemetry": [addressed(b'{"t":1}', 0)]})
    log.append("telemetry", [addressed(b'{"t":2,"new":"x"}', 1)])
    extend_lake(tmp_path, log, 2)
    assert ask(str(tmp_path), 'select t, new from telemetry order by "offset"') == [
        (1.0, None),
        (2.0, "x"),
    ]


class TestFormats:
    SQL = 'select device, ts, t, payload_raw from telemetry order by "offset" limit 2'

    def test_json_is_an_array_and_one_object_a_line(self, lake: str) -> None:
        text = written(lake, self.SQL, "json").decode()
        whole = json.loads(text)
        assert whole[0] == {
            "device": "a",
            "ts": "2026-11-22T12:00:00Z",
            "t": 20.5,
            "payload_raw": None,
        }
        assert len(text.splitlines()) == 4

    def test_two_columns_of_one_name_are_both_there(self, lake: str) -> None:
        assert json.loads(written(lake, "select 1 as x, 2 as x", "json")) == [{"x": 1, "x_1": 2}]

    def test_json_of_odd_values(self, lake: str) -> None:
        sql = (
            "select 'nan'::double as n, 1.50::decimal(9,2) as d, 170141183460469231731687303715884105727 as h,"
            " '\\xFF'::blob as b, interval 1 day as i, [1,2] as l, {'a': 1} as s"
        )
        [row] = json.loads(written(lake, sql, "json"))
        assert row["n"] is None
        assert row["l"] == [1, 2]
        assert row["b"] == "\\xff"

    def test_csv(self, lake: str) -> None:
        rows = list(csv.reader(io.StringIO(written(lake, self.SQL, "csv").decode())))
        assert rows[1] == ["a", "2026-11-22T12:00:00Z", "20.5", ""]

    def test_parquet(self, lake: str) -> None:
        found = pq.read_table(io.BytesIO(written(lake, self.SQL, "parquet")))
        assert found["t"].to_pylist() == [20.5, 21.5]

    def test_table_is_aligned_and_counts(self, lake: str) -> None:
        lines = written(lake, self.SQL, "table").decode().splitlines()
        assert lines[0].split() == ["device", "ts", "t", "payload_raw"]
        assert lines[-1] == "(2 rows)"

    def test_table_gives_the_terminal_no_control_character_of_a_device(self, lake: str) -> None:
        sql = "select 'ü' || chr(27) || '[2J' || chr(155) || '31m' || chr(8238) || chr(10) as t"
        assert "ü\\x1b[2J\\x9b31m\\x202e⏎" in written(lake, sql, "table").decode()
        assert b"\x1b[2J" in written(lake, sql, "csv"), "a file has it as it was"

    def test_table_stops_at_a_thousand_rows_and_says_so(self, lake: str) -> None:
        lines = written(lake, "select * from range(5000)", "table").decode().splitlines()
        assert len(lines) == 1003
        assert "--format csv" in lines[-1]


class TestRefusals:
    @pytest.mark.parametrize(
        "sql", ["selec 1", "select nothing from readings", "select * from nowhere", "select 1/'x'"]
    )
    def test_wrong_sql_is_one_line(self, lake: str, sql: str) -> None:
        with pytest.raises(Refused) as caught:
            written(lake, sql, "json")
        assert str(caught.value).startswith("sql: ")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "sql",
        [
            "copy (select 1) to '{lake}/x.csv'",
            "copy readings to '{lake}/x.parquet' (format parquet)",
            "explain analyze copy (select 1) to '{lake}/x.csv'",
            "explain (analyze) copy (select 1) to '{lake}/x.csv'",
            "export database '{lake}/x'",
            "attach '{lake}/x.db'",
            "select 1; copy (select 1) to '{lake}/x.csv'",
            "prepare p as copy (select 1) to '{lake}/x.csv'",
            "install spatial",
        ],
    )
    def test_what_could_write_is_refused_before_it_runs(self, lake: str, sql: str) -> None:
        with pytest.raises(Refused, match="only reads"):
            written(lake, sql.format(lake=lake), "json")
        assert not list(Path(lake).glob("x*"))

    def test_nothing_asked(self, lake: str) -> None:
        with pytest.raises(Refused):
            written(lake, " -- nothing", "json")

    def test_explain_and_pivot_are_questions(self, lake: str) -> None:
        assert written(lake, "explain select 1", "table")
        assert written(
            lake, "pivot (select device, t from telemetry) on device using avg(t)", "json"
        )


def test_the_library_s_connection_is_duckdb_s(lake: str) -> None:
    with connect(lake) as connection:
        assert isinstance(connection, duckdb.DuckDBPyConnection)
        assert connection.sql("select * from lake.telemetry").to_arrow_table().num_rows == 5
