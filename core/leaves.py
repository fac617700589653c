"""Which twin of a compiled leaf is used: the compiled one where it was built, else the pure one.

Rule: nothing but speed depends on the answer. `HEADWATER_PURE=1` in the environment forces the pure twins (for tests, and
for doubt about a compiled build); `records.COMPILED` tells which one runs. A leaf that was built from another version of its
source (`VERSION`) is not used.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import TYPE_CHECKING

from . import _records_py

PURE_FORCED = os.environ.get("HEADWATER_PURE", "") not in {"", "0"}

records = _records_py  # both twins have the signatures of the pure one
if not TYPE_CHECKING and not PURE_FORCED:
    with contextlib.suppress(ImportError):  # not built here: the pure twin it is
        _compiled = importlib.import_module("._records", __package__)
        if getattr(_compiled, "VERSION", 1) == _records_py.VERSION:
            records = _compiled
