"""Chooses the twin: the compiled leaf where it was built, else the pure one (core/leaves.py has the rule)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.leaves import compiled
from . import _epoll_py

Connection = _epoll_py.Connection
Sockets = _epoll_py.Sockets
if not TYPE_CHECKING:
    _chosen = compiled(_epoll_py) or _epoll_py
    Connection, Sockets = _chosen.Connection, _chosen.Sockets

COMPILED = Sockets is not _epoll_py.Sockets
