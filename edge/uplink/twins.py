"""Twins: two edges that believe to be the same one, because the data directory of one is a copy of the other's.

Both write under the same addresses, and each takes what the other stored there for its own: whatever the broker has, the
twin would never send. Nobody may guess which one is right, so the partition is *contested*: it sends nothing, keeps its
data, says so, and looks again every few minutes. Giving each edge a name of its own settles it (cursor.py).

What proves a twin: a record with our address and log id that is not the journal's; or records beyond the journal's end that
become more after late copies of our own are over. Records beyond it that stay as many are what a disk lost that had lied.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ...core.batch import decode_batch
from ...core.errors import Corrupt, Missing, OffsetOutOfRange
from ...core.record import TopicPartition
from .evidence import Sample
from .readback import digest

if TYPE_CHECKING:
    from .feeding import UplinkJournal

# Between two looks at what is contested: a person has to act, and reading back costs bytes.
CONTESTED_S = 300.0
_REMEDY = "another edge runs with a copy of this data directory; nothing is sent, give each a name of its own"


class Ahead:
    """What the cloud shows beyond the journal's end, over time; of one lane."""

    def __init__(self, late_copies_s: float) -> None:
        self._late_copies_s = late_copies_s
        self._seen = 0
        self._since = 0.0

    def judge(self, position: int, end: int, now: float) -> tuple[str, float] | None:
        """`position`: one past what the cloud shows, `end`: of the journal. None: go on; else why not, and until when."""
        if position <= end:
            self._seen = 0
            return None
        first, grown = not self._seen, position > self._seen > 0
        over_at = self._since + self._late_copies_s
        if first:
            self._seen, self._since = position, now
            reason = f"the cloud holds up to {position}, the journal ends at {end}: waiting for late copies"
            return reason, now + self._late_copies_s
        if now < over_at:
            self._seen = position
            return "waiting for late copies", over_at
        if not grown:
            return None
        self._seen = position
        return f"the cloud holds up to {position}, the journal ends at {end}: {_REMEDY}", (
            now + CONTESTED_S
        )


async def foreign(
    journal: UplinkJournal, source: TopicPartition, samples: Collection[Sample]
) -> str | None:
    """Why not all of these can be ours; None where the journal has the same, or has them no more."""
    for sample in reversed(list(samples)):
        try:
            if sample.offset >= journal.bounds(source).end:
                continue
            batches = await journal.read(source, sample.offset, bytes_max=1)
        except (Missing, OffsetOutOfRange, Corrupt):
            continue
        records = decode_batch(batches[0])[1] if batches else []
        ours = next((record for record in records if record.offset == sample.offset), None)
        if ours is not None and digest(ours) != sample.digest:
            return f"offset {sample.offset} in the cloud is not what the journal has: {_REMEDY}"
    return None
