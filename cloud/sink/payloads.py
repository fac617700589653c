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

import re
from collections.abc import Sequence

import pyarrow as pa

from .chunk import Chunk, Decoded
from .columns import VALUE, Columns
from .faststruct import FastStruct
from .jsonvalues import TOO_DEEP, check_depth, loads, number
from .settings import PayloadFormat
from .times import TIME_FIELDS

# Above this many columns a struct per record costs more than looking at the fields it has.
FAST_COLUMNS_MAX = 32
# So many odd records are looked at before the struct is made anew for the rest.
LEARN_ROWS = 64

# Fields that were null whenever they were seen have no column, but the fast struct must know them.
NULL_FIELDS_MAX = 32

_NUMBER = re.compile(
    rb"[ \t\r\n]*(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)[ \t\r\n]*\Z"
)
_SPACE = b" \t\r\n"


class PayloadDecoder:
    """For one table. `columns` grows as payloads ask for it."""

    def __init__(self, columns: Columns, *, payload_format: PayloadFormat) -> None:
        self.columns = columns
        self._format = payload_format
        self._times_seen: list[str] = []
        self._nulls_seen: set[str] = set()
        self._fast: FastStruct | None = None

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
        chunk = Chunk(values, arrivals_us, now_us, self.columns)
        if self._format is not PayloadFormat.TEXT:
            self._decode_objects(chunk)
        return chunk.finish()

    def _decode_objects(self, chunk: Chunk) -> None:
        todo: list[int] = chunk.candidates()
        while todo:
            fast = self._fast_struct()
            odd = fast.decode(chunk, todo) if fast is not None else todo
            known = self._known
            todo = []
            for done, row in enumerate(odd, start=1):
                self._decode_slowly(chunk, row)
                if done >= LEARN_ROWS and self._known != known and self._fast_pays:
                    todo = odd[done:]
                    break

    @property
    def _known(self) -> tuple[int, int, int]:
        """Changes with whatever the fast struct is made from."""
        return self.columns.version, len(self._times_seen), len(self._nulls_seen)

    @property
    def _fast_pays(self) -> bool:
        return len(self.columns.bases) <= FAST_COLUMNS_MAX

    def _fast_struct(self) -> FastStruct | None:
        if not self._fast_pays or not (self.columns.bases or self._times_seen):
            return None
        if self._fast is None or self._fast.known != self._known:
            self._fast = FastStruct(
                self.columns.bases, tuple(self._times_seen), self._nulls_seen, self._known
            )
        return self._fast

    def _decode_slowly(self, chunk: Chunk, row: int) -> None:
        payload = chunk.values[row]
        assert payload is not None
        if not payload.lstrip(_SPACE).startswith(b"{"):
            if match := _NUMBER.match(payload):
                chunk.put(row, VALUE, number(match[1].decode()))
                return
            if self._format is PayloadFormat.AUTO:
                return
        try:
            value = loads(payload)
            check_depth(payload, value)
        except RecursionError:
            chunk.kill(row, TOO_DEEP)
            return
        except ValueError as error:
            chunk.kill(row, f"broken json: {error}")
            return
        if isinstance(value, dict):
            self._put_object(chunk, row, value)

    def _put_object(self, chunk: Chunk, row: int, value: dict[str, object]) -> None:
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
