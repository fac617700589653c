"""Topics and their configuration: the table that the controller shard's events make.

A topic is a stream. Its id is drawn once by the node that creates it and stands in the event, so it is stable across
restarts (Metadata from version 10 shows it). A topic deleted and made again has a new id, but its partitions go on at
the offsets where the old ones ended: an offset of a topic never names two records, so positions that the lake and
consumers hold stay true.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from ...core.errors import Refused


class ConfigSource(enum.IntEnum):
    """Kafka's DescribeConfigs numbers."""

    TOPIC = 1
    DEFAULT = 5


# The configurations that exist here. Others are refused, not swallowed: a limit that is not kept is a lie.
RETENTION_MS = "retention.ms"
RETENTION_BYTES = "retention.bytes"
MAX_MESSAGE_BYTES = "max.message.bytes"
CLEANUP_POLICY = "cleanup.policy"

_INTEGERS = {RETENTION_MS: -1, RETENTION_BYTES: -1, MAX_MESSAGE_BYTES: 0}
# Accepted only with the value that is true here anyway, because admin tools send them by habit.
_FIXED = {
    CLEANUP_POLICY: "delete",
    "compression.type": "producer",
    "message.timestamp.type": "CreateTime",
    "min.insync.replicas": "1",
}
CONFIG_NAMES = (*_INTEGERS, *_FIXED)


class TopicDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """What holds where a topic has no override; -1 is unlimited."""

    retention_ms: int = -1
    retention_bytes: int = -1
    max_message_bytes: int = 1_048_588

    def value(self, name: str) -> str:
        if name in _FIXED:
            return _FIXED[name]
        return str(
            {
                RETENTION_MS: self.retention_ms,
                RETENTION_BYTES: self.retention_bytes,
                MAX_MESSAGE_BYTES: self.max_message_bytes,
            }[name]
        )


class Topic(msgspec.Struct, frozen=True, array_like=True):
    name: str
    topic_id: str
    partitions: int
    config: dict[str, str]

    def integer(self, name: str, defaults: TopicDefaults) -> int:
        return int(self.config.get(name) or defaults.value(name))


def check_config(config: Mapping[str, str | None]) -> dict[str, str]:
    """The overrides, checked; None values fall back to the default. Raises Refused."""
    checked: dict[str, str] = {}
    for name, value in config.items():
        if value is None:
            continue
        if name in _FIXED:
            if value != _FIXED[name]:
                raise Refused(f"{name} can only be {_FIXED[name]!r} here, not {value!r}")
        elif name in _INTEGERS:
            _check_integer(name, value)
        else:
            raise Refused(f"no such topic configuration: {name}", hint=", ".join(CONFIG_NAMES))
        checked[name] = value
    return checked


def _check_integer(name: str, value: str) -> None:
    try:
        number = int(value)
    except ValueError:
        raise Refused(f"{name} must be a whole number, not {value[:40]!r}") from None
    if not _INTEGERS[name] <= number < 2**63:
        raise Refused(f"{name} must be at least {_INTEGERS[name]}, not {number}")


def config_type(name: str) -> int:
    """Kafka's DescribeConfigs numbers: 2 string, 3 int, 5 long, 7 list."""
    if name == MAX_MESSAGE_BYTES:
        return 3
    if name == CLEANUP_POLICY:
        return 7
    return 5 if name in _INTEGERS else 2
