"""The commitInfo action: who wrote this version and why.

`txn_id` is the commit's identity: a random number made once per commit. After a lost answer it tells our own commit
from another's.
"""

from __future__ import annotations

import msgspec


class CommitInfo(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True):
    timestamp: int | None = None
    operation: str | None = None
    operation_parameters: dict[str, object] | None = None
    is_blind_append: bool | None = None
    engine_info: str | None = None
    txn_id: str | None = None
