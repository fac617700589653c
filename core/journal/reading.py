"""The one reading interface over both journals.

Watermarks, and who may move them:
  log start offset   the oldest offset that may be read; moved forward by retention (and by quarantine) alone
  log end offset     one past the newest *durable* record; moved by the completion of a commit alone
A reader sees what lies between. An offset below start raises OffsetOutOfRange; at or past end it gets an empty list.
Inside the range a gap (damage) is skipped: the next batch that is whole is returned, and its base offset says so.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ..errors import Missing
from ..record import TopicPartition


class Bounds(NamedTuple):
    """`start` can be read; `end` is one past the last durable record (Kafka: the high watermark)."""

    start: int
    end: int


class Position(NamedTuple):
    """A place in arrival order: segment sequence number and byte within it. (0, 0) is before everything."""

    segment: int
    byte: int


class Arrival(NamedTuple):
    """One stored batch, met in arrival order. `batch` is a whole record batch v2, base offset filled in."""

    partition: TopicPartition
    batch: bytes


class JournalReader(Protocol):
    def partitions(self) -> list[TopicPartition]:
        """All partitions that hold or have held records."""

    def bounds(self, partition: TopicPartition) -> Bounds:
        """Raises Missing for a partition never written."""

    async def read(self, partition: TopicPartition, offset: int, *, bytes_max: int) -> list[bytes]:
        """Whole batches from the one that holds `offset` (or the first after it) onward.

        The first batch is returned whole even above bytes_max (KIP-74). Raises OffsetOutOfRange, Missing, Corrupt,
        Unavailable.
        """

    async def read_arrivals(
        self, position: Position, *, bytes_max: int
    ) -> tuple[list[Arrival], Position]:
        """Batches of every partition in the order they were committed, and the place to go on from.

        The order within a partition is offset order. A position in a segment that was retired goes on at the oldest
        one held. At the end of what is durable: an empty list and the same position.
        """


def bounds_or_none(journal: JournalReader, partition: TopicPartition) -> Bounds | None:
    """None where nothing was ever written to it."""
    try:
        return journal.bounds(partition)
    except Missing:
        return None
