"""Payloads to columns: row-aligned, each record by itself, never joined.

Why not a bulk JSON reader over joined lines: `{..}{..}` on one line is two rows to it and an empty payload none, so
the count still matches while values move to another device. Here each payload is decoded alone, twice as careful as
fast:

  fast   a msgspec struct made from the columns known so far, which refuses whatever it was not made for (unknown
         fields, another type, an integer a double cannot hold). 0.2 µs a record.
  slow   whatever the struct refused: decoded to plain objects and sorted into columns by cloud/sink/columns.py, which
         may make new ones. Then the struct is made anew, so a new field costs a few records only.

What a payload may be (setting `format`):
  auto   first non-space byte `{`: a JSON object, or else a dead letter. A plain JSON number: column `value`. Any other
         text (strings, arrays, CSV, empty): `payload` alone. Not UTF-8: a dead letter with its bytes in `payload_raw`.
  json   any JSON value; everything else, the empty payload too, is a dead letter.
  text   any UTF-8; else a dead letter.
  raw    bytes in `payload_raw`, never looked at.
A null value (Kafka's tombstone) is a row without payload in every format.

JSON as its writers write it: NaN, Infinity and -Infinity are taken as doubles (Python and many C libraries emit
them); numbers beyond a double's range are kept as text; of duplicate keys the last counts (`payload` keeps both);
nesting deeper than the decoder's limit is a dead letter; half of a surrogate pair becomes its escape.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Sequence
from typing import Annotated, NamedTuple, cast

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from ..lake.delta.schema import BOOLEAN, DOUBLE, STRING, arrow_types
from .columns import DEPTH_MAX, EXTRA, VALUE, Column, Columns, Path
from .settings import PayloadFormat
from .times import FIRST_MS, FUTURE_MAX_US, LAST_MS, TIME_FIELDS, micros

_EXACT = 2**53
_ExactInt = Annotated[int, msgspec.Meta(ge=-_EXACT, le=_EXACT)]
# What the fast struct takes for a column of each type; anything else is refused, and so goes the slow way.
_ACCEPTS: dict[str, object] = {
    DOUBLE: _ExactInt | float | None,
    STRING: str | list[object] | None,  # arrays become JSON text in a string column
    BOOLEAN: bool | None,
}
_TIME_ACCEPTS = int | float | str | None

# Above this many columns a struct per record costs more than looking at the fields it has.
FAST_COLUMNS_MAX = 32
# So many odd records are looked at before the struct is made anew for the rest.
LEARN_ROWS = 64

# Fields that were null whenever they were seen have no column, but the fast struct must know them.
NULL_FIELDS_MAX = 32

_NUMBER = re.compile(
    rb"[ \t\r\n]*(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)[ \t\r\n]*\Z"
)
_ESCAPED = re.compile(r'[\x00-\x1f"\\\ud800-\udfff]')
_SPACE = b" \t\r\n"
_DIGITS_MAX = 4000  # CPython refuses to parse longer integers; they stay text

_plain = msgspec.json.Decoder()


class _Digits(str):
    """A number that neither int nor float holds: kept as it was written."""

    __slots__ = ()


class Decoded(NamedTuple):
    """Of each row: time, where it came from, text, bytes, why it is a dead letter; and the decoded columns."""

    ts: pa.Array  # int64 µs, null where neither payload nor arrival has one
    from_payload: pa.Array  # bool
    payload: pa.Array
    payload_raw: pa.Array
    error: pa.Array
    dead: int
    columns: dict[str, pa.Array]


class PayloadDecoder:
    """For one table. `columns` grows as payloads ask for it."""

    def __init__(self, columns: Columns, *, payload_format: PayloadFormat) -> None:
        self.columns = columns
        self._format = payload_format
        self._times_seen: list[str] = []
        self._nulls_seen: set[str] = set()
        self._fast: _FastStruct | None = None

    def decode(
        self, values: Sequence[bytes | None], arrivals_us: pa.Array, *, now_us: int
    ) -> Decoded:
        """`arrivals_us` int64 µs with nulls; `now_us` the sink's clock."""
        count = len(values)
        if self._format is PayloadFormat.RAW:
            empty = pa.nulls(count, pa.string())
            return Decoded(
                arrivals_us,
                pa.repeat(pa.scalar(value=False), count),
                empty,
                pa.array(values, pa.binary()),
                empty,
                0,
                {},
            )
        chunk = _Chunk(values, arrivals_us, now_us, self.columns)
        if self._format is not PayloadFormat.TEXT:
            self._decode_objects(chunk)
        return chunk.finish()

    def _decode_objects(self, chunk: _Chunk) -> None:
        todo: list[int] = chunk.candidates()
        while todo:
            fast = self._fast_struct()
            odd = fast.decode(chunk, todo) if fast is not None else todo
            known = self._known
            todo = []
            for number, row in enumerate(odd):
                self._decode_slowly(chunk, row)
                if number + 1 >= LEARN_ROWS and self._known != known and self._fast_pays:
                    todo = odd[number + 1 :]
                    break

    @property
    def _known(self) -> tuple[int, int, int]:
        """Changes with whatever the fast struct is made from."""
        return self.columns.version, len(self._times_seen), len(self._nulls_seen)

    @property
    def _fast_pays(self) -> bool:
        return len(self.columns.bases) <= FAST_COLUMNS_MAX

    def _fast_struct(self) -> _FastStruct | None:
        if not self._fast_pays or not (self.columns.bases or self._times_seen):
            return None
        if self._fast is None or self._fast.known != self._known:
            self._fast = _FastStruct(
                self.columns.bases, tuple(self._times_seen), self._nulls_seen, self._known
            )
        return self._fast

    def _decode_slowly(self, chunk: _Chunk, row: int) -> None:
        payload = chunk.values[row]
        assert payload is not None
        if not payload.lstrip(_SPACE).startswith(b"{"):
            if match := _NUMBER.match(payload):
                chunk.put(row, VALUE, _number(match[1].decode()))
                return
            if self._format is PayloadFormat.AUTO:
                return
        try:
            value = _loads(payload)
        except (ValueError, RecursionError) as error:
            why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            chunk.kill(row, f"broken json: {why}")
            return
        if isinstance(value, dict):
            self._put_object(chunk, row, value)

    def _put_object(self, chunk: _Chunk, row: int, value: dict[str, object]) -> None:
        for name in TIME_FIELDS:
            if (field := value.get(name)) is not None and chunk.put_time(row, field):
                if name not in self._times_seen:
                    self._times_seen.append(name)
                value = {key: item for key, item in value.items() if key != name}
                break
        for key, item in value.items():
            if item is None and len(self._nulls_seen) < NULL_FIELDS_MAX:
                self._nulls_seen.add(key)
            chunk.put(row, (key,), item)


