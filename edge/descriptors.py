"""File descriptors: a share for clients, a share that is the log's alone.

The usual soft limit is 1,024. Without this, the thousandth client would take the descriptor that the next segment needs,
and the disk would seem to refuse everybody.
"""

from __future__ import annotations

import resource

import msgspec
import structlog

from .settings import EdgeSettings
from .sockets.lingering import HELD_MAX

# Segments held open (journal.index_cache and a few), uplink connections, HTTP, the loop's own, libraries; lingering sockets.
OURS = 128 + HELD_MAX

_log = structlog.get_logger("edge")


def within_descriptors(settings: EdgeSettings) -> EdgeSettings:
    """Raise the process's soft limit as far as is allowed and needed; the settings with as many clients as fit."""
    ours = OURS + settings.journal.index_cache
    wanted = settings.mqtt_limits.connections_max + ours
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY in (soft, hard):
        hard = max(wanted, soft)
    if soft < wanted and soft != resource.RLIM_INFINITY:
        soft = min(wanted, hard)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        )
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return settings
    connections = max(1, soft - ours)
    _log.warning(
        "fewer clients than edge.mqtt_limits.connections_max: raise the limit of open files",
        connections_max=connections,
        open_files=soft,
    )
    limits = msgspec.structs.replace(settings.mqtt_limits, connections_max=connections)
    return msgspec.structs.replace(settings, mqtt_limits=limits)
