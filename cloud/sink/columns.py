"""Which columns a table has, and which part of a payload each was made from.

Rules:
- The columns every table has (SYSTEM) come first and keep their types for ever.
- A JSON object's fields become columns. Nested objects are flattened, `{"gps": {"lat": 1}}` → `gps_lat`, down to
  DEPTH_MAX levels; below that, and for arrays, the column holds JSON text. A plain number as payload is `value`.
- A column's type is that of the first value seen: double, string or boolean; and never changes. A value that does not
  fit goes, as text, to the column `<name>__str`: a string where numbers were, a number where strings were, and an
  integer beyond 2**53, which a double would silently change. Nothing is cast with loss.
- A name that is taken (by a system column, in another spelling of upper and lower case, by another path) gets the
  suffix `_payload`, then `_payload_2`, …
- The column knows its path: it stands in the Delta schema as the field's metadata, so that a restarted sink, or
  another one, maps the same payload to the same column.
- At most `columns_max` columns are made; further fields go to `_extra`, as one JSON text per row.

A table's columns only grow, and grow in the same commit as the first file that has them.
"""

from __future__ import annotations

import json
import re

import msgspec

from ...core.errors import Refused
from ..lake.delta.schema import (
    BINARY,
    DATE,
    INTEGER,
    LONG,
    STRING,
    TIMESTAMP,
    Field,
    Schema,
)

Path = tuple[str, ...]

DAY = "day"
EXTRA = "_extra"

SYSTEM = (
    Field("device", STRING),
    Field("topic", STRING),
    Field("ts", TIMESTAMP),
    Field("ts_source", STRING),
    Field("arrival", TIMESTAMP),
    Field("edge", STRING),
    Field("stream", STRING),
    Field("partition", INTEGER),
    Field("offset", LONG),
    Field("log", STRING),
    Field("payload", STRING),
    Field("payload_raw", BINARY),
    Field("error", STRING),
    Field("headers", STRING),
    Field("clock_mark", STRING),
    Field(DAY, DATE),
)
SYSTEM_NAMES = tuple(field.name for field in SYSTEM)
PARTITION_COLUMNS = [DAY]

VALUE: Path = ("value",)

# {"a": {"b": {"c": 1}}} is three levels; real payloads have one or two
DEPTH_MAX = 3
NAME_CHARACTERS_MAX = 100
PATH_CHARACTERS_MAX = 500

_PATH_KEY = "headwater.path"
_CONFLICT_KEY = "headwater.conflict"
_CONFLICT_SUFFIX = "__str"
# Delta forbids " ,;{}()\n\t=" in names; dots and quotes would need quoting in every query
_UNWELCOME = re.compile(r"[\s,;{}()=.\"'`\[\]\\/\x00-\x1f\x7f]+")


class Column(msgspec.Struct, frozen=True):
    """One decoded column. `conflict`: it takes, as text, what does not fit the column of the same path."""

    name: str
    type: str
    path: Path
    conflict: bool = False

    def field(self) -> Field:
        metadata: dict[str, object] = {_PATH_KEY: json.dumps(self.path)}
        if self.conflict:
            metadata[_CONFLICT_KEY] = True
        return Field(self.name, self.type, True, metadata)


class Columns:
    """The columns of one table, growing. `version` counts the growth, for whoever has made something from them."""

    def __init__(self, *, columns_max: int) -> None:
        self._columns_max = columns_max
        self._fields: list[Field] = list(SYSTEM)
        self._taken = {field.name.casefold() for field in SYSTEM} | {EXTRA}
        self._base: dict[Path, Column] = {}
        self._conflict: dict[Path, Column] = {}
        self.has_extra = False
        self.version = 0

    @classmethod
    def of(cls, schema: Schema, *, columns_max: int, table: str) -> Columns:
        """From a table's schema. Raises Refused where it is not one that a sink made."""
        columns = cls(columns_max=columns_max)
        system = {field.name: field.type for field in SYSTEM}
        held = {field.name for field in schema.fields}
        for field in schema.fields:
            if system.get(field.name, field.type) != field.type:
                raise Refused(
                    f"table {table} has column {field.name} of type {field.type}, not "
                    f"{system[field.name]}: it was not made by a sink; give the sink another lake"
                )
            if field.name not in system:
                columns._adopt(field)
        columns._fields = list(schema.fields)
        columns._fields += [field for field in SYSTEM if field.name not in held]
        return columns

    def _adopt(self, field: Field) -> None:
        self._taken.add(field.name.casefold())
        if field.name == EXTRA:
            self.has_extra = True
        path_text = field.metadata.get(_PATH_KEY)
        if not isinstance(path_text, str) or not isinstance(field.type, str):
            return  # another writer's column: ours stay out of it
        try:
            path = tuple(msgspec.json.decode(path_text, type=list[str]))
        except msgspec.MsgspecError:
            return
        conflict = bool(field.metadata.get(_CONFLICT_KEY))
        (self._conflict if conflict else self._base)[path] = Column(
            field.name, field.type, path, conflict
        )

    @property
    def schema(self) -> Schema:
        return Schema(list(self._fields))

    @property
    def bases(self) -> list[Column]:
        return list(self._base.values())

    def base(self, path: Path, kind: str) -> Column | None:
        """The column for values at `path`, made with type `kind` where there is none. None: there are too many."""
        found = self._base.get(path)
        if found is None and self._room(path):
            found = self._base[path] = self._add(Column(self._free_name(path), kind, path))
        return found

    def conflict(self, base: Column) -> Column | None:
        """The text column beside `base`."""
        found = self._conflict.get(base.path)
        if found is None and self._room(base.path):
            name = self._unique(base.name + _CONFLICT_SUFFIX)
            found = self._conflict[base.path] = self._add(Column(name, STRING, base.path, True))
        return found

    def add_extra(self) -> None:
        if not self.has_extra:
            self.has_extra = True
            self._fields.append(Field(EXTRA, STRING))
            self.version += 1

    def _room(self, path: Path) -> bool:
        short = sum(map(len, path)) <= PATH_CHARACTERS_MAX
        return short and len(self._base) + len(self._conflict) < self._columns_max

    def _add(self, column: Column) -> Column:
        self._taken.add(column.name.casefold())
        self._fields.append(column.field())
        self.version += 1
        return column

    def _free_name(self, path: Path) -> str:
        name = _UNWELCOME.sub("_", "_".join(path))[:NAME_CHARACTERS_MAX]
        if not name.strip("_"):
            name = "field"
        return name if name.casefold() not in self._taken else self._unique(f"{name}_payload")

    def _unique(self, name: str) -> str:
        number, candidate = 1, name
        while candidate.casefold() in self._taken:
            number += 1
            candidate = f"{name}_{number}"
        return candidate