class _FastStruct:
    """A struct type that takes exactly the payloads the known columns were made for."""

    def __init__(
        self,
        columns: list[Column],
        times: tuple[str, ...],
        nulls: set[str],
        known: tuple[int, int, int],
    ) -> None:
        self.known = known
        self._times = times
        leaves = {column.path: column for column in columns}
        for (
            name
        ) in times:  # a time that is also a column (it was implausible once) goes the time's way
            leaves.pop((name,), None)
        # a field that is both a value and an object (of different records) cannot be in one struct
        self._leaves = {
            path: column
            for path, column in leaves.items()
            if not any(path[:depth] in leaves for depth in range(1, len(path)))
            and path[0] not in times
            and all(map(_can_be_field, path))
            and _ACCEPTS.get(column.type) is not None
        }
        tree: dict[str, object] = {}
        for path, column in self._leaves.items():
            node = tree
            for key in path[:-1]:
                node = cast("dict[str, object]", node.setdefault(key, {}))
            node[path[-1]] = _ACCEPTS[column.type]
        for name in times:
            tree[name] = _TIME_ACCEPTS
        for name in filter(_can_be_field, nulls):
            tree.setdefault(name, None)
        self._getters: dict[Path, tuple[str, ...]] = {}
        kind = self._struct(tree, ())
        self._decoder = msgspec.json.Decoder(kind)
        self._empty = kind()

    def _struct(self, tree: dict[str, object], above: tuple[str, ...]) -> type[msgspec.Struct]:
        fields: list[tuple[str, object, object]] = []
        rename: dict[str, str] = {}
        path = tuple(self._path_of(above))
        for number, (key, kind) in enumerate(tree.items()):
            attribute = f"f{number}"
            rename[attribute] = key
            self._getters[(*path, key)] = (*above, attribute)
            if isinstance(kind, dict):
                kind = self._struct(kind, (*above, attribute)) | None  # noqa: PLW2901
            fields.append((attribute, kind, None))
        return msgspec.defstruct(
            "Payload", fields, rename=rename, forbid_unknown_fields=True, gc=False
        )

    def _path_of(self, attributes: tuple[str, ...]) -> Path:
        return next((path for path, got in self._getters.items() if got == attributes), ())

    def decode(self, chunk: _Chunk, todo: list[int]) -> list[int]:
        """Fills the chunk; returns the rows it refused."""
        decode, values = self._decoder.decode, chunk.values
        rows = [self._empty] * chunk.count
        odd: list[int] = []
        for row in todo:
            try:
                rows[row] = decode(values[row])  # type: ignore[arg-type]
            except (msgspec.MsgspecError, ValueError, RecursionError):
                odd.append(row)
        if len(odd) < len(todo):
            self._spread(chunk, rows)
        return odd

    def _spread(self, chunk: _Chunk, rows: list[msgspec.Struct]) -> None:
        for path, column in self._leaves.items():
            values = self._values(path, rows)
            if column.type == STRING and list in set(map(type, values)):
                values = [_json_text(item) if isinstance(item, list) else item for item in values]
            chunk.fill(column, values)
        times = [(name, self._values((name,), rows)) for name in self._times]
        if len(times) == 1:
            chunk.fill_times(*times[0])
            return
        for row in range(chunk.count if times else 0):
            done = False
            for name in TIME_FIELDS:
                value = next((values[row] for own, values in times if own == name), None)
                if value is None:
                    continue
                if not done and chunk.put_time(row, value):
                    done = True
                else:
                    chunk.put(row, (name,), value)

    def _values(self, path: Path, rows: list[msgspec.Struct]) -> list[object]:
        first, *inner = self._getters[path]
        values: list[object] = list(map(operator.attrgetter(first), rows))
        for attribute in inner:
            values = [None if item is None else getattr(item, attribute) for item in values]
        return values


