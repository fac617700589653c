"""The remove action: a data file stops being part of the table (another tool deleted or compacted rows)."""

from __future__ import annotations

import msgspec


class Remove(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True):
    path: str
    data_change: bool
    deletion_timestamp: int | None = None
    extended_file_metadata: bool | None = None
    partition_values: dict[str, str | None] | None = None
    size: int | None = None
    tags: dict[str, str | None] | None = None
