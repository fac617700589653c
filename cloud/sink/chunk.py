"""The columns of some thousand rows while payloads are sorted into them: always one cell per row, whatever happens.

Where a value goes is decided by columns.py; whether a row is a dead letter by payloads.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc

from ..lake.delta.schema import arrow_types
from .columns import DEPTH_MAX, EXTRA, Column, Columns, Path
from .jsonvalues import clean, inexact, json_text, kind_of
from .times import FIRST_MS, FUTURE_MAX_US, LAST_MS, micros


class Decoded(NamedTuple):
    """Of each row: time, where it came from, text, bytes, why it is a dead letter; and the decoded columns."""

    ts: pa.Array  # int64 µs, null where neither payload nor arrival has one
    from_payload: pa.Array  # bool
    payload: pa.Array
    payload_raw: pa.Array
    error: pa.Array
    dead: int
    columns: dict[str, pa.Array]


class Chunk:
    """The columns of some thousand rows, while they are filled."""

    def __init__(
        self, values: Sequence[bytes | None], arrivals_us: pa.Array, now_us: int, columns: Columns
    ) -> None:
        self.values = values
        self.count = len(values)
        self._arrivals_us = arrivals_us
        self._arrivals: list[int | None] = arrivals_us.to_pylist()
        self._now_us = now_us
        self._columns = columns
        self._ts: list[int | None] = []
        self._ts_whole: pa.Array | None = None
        self._cells: dict[str, tuple[Column, list[object]]] = {}
        self._extra: dict[int, dict[str, object]] = {}
        self._errors: dict[int, str] = {}
        self._raw: dict[int, bytes] = {}
        self._text = self._read_text()

    def _read_text(self) -> pa.Array:
        try:
            return pa.array(self.values, pa.binary()).cast(pa.string())
        except pa.ArrowInvalid:
            pass
        texts: list[str | None] = []
        for row, value in enumerate(self.values):
            try:
                texts.append(None if value is None else value.decode())
            except UnicodeDecodeError as error:
                texts.append(None)
                self._raw[row] = cast("bytes", value)
                self.kill(row, f"not utf-8: byte {error.start} is {error.object[error.start]:#04x}")
        return pa.array(texts, pa.string())

    def candidates(self) -> list[int]:
        if not self._raw and None not in self.values:
            return list(range(self.count))
        return [
            row
            for row, value in enumerate(self.values)
            if value is not None and row not in self._raw
        ]

    def kill(self, row: int, why: str) -> None:
        """This row is a dead letter."""
        self._errors[row] = why

    def put_time(self, row: int, value: object) -> bool:
        arrival = self._arrivals[row]
        latest = self._now_us if arrival is None else max(self._now_us, arrival)
        found = micros(value, latest_us=latest)
        if found is None:
            return False
        self._ts_list()[row] = found
        return True

    def _ts_list(self) -> list[int | None]:
        if not self._ts:
            whole = self._ts_whole
            self._ts = [None] * self.count if whole is None else whole.to_pylist()
            self._ts_whole = None
        return self._ts

    def fill_times(self, name: str, values: list[object]) -> None:
        """One time field for all rows: as a whole where all are milliseconds, else one by one."""
        if not self._ts:
            try:
                times = pc.multiply_checked(pa.array(values, pa.int64()), 1000)
                low, high = pc.min_max(times).as_py().values()
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
                low = high = None
            latest = min(LAST_MS * 1000, self._now_us + FUTURE_MAX_US)
            if low is not None and low >= FIRST_MS * 1000 and high < latest:
                self._ts_whole = times
                return
        for row, value in enumerate(values):
            if value is not None and not self.put_time(row, value):
                self.put(row, (name,), value)

    def fill(self, column: Column, values: list[object]) -> None:
        """Values that are known to fit; None where the row has none, or was not looked at."""
        held = self._cells.get(column.name)
        if held is None:
            self._cells[column.name] = (column, values)
            return
        cells = held[1]
        for row, value in enumerate(values):
            if value is not None:
                cells[row] = value

    def put(self, row: int, path: Path, value: object) -> None:
        """Any JSON value, to where it belongs."""
        if value is None:
            return
        if isinstance(value, dict):
            if len(path) < DEPTH_MAX:
                for key, item in value.items():
                    self.put(row, (*path, key), item)
                return
            value = json_text(value)
        elif isinstance(value, list):
            value = json_text(value)
        kind = kind_of(value)
        base = self._columns.base(path, kind)
        if base is None:
            self._overflow(row, path, value)
        elif base.type == kind and not inexact(value) and self._is_free(base, row):
            self._cell(base)[row] = clean(value)
        else:
            beside = self._columns.conflict(base)
            if beside is None or not self._is_free(beside, row):
                self._overflow(row, path, value)
            else:
                self._cell(beside)[row] = value if isinstance(value, str) else json_text(value)
                self._cell(beside)[row] = clean(self._cell(beside)[row])

    def _is_free(self, column: Column, row: int) -> bool:
        held = self._cells.get(column.name)
        return held is None or held[1][row] is None

    def _overflow(self, row: int, path: Path, value: object) -> None:
        self._columns.add_extra()
        self._extra.setdefault(row, {})[".".join(path)] = value

    def _cell(self, column: Column) -> list[object]:
        held = self._cells.get(column.name)
        if held is None:
            held = self._cells[column.name] = (column, [None] * self.count)
        return held[1]

    def finish(self) -> Decoded:
        types = arrow_types()
        columns = {
            name: pa.array(cells, types[column.type])
            for name, (column, cells) in self._cells.items()
        }
        if self._extra:
            texts: list[str | None] = [None] * self.count
            for row, extra in self._extra.items():
                texts[row] = cast("str", clean(json_text(extra)))
            columns[EXTRA] = pa.array(texts, pa.string())
        ts = self._ts_whole
        if ts is None:
            ts = pa.array(self._ts, pa.int64()) if self._ts else pa.nulls(self.count, pa.int64())
        return Decoded(
            ts=pc.coalesce(ts, self._arrivals_us),
            from_payload=ts.is_valid(),
            payload=self._text,
            payload_raw=_sparse(self._raw, self.count, pa.binary()),
            error=_sparse(self._errors, self.count, pa.string()),
            dead=len(self._errors),
            columns=columns,
        )


def _sparse(cells: dict[int, str] | dict[int, bytes], count: int, kind: pa.DataType) -> pa.Array:
    if not cells:
        return pa.nulls(count, kind)
    return pa.array([cells.get(row) for row in range(count)], kind)
