"""Chooses the twin: the compiled leaf where it was built, else the pure one (core/leaves.py has the rule)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...leaves import compiled
from . import _opencommit_py
from ._opencommit_py import HEADER_OVERHEAD, RECORD_OVERHEAD, RecordTuple

Appending = _opencommit_py.Appending
OpenCommit = _opencommit_py.OpenCommit
if not TYPE_CHECKING:
    _chosen = compiled(_opencommit_py) or _opencommit_py
    Appending, OpenCommit = _chosen.Appending, _chosen.OpenCommit

COMPILED = Appending is not _opencommit_py.Appending

__all__ = [
    "COMPILED",
    "HEADER_OVERHEAD",
    "RECORD_OVERHEAD",
    "Appending",
    "OpenCommit",
    "RecordTuple",
]
