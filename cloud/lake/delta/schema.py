"""A table's columns: Delta's schema JSON on one side, Arrow's schema on the other.

A field's `metadata` is kept as it was found. Ours says which part of a payload a column was made from (see
cloud/sink/columns.py), so that names need not be guessed back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ....core.errors import Refused

if TYPE_CHECKING:
    import pyarrow as pa

# Delta's own names for the types we write; a foreign table may hold others, which arrive as they are.
STRING = "string"
LONG = "long"
INTEGER = "integer"
DOUBLE = "double"
BOOLEAN = "boolean"
TIMESTAMP = "timestamp"
BINARY = "binary"
DATE = "date"


class Field(msgspec.Struct, frozen=True):
    name: str
    type: str | dict[str, object]
    nullable: bool = True
    metadata: dict[str, object] = {}


class Schema(msgspec.Struct, frozen=True):
    fields: list[Field]
    type: str = "struct"

    @classmethod
    def parse(cls, text: str, *, table: str) -> Schema:
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError as error:
            raise Refused(f"table {table} has a schema that cannot be read: {error}") from error

    def encode(self) -> str:
        return msgspec.json.encode(self).decode()

    def arrow(self, *, without: frozenset[str] = frozenset()) -> pa.Schema:
        import pyarrow as pa

        types = arrow_types()
        return pa.schema(
            [
                pa.field(field.name, types[str(field.type)])
                for field in self.fields
                if field.name not in without
            ]
        )


def arrow_types() -> dict[str, pa.DataType]:
    import pyarrow as pa

    return {
        STRING: pa.string(),
        LONG: pa.int64(),
        INTEGER: pa.int32(),
        DOUBLE: pa.float64(),
        BOOLEAN: pa.bool_(),
        # µs in UTC: ns is read as the far future by some engines, ms is refused by others
        TIMESTAMP: pa.timestamp("us", tz="UTC"),
        BINARY: pa.binary(),
        DATE: pa.date32(),
    }
