"""SIGHUP: the configuration read again, and what may change live put in force without dropping anybody.

Live: certificates, passwords and access rules (read again even where no setting changed); `log_level`, `access`,
`connections`, `mqtt_limits` (for what comes from now on), the listeners' limits and who they take, the streams' `retention`,
`when_full` and `thin_interval`, `retention_interval`, `drain_timeout`, the wear budget. Everything else that differs is
named in the log as waiting for a restart, and what changed is named, too. What is wrong in any point changes nothing, and
the log says in which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec
import structlog

from ..core import config, logs
from ..core.errors import HeadwaterError
from .broker.listening.settings import ListenerSettings
from .settings import EdgeSettings
from .streams import StreamSettings

if TYPE_CHECKING:
    from .daemon import Edge

_log = structlog.get_logger("edge")

LIVE = (
    "log_level",
    "access",
    "connections",
    "mqtt_limits",
    "anonymous",
    "plain_passwords",
    "retention_interval",
    "drain_timeout",
    "wear",
)
# Of a stream; the rest decides where records lie.
LIVE_OF_STREAM = ("retention", "when_full", "thin_interval")
# Of a listener: what its sockets and those behind them were made for.
FIXED_OF_LISTENER = ("address", "kind")


class Reloading:
    """`read` loads the settings as the start did: the same file, environment and flags."""

    def __init__(self, edge: Edge, read: Callable[[], EdgeSettings]) -> None:
        self._edge = edge
        self._read = read

    def __call__(self) -> None:
        edge = self._edge
        try:
            wanted = self._read()
            wanted.check()
            merged, waiting = merge(edge.settings, wanted)
            merged.check()
            edge.entrance.reload(merged)
            edge.broker.change(merged.mqtt_limits)
            if edge.wear is not None:
                edge.wear.change(merged.wear)
        except HeadwaterError as error:
            _log.error("configuration is wrong and was not reloaded", reason=str(error))
            return
        changed = differing(edge.settings, merged)
        edge.settings = merged
        logs.set_level(merged.log_level)
        _log.info("configuration reloaded", changed=changed, waiting_for_restart=waiting)


def differing(old: EdgeSettings, new: EdgeSettings) -> list[str]:
    """The settings that differ, by name."""
    return [
        f"edge.{field.key}"
        for field in config.fields(EdgeSettings)
        if config.value_of(old, field.key) != config.value_of(new, field.key)
    ]


def merge(old: EdgeSettings, new: EdgeSettings) -> tuple[EdgeSettings, list[str]]:
    """(what is in force from now on, the settings that differ and wait for a restart)."""
    waiting: list[str] = []
    changes = {name: getattr(new, name) for name in LIVE}
    changes["streams"] = tuple(_streams(old.streams, new.streams, waiting))
    changes["listeners"] = tuple(_listeners(old.listeners, new.listeners, waiting))
    merged = msgspec.structs.replace(old, **changes)
    waiting += [
        key for key in differing(merged, new) if key not in ("edge.streams", "edge.listeners")
    ]
    return merged, sorted(waiting)


def _streams(
    old: tuple[StreamSettings, ...], new: tuple[StreamSettings, ...], waiting: list[str]
) -> Iterator[StreamSettings]:
    wanted = {stream.name: stream for stream in new}
    if [stream.name for stream in old] != [stream.name for stream in new]:
        waiting.append("edge.streams")
    for stream in old:
        other = wanted.get(stream.name, stream)
        merged = msgspec.structs.replace(
            stream, **{name: getattr(other, name) for name in LIVE_OF_STREAM}
        )
        if merged != other:
            waiting.append(f"edge.streams.{stream.name}")
        yield merged


def _listeners(
    old: tuple[ListenerSettings, ...], new: tuple[ListenerSettings, ...], waiting: list[str]
) -> Iterator[ListenerSettings]:
    wanted = {listener.label: listener for listener in new}
    if {listener.label for listener in old} != set(wanted):
        waiting.append("edge.listeners")
    for listener in old:
        other = wanted.get(listener.label, listener)
        is_other_kind = (other.tls is None) != (listener.tls is None) or any(
            getattr(other, name) != getattr(listener, name) for name in FIXED_OF_LISTENER
        )
        if is_other_kind:
            waiting.append(f"edge.listeners.{listener.label}")
        yield listener if is_other_kind else other
