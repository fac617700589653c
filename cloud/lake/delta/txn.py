"""The txn action: how far one application has come. Ours are the next offsets (cloud/lake/positions.py)."""

from __future__ import annotations

import msgspec


class Txn(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True):
    app_id: str
    version: int
    last_updated: int | None = None
