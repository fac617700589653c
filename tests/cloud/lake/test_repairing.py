"""Repaired time in SQL is the pure function's, row by row; and it works on tables older than the column it reads."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest

from headwater.cloud.lake.query import connect
from headwater.core.anchor import Anchor, AnchorReason, trust_name
from headwater.core.belief import Mark, Trust
from headwater.core.record import ADDRESS_HEADER, LOG_HEADER, TIME_HEADER, Address, Record
from headwater.core.timeline import RepairedTime, Timeline
from tests.cloud.sink.log import NOON, addressed

from .river import extend_lake, make_lake

LOG = "0123456789abcdef"
HOUR = 3_600_000


def anchor(edge: str, mark: Mark, boot_ms: int, *, error: int) -> Anchor:
    return Anchor(
        edge=edge,
        log=LOG,
        boot=mark.boot,
        boot_ms=boot_ms,
        wall_ms=boot_ms + mark.offset_ms,
        trust=trust_name(mark.trust),
        error_ms=error,
        source="kernel",
        reason=AnchorReason.TICK,
    )


def stored(record: Record, edge: str, stream: str, offset: int, mark: Mark | None) -> Record:
    address = (ADDRESS_HEADER, Address(edge, stream, 0, offset).encode())
    more = () if mark is None else ((TIME_HEADER, mark.encode()),)
    return record._replace(headers=(address, (LOG_HEADER, LOG.encode()), *more))


def time_records(anchors: Sequence[Anchor]) -> list[Record]:
    counts: dict[str, int] = {}
    found = []
    for each in anchors:
        offset = counts[each.edge] = counts.get(each.edge, -1) + 1
        found.append(stored(each.record(), each.edge, "_time", offset, None))
    return found


class Edges:
    """Random histories: steps, conflicts, boots that never knew, ticks without number."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.anchors: list[Anchor] = []
        self.records: list[tuple[str, int, Mark | None]] = []
        for number in range(12):
            edge, wall = f"e{number}", NOON
            for boot_number in range(rng.randrange(1, 6)):
                boot = f"{rng.getrandbits(32):08x}"
                offset, at = wall, 0
                never = rng.random() < 0.4
                for _ in range(rng.randrange(1, 12)):
                    at += rng.choice((0, 1, 1000, rng.randrange(HOUR)))
                    offset += rng.choice((0, 0, rng.randrange(-900, 900)))
                    trust = rng.choice(list(Trust)[:2] if never else list(Trust))
                    if rng.random() < 0.7:
                        error = rng.choice((0, 10, 16_000))
                        self.anchors.append(
                            anchor(edge, Mark(boot, trust, offset), at, error=error)
                        )
                    mark = Mark(boot, trust, rng.choice((offset, NOON - at, 5 * HOUR)))
                    back = rng.choice((0, 7, at))
                    self.records.append((edge, at - back + mark.offset_ms, mark))
                wall += at + rng.randrange(HOUR)
                self.records.append((edge, NOON + boot_number, rng.choice((None, mark))))

    def expected(self, row: tuple[str, int, Mark | None]) -> RepairedTime:
        edge, timestamp, mark = row
        return Timeline([a for a in self.anchors if a.edge == edge]).repair(timestamp, mark)

    def telemetry(self) -> list[Record]:
        counts: dict[str, int] = {}
        found = []
        for number, (edge, timestamp, mark) in enumerate(self.records):
            offset = counts[edge] = counts.get(edge, -1) + 1
            # names that the query must not trip over
            payload = json.dumps({"n": number, "low": 1.5, "length": 3, "boot": "x"}).encode()
            record = Record(timestamp, b"dev", payload)
            found.append(stored(record, edge, "telemetry", offset, mark))
        return found


