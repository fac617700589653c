"""Logging, set up once at the rim: JSON lines unless a person is watching.

An event is a short constant phrase in lower case; facts are keys with units. Nothing above debug is logged per message,
a state is logged when it changes, and payloads are never logged. Names that clients gave themselves are: a terminal never
gets a control character of theirs, which could paint over other lines or worse (JSON escapes them anyhow).
"""

from __future__ import annotations

import importlib
import logging
import sys


def _import_without_rich() -> None:
    """structlog loads rich (4.6 MiB resident) wherever another package installed it; a daemon has no use for it."""
    if "structlog" not in sys.modules and "rich" not in sys.modules:
        sys.modules["rich"] = None  # type: ignore[assignment]
        importlib.import_module("structlog")
        del sys.modules["rich"]


_import_without_rich()

import structlog  # noqa: E402

# Levels below are dropped before anything is rendered; `set_level` moves it while the daemon runs.
_threshold = logging.INFO


def set_level(level: str) -> None:
    global _threshold  # noqa: PLW0603 - the process has one log
    _threshold = logging.getLevelNamesMapping()[level.upper()]


def _drop_below(
    _logger: object, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    if logging.getLevelNamesMapping().get(method.upper(), logging.INFO) < _threshold:
        raise structlog.DropEvent
    return event


def _printable(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = value.encode("unicode_escape").decode("ascii")
    return event


def configure(*, level: str = "info") -> None:
    set_level(level)
    out = sys.stderr
    interactive = out.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if interactive
        else structlog.processors.JSONRenderer(sort_keys=True)
    )
    structlog.configure(
        processors=[
            _drop_below,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *((_printable,) if interactive else ()),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=True,
    )
