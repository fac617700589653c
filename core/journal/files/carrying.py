"""Gap records that were not sent yet, written again so that the segments they lie in can go.

A log that drops its oldest writes a gap record for what it drops. Each would keep its segment until it was sent: on a
link that stays down, or without an uplink, there would in the end be nothing left but segments held by a gap record
each, and a full log. So before such a segment goes, all unsent gap records are appended again, ranges that touch made
one; that is a record or so for each partition. Durable first, gone afterwards, like every loss. The offsets that they
had are given up like any other, with a gap record of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from ...batch import decode_batch
from ...errors import Corrupt
from ...gap import GAPS_PARTITION, Gap
from ...record import Record
from ...units import MIB

if TYPE_CHECKING:
    from .journal import FileJournal


def carried(journal: FileJournal, first: int, end: int, *, now_ms: int) -> list[Record]:
    """What to append in place of gap records `first` to before `end`. For the disk thread."""
    gaps: list[Gap] = []
    strange: list[Record] = []
    offset = first
    while offset < end:
        batches = journal.read_sync(GAPS_PARTITION, offset, bytes_max=MIB)
        if not batches:
            break
        for batch in batches:
            header, records = decode_batch(batch)
            for record in records:
                if not offset <= record.offset < end:
                    continue
                try:
                    gaps.append(Gap.decode(record.value or b""))
                except Corrupt:  # of another version perhaps: kept as it is
                    strange.append(Record(*record[1:]))
            offset = max(offset, header.next_offset)
    return [*strange, *(gap.record(now_ms) for gap in unite(gaps))]


def unite(gaps: Iterable[Gap]) -> list[Gap]:
    """Ranges of one partition and reason that touch or overlap become one, told as the last of them was."""
    united: list[Gap] = []
    for gap in sorted(
        gaps, key=lambda g: (g.edge, g.log, g.stream, g.partition, g.reason, g.first)
    ):
        last = united[-1] if united else None
        if last is not None and _alike(last, gap) and gap.first <= last.last + 1:
            united[-1] = msgspec.structs.replace(
                gap, first=last.first, last=max(last.last, gap.last)
            )
        else:
            united.append(gap)
    return united


def _alike(one: Gap, other: Gap) -> bool:
    return (one.edge, one.log, one.stream, one.partition, one.reason) == (
        *(other.edge, other.log, other.stream),
        *(other.partition, other.reason),
    )
