"""Chooses the scanner: the compiled leaf where it was built, else its pure twin (core/leaves.py has the rule)."""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING

from ...core.leaves import PURE_FORCED
from . import _scan_py

scan_publishes = _scan_py.scan_publishes
if not TYPE_CHECKING and not PURE_FORCED:
    with contextlib.suppress(ImportError):  # not built here: the pure twin it is
        scan_publishes = importlib.import_module("._scan", __package__).scan_publishes

COMPILED = scan_publishes is not _scan_py.scan_publishes
