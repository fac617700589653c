"""The add action: one data file becomes part of the table.

`stats` stays the JSON text it was written as: a replay of many thousand files parses only what is asked for.
`tags` carry our lineage (cloud/lake/lineage.py).
"""

from __future__ import annotations

import urllib.parse

import msgspec


class _Count(msgspec.Struct, rename="camel"):
    num_records: int | None = None


class Add(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True):
    path: str
    size: int
    modification_time: int
    data_change: bool
    partition_values: dict[str, str | None] = msgspec.field(default_factory=dict)
    stats: str | None = None
    tags: dict[str, str | None] | None = None

    @property
    def rows(self) -> int | None:
        """None where the writer left the count out."""
        if not self.stats:
            return None
        try:
            return msgspec.json.decode(self.stats, type=_Count).num_records
        except msgspec.MsgspecError:
            return None

    @property
    def file_path(self) -> str:
        """The path is a URI in the log (PROTOCOL.md, "Add File"); this is the name in the store."""
        return urllib.parse.unquote(self.path)
