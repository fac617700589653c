"""Chooses the twin of the plain case: the compiled leaf where it was built, else the pure one (core/leaves.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.leaves import compiled
from . import _plain_py
from ._plain_py import Waiter

Changing = _plain_py.Changing
Counts = _plain_py.Counts
Held = _plain_py.Held
Lasting = _plain_py.Lasting
OpenGate = _plain_py.OpenGate
Plain = _plain_py.Plain
Rounds = _plain_py.Rounds
Way = _plain_py.Way
release_all = _plain_py.release_all
take_plain = _plain_py.take_plain
if not TYPE_CHECKING:
    _chosen = compiled(_plain_py) or _plain_py
    Changing, Counts, Held = _chosen.Changing, _chosen.Counts, _chosen.Held
    OpenGate, Plain, Rounds = _chosen.OpenGate, _chosen.Plain, _chosen.Rounds
    Lasting, Way = _chosen.Lasting, _chosen.Way
    release_all, take_plain = _chosen.release_all, _chosen.take_plain

COMPILED = Plain is not _plain_py.Plain

__all__ = [
    "COMPILED",
    "Changing",
    "Counts",
    "Held",
    "Lasting",
    "OpenGate",
    "Plain",
    "Rounds",
    "Waiter",
    "Way",
    "release_all",
    "take_plain",
]
