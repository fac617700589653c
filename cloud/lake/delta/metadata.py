"""The metaData action: the table's identity, columns, partitioning and properties."""

from __future__ import annotations

import msgspec

from .schema import Schema


class Format(msgspec.Struct, frozen=True):
    provider: str = "parquet"
    options: dict[str, str] = {}


class Metadata(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    id: str
    schema_string: str
    partition_columns: list[str]
    format: Format = Format()
    name: str | None = None
    description: str | None = None
    configuration: dict[str, str] = {}
    created_time: int | None = None

    def schema(self, *, table: str) -> Schema:
        return Schema.parse(self.schema_string, table=table)
