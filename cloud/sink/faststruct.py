"""The fast way: a struct type that takes exactly the payloads that a table's columns were made for.

It refuses the rest (unknown fields, another type, an integer a double cannot hold), so it never needs to be trusted:
what it refuses is looked at slowly. What it takes, it puts where the slow way would have put it; a test holds the
one against the other.
"""

from __future__ import annotations

import operator
import re
from typing import Annotated, cast

import msgspec

from ..lake.delta.schema import BOOLEAN, DOUBLE, STRING
from .chunk import Chunk
from .columns import Column, Path
from .jsonvalues import EXACT, TOO_DEEP, json_text
from .times import TIME_FIELDS

_ExactInt = Annotated[int, msgspec.Meta(ge=-EXACT, le=EXACT)]
# What the fast struct takes for a column of each type; anything else is refused, and so goes the slow way.
_ACCEPTS: dict[str, object] = {
    DOUBLE: _ExactInt | float | None,
    STRING: str | list[object] | None,  # arrays become JSON text in a string column
    BOOLEAN: bool | None,
}
_TIME_ACCEPTS = int | float | str | None

_ESCAPED = re.compile(r'[\x00-\x1f"\\\ud800-\udfff]')


class FastStruct:
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

    def decode(self, chunk: Chunk, todo: list[int]) -> list[int]:
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

    def _spread(self, chunk: Chunk, rows: list[msgspec.Struct]) -> None:
        for path, column in self._leaves.items():
            values = self._values(path, rows)
            if column.type == STRING and list in set(map(type, values)):
                values = [
                    _list_text(chunk, row, item) if isinstance(item, list) else item
                    for row, item in enumerate(values)
                ]
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


def _list_text(chunk: Chunk, row: int, items: list[object]) -> str | None:
    try:
        return json_text(items)
    except RecursionError:
        chunk.kill(row, TOO_DEEP)
        return None


def _can_be_field(key: str) -> bool:
    """msgspec matches fields by their bytes in JSON; keys that JSON escapes go the slow way."""
    return not _ESCAPED.search(key)
