"""Names in a Delta log, made and parsed here and nowhere else. All relative to the store's root."""

from __future__ import annotations

import re

LOG_FOLDER = "_delta_log"
LAST_CHECKPOINT = "_last_checkpoint"

_VERSION = re.compile(r"(\d{20})\.json\Z")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet\Z")


def log_prefix(table: str) -> str:
    return f"{table}/{LOG_FOLDER}/"


def version_key(table: str, version: int) -> str:
    return f"{log_prefix(table)}{version:020d}.json"


def checkpoint_key(table: str, version: int) -> str:
    return f"{log_prefix(table)}{version:020d}.checkpoint.parquet"


def checkpoint_part_key(table: str, version: int, part: int, parts: int) -> str:
    """Parts are numbered from 1. Other writers split large checkpoints; we only read such."""
    return f"{log_prefix(table)}{version:020d}.checkpoint.{part:010d}.{parts:010d}.parquet"


def last_checkpoint_key(table: str) -> str:
    return log_prefix(table) + LAST_CHECKPOINT


def parse_version(key: str) -> int | None:
    match = _VERSION.search(key)
    return int(match[1]) if match else None


def parse_checkpoint(key: str) -> tuple[int, int] | None:
    """(version, number of parts), where one whole file counts as 0 parts."""
    match = _CHECKPOINT.search(key)
    return (int(match[1]), int(match[3] or 0)) if match else None
