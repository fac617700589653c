"""Chooses the twin of the plain case: the compiled leaf where it was built, else the pure one (core/leaves.py)."""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING

from ...core.leaves import PURE_FORCED
from . import _plain_py

take_plain = _plain_py.take_plain
if not TYPE_CHECKING and not PURE_FORCED:
    with contextlib.suppress(ImportError):  # not built here: the pure twin it is
        take_plain = importlib.import_module("._plain", __package__).take_plain

COMPILED = take_plain is not _plain_py.take_plain
