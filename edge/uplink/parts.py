"""What an uplink is made of: components and settings that every session shares."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from ...core.backoff import Backoff
from ...core.clock import Clock
from ...core.compression import Compression
from ...core.errors import Misconfigured
from ...core.record import GAPS_STREAM, TopicPartition
from .cutting import CutLimits, Origin
from .departures import Departures, Patience
from .feeding import UplinkJournal
from .limits import LinkClass
from .settings import UplinkSettings
from .shaping import Shaper

OnRefused = Callable[[TopicPartition, int, int, str], Awaitable[None]]
_PRIORITY_DEFAULT = 4
_PRIORITY_MAX = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """`priorities`: stream to 0 (last) .. 9 (first), as streams declare them."""

    edge: str
    journal: UplinkJournal
    settings: UplinkSettings
    clock: Clock
    rng: random.Random
    on_refused: OnRefused
    shaper: Shaper
    priorities: Mapping[str, int] = field(default_factory=dict)
    departures: Departures = field(default_factory=Departures)

    @property
    def origin(self) -> Origin:
        return Origin(self.edge, self.journal.log_id)

    @property
    def limits(self) -> CutLimits:
        settings = self.settings
        if settings.compression not in {"zstd", "none"}:
            raise Misconfigured(f"uplink.compression {settings.compression!r} must be zstd or none")
        return CutLimits(
            int(settings.batch_bytes_max),
            settings.batch_records_max,
            Compression.ZSTD if settings.compression == "zstd" else Compression.NONE,
            settings.compression_level,
        )

    def weight(self, stream: str) -> int:
        """Its share of link and disk while several are behind; declared losses go first."""
        return _PRIORITY_MAX + 1 if stream == GAPS_STREAM else 1 + self.priority(stream)

    def priority(self, stream: str) -> int:
        """0..9; declared losses are above them all."""
        if stream == GAPS_STREAM:
            return _PRIORITY_MAX + 1
        return max(0, min(_PRIORITY_MAX, self.priorities.get(stream, _PRIORITY_DEFAULT)))

    def patience(self, priority: int) -> Patience:
        """Of a lane of this priority, over the present link."""
        settings = self.settings
        if priority >= settings.linger_priority:
            return Patience(float(settings.linger))
        is_metered = self.shaper.link is LinkClass.METERED
        pause = settings.linger_metered if is_metered else settings.linger_max
        return Patience(float(settings.linger), float(pause), int(settings.linger_bytes))

    def backoff(self) -> Backoff:
        settings = self.settings
        return Backoff(self.rng, first_s=settings.backoff_first, cap_s=settings.backoff_max)
