"""Chooses the twin: the compiled leaf where it was built, else the pure one (core/leaves.py has the rule)."""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING

from ...core.leaves import PURE_FORCED
from . import _epoll_py

Connection = _epoll_py.Connection
Sockets = _epoll_py.Sockets
if not TYPE_CHECKING and not PURE_FORCED:
    with contextlib.suppress(ImportError):  # not built here: the pure twin it is
        _compiled = importlib.import_module("._epoll", __package__)
        Connection, Sockets = _compiled.Connection, _compiled.Sockets

COMPILED = Sockets is not _epoll_py.Sockets
