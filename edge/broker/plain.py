"""Chooses the twin of the plain case: the compiled leaf where it was built, else the pure one (core/leaves.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.leaves import compiled
from . import _plain_py

take_plain = _plain_py.take_plain
if not TYPE_CHECKING:
    take_plain = (compiled(_plain_py) or _plain_py).take_plain

COMPILED = take_plain is not _plain_py.take_plain
