"""Every object name of a shard is made and parsed here.

Numbers are zero-padded so that the lexicographic order of keys is the numeric order. The epoch is not in the key:
two writers must collide on the same key, that is the whole point.
"""

from __future__ import annotations

FIRST_SEQ = 1  # slot 0 is never written: Position(0, 0) is before everything


def wal_prefix(shard: int) -> str:
    return f"wal/{shard:05d}/"


def wal_key(shard: int, seq: int) -> str:
    return f"wal/{shard:05d}/{seq:020d}"


def checkpoint_prefix(shard: int) -> str:
    return f"checkpoint/{shard:05d}/"


def checkpoint_key(shard: int, ordinal: int) -> str:
    return f"checkpoint/{shard:05d}/{ordinal:020d}"


def boundary_key(shard: int) -> str:
    return f"boundary/{shard:05d}"


def number_of(key: str) -> int | None:
    """The sequence number or ordinal that a listed key ends with; None for a key that is not ours."""
    digits = key.rpartition("/")[2]
    return int(digits) if len(digits) == 20 and digits.isdecimal() else None
