"""A journal as recovery shows it, and what its streams' owners allow: all that the judge knows of Headwater."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headwater.core.gap import Gap
from headwater.core.journal.files import Loss
from headwater.core.record import TopicPartition

PROBE = "probe"


@dataclass
class Policy:
    """`bounded`: stream → bytes it keeps, older ones retired; `dropped`: streams that give way, with gap records; `early`:
    streams that are acknowledged before they are on disk."""

    bounded: Mapping[str, int] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    early: frozenset[str] = frozenset()

    def retires(self, stream: str) -> bool:
        return stream in self.bounded or stream in self.dropped


@dataclass
class View:
    bounds: dict[TopicPartition, tuple[int, int]] = field(default_factory=dict)
    records: dict[TopicPartition, list[tuple[int, bytes]]] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    volatile: list[Loss] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    quarantined: int = 0
    torn_bytes: int = 0
