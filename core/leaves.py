"""Which twin of a compiled leaf is used: the compiled one where it was built, else the pure one.

Rule: nothing but speed depends on the answer. `HEADWATER_PURE=1` in the environment forces the pure twins (for tests, and
for doubt about a compiled build); `COMPILED` of whoever chose tells which one runs. A leaf that was built from another
source than the one that lies beside it is not used: after an update without a new build it would answer as the old code.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from . import _records_py

PURE_FORCED = os.environ.get("HEADWATER_PURE", "") not in {"", "0"}


def source_hash(path: Path) -> str:
    """What `setup.py` builds into a leaf, of its .pyx file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def compiled(pure: ModuleType) -> ModuleType | None:
    """The compiled twin of `…/_name_py.py`, which is `…/_name`; None: not built, of another source, or not wanted."""
    if PURE_FORCED:
        return None
    try:
        leaf = importlib.import_module(pure.__name__.removesuffix("_py"))
    except ImportError:
        return None
    source = Path(str(pure.__file__).removesuffix("_py.py") + ".pyx")
    if source.exists() and getattr(leaf, "SOURCE", "") != source_hash(source):
        return None
    return leaf


records = _records_py  # both twins have the signatures of the pure one
if not TYPE_CHECKING:
    records = compiled(_records_py) or _records_py
