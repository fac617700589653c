"""A batch on its way, and where a partition gets the next one from.

`cutting.Cutter` is the real supply; simulation has its own.
"""

from __future__ import annotations

from typing import Protocol

from .cursor import Era


class Cut:
    """A batch as it goes out, kept as the same bytes until it is acknowledged or given up."""

    __slots__ = ("code", "count", "era", "first", "flying", "message", "payload")

    def __init__(self, first: int, count: int, era: Era, payload: bytes) -> None:
        self.first = first
        self.count = count
        self.era = era
        self.payload = payload
        self.flying = False
        self.code: int | None = None  # of the answer, where it was not success
        self.message = ""

    @property
    def next_offset(self) -> int:
        return self.first + self.count


class Supply(Protocol):
    """Records of one range, in offset order, from the journal."""

    @property
    def first(self) -> int | None:
        """The offset that `cut` would begin with; None where nothing is at hand."""

    @property
    def wanted(self) -> int:
        """The next offset to be fed."""

    def end_at(self, limit: int | None) -> None:
        """Nothing from `limit` on is wanted any more; what of it is at hand is dropped. None: no end."""

    def ripe(self, now: float) -> bool:
        """Enough for a full batch, or waited long enough."""

    def cut(self, era: Era, *, label: int, records_max: int, plain: bool) -> Cut:
        """A batch from `first` on, of offsets without a hole and below `limit`; `label` is the range's origin."""

    def restart(self, offset: int) -> None:
        """Drop what is at hand; want `offset` next."""
