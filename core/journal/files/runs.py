"""Which segments are worth compacting (compaction.py): oldest first, in runs whose survivors fit into one segment.

Writing costs flash, so what is written is bounded by what is gained:
  a segment joins a run where it gives back a quarter of a segment by itself, or where carrying its survivors along costs
  at most a quarter (so the small ones that earlier compactions left are merged until they are that large, and then left)
  a run is worth it where it gains a quarter of a segment at least, and writes three times its gain at most; where nothing
  is given up (what goes was sent, or is the padding of small commits), no more than its gain
Where rare alarms lie beside telemetry that comes to a quarter of a segment rewritten for each segment gained, at most.

Knows nothing of files, nor of why something survives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from math import inf
from typing import NamedTuple

from ...record import TopicPartition
from .frames import ENTRY_BYTES
from .index import Summary
from .settings import BLOCK_BYTES

# A frame of a compacted segment: a bad bit costs no more than so much, padding an eighth of it at most.
PACK_BYTES = 32 * 1024
WRITTEN_PER_GAINED_MAX = 3
WRITTEN_PER_GAINED_MAX_LOSSLESS = 1
_BATCH_BYTES_MIN = 68  # header and the smallest record


class Run(NamedTuple):
    """Sequences of sealed segments that follow each other, ascending. `written`: what is made of them takes no more."""

    members: list[int]
    written: int = 0

    @property
    def first(self) -> int:
        return self.members[0]

    @property
    def last(self) -> int:
        return self.members[-1]


class Candidate(NamedTuple):
    """A segment that may be compacted. `kept`: at most so many bytes of entries survive; `ends`: of which partitions, and
    where each ends in it; `end_of`: what its footer's table says of any; `created_ms`: of the oldest it stands for,
    `wall_ms`: of its newest commit; `age_max_ms`: the least that any of what survives may become."""

    sequence: int
    file_bytes: int
    kept: int
    ends: Mapping[TopicPartition, int]
    end_of: Callable[[TopicPartition], int]
    created_ms: int = 0
    wall_ms: int = 0
    age_max_ms: float = inf


def entries_max(partition: TopicPartition, summary: Summary, batches: int) -> int:
    """What the batches of one partition take as entries of frames, `batches` being those of all in the segment."""
    count = min(batches, summary.size // _BATCH_BYTES_MIN + 1)
    return summary.size + count * (ENTRY_BYTES + len(partition.topic.encode()))


class Costs(NamedTuple):
    """`fixed`: what a compacted segment takes beside its survivors: header, reservations, footer. `share`: what may be
    written for each byte that is gained."""

    segment_bytes: int
    fixed: int
    share: int = WRITTEN_PER_GAINED_MAX

    @property
    def least(self) -> int:
        return self.segment_bytes // 4

    def written(self, run: Iterable[Candidate]) -> int:
        return self._written(sum(each.kept for each in run))

    def _written(self, kept: int) -> int:
        # two frames that follow each other hold more than PACK_BYTES together, and each may be padded by a block
        return self.fixed + BLOCK_BYTES + kept + 2 * BLOCK_BYTES * (kept // PACK_BYTES)

    def gain(self, run: Iterable[Candidate]) -> int:
        run = list(run)
        return sum(each.file_bytes for each in run) - self.written(run)

    def worthy(self, file_bytes: int, kept: int) -> bool:
        is_cheap = kept <= self.least
        return (is_cheap or file_bytes - kept >= self.least) and (
            self._written(kept) <= self.segment_bytes
        )

    def fits(self, run: Iterable[Candidate]) -> bool:
        return self.written(run) <= self.segment_bytes

    def worthwhile(self, run: Iterable[Candidate]) -> bool:
        run = list(run)
        gain = self.gain(run)
        return gain >= self.least and self.written(run) <= self.share * gain


def choose(
    candidates: Iterable[Candidate | None], *, wanted: int, costs: Costs
) -> list[list[Candidate]]:
    """Runs that together gain `wanted` bytes, or as much as there is to gain. None: a segment that must stay as it is."""
    chosen: list[list[Candidate]] = []
    run: list[Candidate] = []
    for each in chain(candidates, [None]):
        joins = each is not None and costs.worthy(each.file_bytes, each.kept)
        if run and not (
            each is not None and joins and costs.fits([*run, each]) and _continues(run, each)
        ):
            if costs.worthwhile(run):
                chosen.append(run)
                wanted -= costs.gain(run)
            run = []
        if each is not None and joins:
            run.append(each)
            if costs.worthwhile(run) and costs.gain(run) >= wanted:
                chosen.append(run)
                wanted -= costs.gain(run)
                run = []
        if wanted <= 0:
            break
    return chosen


def _continues(run: Sequence[Candidate], each: Candidate) -> bool:
    """A footer tells with one number where a partition ends and where its last batch here does: they must be the same, which
    they are not where damage made a partition jump in between. And one number is the age of all: what has a limit of age is
    not united with what is younger by more than that, else it is kept as long as there is something to unite it with."""
    age_max = min(member.age_max_ms for member in (*run, each))
    if each.wall_ms - run[0].created_ms > age_max:
        return False
    last: dict[TopicPartition, int] = {}
    for member in run:
        last |= member.ends
    return all(p in each.ends or each.end_of(p) == end for p, end in last.items())
