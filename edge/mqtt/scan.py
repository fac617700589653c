"""Chooses the scanner: the compiled leaf where it was built, else its pure twin (core/leaves.py has the rule)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.leaves import compiled
from . import _scan_py

scan_publishes = _scan_py.scan_publishes
if not TYPE_CHECKING:
    scan_publishes = (compiled(_scan_py) or _scan_py).scan_publishes

COMPILED = scan_publishes is not _scan_py.scan_publishes
