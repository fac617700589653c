"""How many records a batch may have, where the broker's limit of bytes (max.message.bytes of a topic) is below ours.

The broker counts compressed bytes, which nobody knows before a batch is cut; and a refused batch takes along those in
flight behind it. So what was refused as too large is remembered: far below it the number doubles, close to it it creeps,
and just below it it stays. What was refused for another reason says nothing about size.
"""

from __future__ import annotations

from ...core.kafka.errors import ErrorCode
from .supply import Cut

_TOO_LARGE = {ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.RECORD_LIST_TOO_LARGE}


class Sizing:
    def __init__(self, records_max: int) -> None:
        self.records = records_max
        self._records_max = records_max
        self._refused_bytes: int | None = None  # the smallest that was too large

    def refused(self, cut: Cut, code: int) -> None:
        self.records = max(1, cut.count // 2)
        if code in _TOO_LARGE:
            size = len(cut.payload)
            self._refused_bytes = min(size, self._refused_bytes or size)

    def accepted(self, cut: Cut) -> None:
        if cut.count < self.records:
            return  # it was not the number that bounded it
        for more in (self.records, 1 + self.records // 64):
            if self._fits(cut, more):
                self.records = min(self.records + more, self._records_max)
                return

    def _fits(self, cut: Cut, more: int) -> bool:
        """As far as this batch tells: records differ, so a sixteenth is left free."""
        size, limit = len(cut.payload), self._refused_bytes
        return limit is None or size * (cut.count + more) * 17 < limit * cut.count * 16