def ask(lake: Path, sql: str) -> list[tuple[object, ...]]:
    with connect(str(lake), sql=sql) as connection:
        found: list[tuple[object, ...]] = connection.execute(sql).fetchall()
        return found


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_lake_repairs_as_the_pure_function_does(tmp_path: Path, seed: int) -> None:
    edges = Edges(seed)
    make_lake(tmp_path, {"_time": time_records(edges.anchors), "telemetry": edges.telemetry()})
    rows = ask(
        tmp_path,
        "SELECT n::INT, epoch_ms(ts_repaired), epoch_ms(ts_lo), epoch_ms(ts_hi), ts_quality, "
        "low, length, boot FROM telemetry_repaired ORDER BY n",
    )
    expected = [
        (number, *found[:3], str(found.quality), 1.5, 3.0, "x")
        for number, row in enumerate(edges.records)
        if (found := edges.expected(row))
    ]
    assert rows == expected
    qualities = {row[4] for row in rows}
    assert qualities == {"synchronised", "repaired", "bounded", "conflict", "believed"}


def test_all_readings_at_once_and_the_clocks_themselves(tmp_path: Path) -> None:
    mark = Mark("0000000a", Trust.FLOOR, 5)
    anchors = [anchor("e", Mark("0000000a", Trust.SYNCHRONISED, NOON), 1000, error=7)]
    record = stored(Record(2005, b"dev", b'{"v":1}'), "e", "telemetry", 0, mark)
    own = stored(Record(2005, b"d", b'{"ts":%d}' % NOON), "e", "telemetry", 1, mark)
    plain = Record(NOON, b"dev", b'{"v":2}')
    make_lake(
        tmp_path, {"_time": time_records(anchors), "telemetry": [record, own], "plain": [plain]}
    )
    rows = ask(
        tmp_path,
        "SELECT stream, epoch_ms(ts_repaired), epoch_ms(ts_lo), epoch_ms(ts_hi), ts_quality, "
        'epoch_ms(arrival_repaired) FROM readings_repaired ORDER BY stream, "offset"',
    )
    assert rows == [
        ("plain", NOON, None, None, "believed", NOON),
        ("telemetry", NOON + 2000, NOON + 1992, NOON + 2008, "repaired", NOON + 2000),
        ("telemetry", NOON, None, None, "payload", NOON + 2000),
    ]
    assert ask(tmp_path, "SELECT edge, boot, wall_ms, trust, reason FROM clocks") == [
        ("e", "0000000a", NOON + 1000, "synchronised", "tick")
    ]


def test_a_lake_without_any_clock_is_as_it_was_believed(tmp_path: Path) -> None:
    make_lake(tmp_path, {"telemetry": [addressed(b'{"v":1}', 0)]})
    found = ask(tmp_path, "SELECT ts_repaired = ts, ts_lo, ts_quality FROM telemetry_repaired")
    assert found == [(True, None, "believed")]


def test_a_table_from_before_the_marks_grows_the_column(tmp_path: Path) -> None:
    log = make_lake(tmp_path, {"telemetry": [addressed(b'{"v":1}', 0)]})
    first = tmp_path / "telemetry/_delta_log/00000000000000000000.json"
    lines = [json.loads(line) for line in first.read_text().splitlines()]
    for line in lines:
        if "metaData" in line:
            schema = json.loads(line["metaData"]["schemaString"])
            schema["fields"] = [f for f in schema["fields"] if f["name"] != "clock_mark"]
            line["metaData"]["schemaString"] = json.dumps(schema)
    first.write_text("\n".join(map(json.dumps, lines)) + "\n")
    with pytest.raises(duckdb.Error):
        ask(tmp_path, "SELECT clock_mark FROM telemetry")
    assert ask(tmp_path, "SELECT ts_quality FROM telemetry_repaired") == [("believed",)]
    mark = Mark("0000000a", Trust.NONE, 5).encode()
    log.append("telemetry", [addressed(b'{"v":2}', 1, extra=((TIME_HEADER, mark),))])
    extend_lake(tmp_path, log, 2)
    rows = ask(tmp_path, 'SELECT clock_mark FROM telemetry ORDER BY "offset"')
    assert rows[1] == (mark.decode(),)
