"""A result written out: table, json (an array, one object a line), csv or parquet."""

from __future__ import annotations

import csv
import datetime
import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import duckdb
import msgspec
import pyarrow.parquet as pq

from ...core.errors import Refused

if TYPE_CHECKING:
    from typing_extensions import Buffer

FORMATS = ("table", "json", "csv", "parquet")

_PAGE = 5000
# A table is for eyes: more rows than this are better asked for as csv or parquet.
TABLE_ROWS_MAX = 1000
CELL_CHARACTERS_MAX = 60
# What moves a terminal's cursor, colours it, or turns the line around.
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]")


def render(result: duckdb.DuckDBPyConnection, *, form: str, out: BinaryIO) -> None:
    """Raises Refused for a format that is not known."""
    if form == "parquet":
        _parquet(result, out)
        return
    names = _distinct([str(column[0]) for column in result.description or []])
    writers = {"table": _table, "json": _json, "csv": _csv}
    if form not in writers:
        raise Refused(f"{form!r} is no format; there are {', '.join(FORMATS)}")
    writers[form](names, _rows(result), out)
    out.flush()


def _rows(result: duckdb.DuckDBPyConnection) -> Iterator[tuple[object, ...]]:
    while page := result.fetchmany(_PAGE):
        yield from page


def _distinct(names: list[str]) -> list[str]:
    """An object cannot have two fields of one name, a result can."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}_{seen[name] - 1}")
    return out


def _plain(value: object) -> object:
    """Times in UTC with a Z, bytes as escapes: what the text formats show."""
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value


def _json(names: list[str], rows: Iterator[tuple[object, ...]], out: BinaryIO) -> None:
    encoder = msgspec.json.Encoder(enc_hook=str, decimal_format="number")
    separator = b"[\n"
    for row in rows:
        cells = dict(zip(names, map(_plain, row), strict=True))
        out.write(separator + encoder.encode(cells))
        separator = b",\n"
    out.write(b"[]\n" if separator == b"[\n" else b"\n]\n")


def _csv(names: list[str], rows: Iterator[tuple[object, ...]], out: BinaryIO) -> None:
    wrapper = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
    try:
        writer = csv.writer(wrapper)
        writer.writerow(names)
        for row in rows:
            writer.writerow(["" if cell is None else _plain(cell) for cell in row])
    finally:
        wrapper.detach()


class _Counting(io.RawIOBase):
    """A pipe cannot tell its position, which a Parquet writer asks for."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        size = memoryview(data).nbytes
        self._out.write(data)
        self._position += size
        return size

    def tell(self) -> int:
        return self._position


def _parquet(result: duckdb.DuckDBPyConnection, out: BinaryIO) -> None:
    reader = result.to_arrow_reader(_PAGE * 20)
    with pq.ParquetWriter(_Counting(out), reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)
    out.flush()


def _table(names: list[str], rows: Iterator[tuple[object, ...]], out: BinaryIO) -> None:
    shown: list[list[str]] = []
    numeric = [True] * len(names)
    more = False
    for row in rows:
        if len(shown) == TABLE_ROWS_MAX:
            more = True
            break
        for index, cell in enumerate(row):
            if cell is not None and (isinstance(cell, bool) or not isinstance(cell, int | float)):
                numeric[index] = False
        shown.append([_cell(cell) for cell in row])
    widths = [
        max([len(name), *(len(row[index]) for row in shown)]) for index, name in enumerate(names)
    ]

    def line(cells: list[str]) -> str:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        ]
        return "  ".join(padded).rstrip()

    lines = [line(names), line(["─" * width for width in widths]), *map(line, shown)]
    if more:
        lines.append(f"… the first {TABLE_ROWS_MAX} rows; --format csv writes them all")
    else:
        lines.append(f"({len(shown)} row{'' if len(shown) == 1 else 's'})")
    out.write(("\n".join(lines) + "\n").encode())


def _cell(value: object) -> str:
    if value is None:
        return "∅"
    shown = str(_plain(value)).replace("\n", "⏎").replace("\r", "").replace("\t", " ")
    # a device's text is no command to this terminal
    shown = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", shown)
    return shown if len(shown) <= CELL_CHARACTERS_MAX else shown[: CELL_CHARACTERS_MAX - 1] + "…"