class _Chunk:
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
            value = _json_text(value)
        elif isinstance(value, list):
            value = _json_text(value)
        kind = _kind(value)
        base = self._columns.base(path, kind)
        if base is None:
            self._overflow(row, path, value)
        elif base.type == kind and not _inexact(value) and self._is_free(base, row):
            self._cell(base)[row] = _clean(value)
        else:
            beside = self._columns.conflict(base)
            if beside is None or not self._is_free(beside, row):
                self._overflow(row, path, value)
            else:
                self._cell(beside)[row] = value if isinstance(value, str) else _json_text(value)
                self._cell(beside)[row] = _clean(self._cell(beside)[row])

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
                texts[row] = cast("str", _clean(_json_text(extra)))
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


def _can_be_field(key: str) -> bool:
    """msgspec matches fields by their bytes in JSON; keys that JSON escapes go the slow way."""
    return not _ESCAPED.search(key)


def _sparse(cells: dict[int, str] | dict[int, bytes], count: int, kind: pa.DataType) -> pa.Array:
    if not cells:
        return pa.nulls(count, kind)
    return pa.array([cells.get(row) for row in range(count)], kind)


def _loads(payload: bytes) -> object:
    try:
        return _plain.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        try:
            return json.loads(
                payload.decode(),
                parse_float=_float,
                parse_int=_int,
            )
        except RecursionError:
            raise
        except ValueError:
            raise ValueError(str(error).removeprefix("JSON is malformed: ")) from None


def _number(text: str) -> object:
    return _float(text) if any(letter in text for letter in ".eE") else _int(text)


def _float(text: str) -> object:
    value = float(text)
    return value if abs(value) != float("inf") else _Digits(text)


def _int(text: str) -> object:
    return int(text) if len(text) <= _DIGITS_MAX else _Digits(text)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return BOOLEAN
    return DOUBLE if isinstance(value, int | float | _Digits) else STRING


def _inexact(value: object) -> bool:
    """Would a double change it?"""
    if isinstance(value, _Digits):
        return True
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) > _EXACT


def _clean(value: object) -> object:
    """Half a surrogate pair (JSON can say it, UTF-8 cannot) becomes its escape."""
    if not isinstance(value, str):
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "backslashreplace").decode()
    return value


def _json_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
