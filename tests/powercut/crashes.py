"""The device model: what a power cut may leave of what the device was told.

Rule of every model: a write before the last flush is on the medium, whole. Of the writes after it each *sector* is on
the medium or is not, in any combination, so writes are lost, torn and reordered alike. The models differ in the sector:

    4096      4 KiB blocks, as flash cards and 4Kn disks have them
    512       512-byte sectors, but what ext4 itself counts on (its journal and superblock) is written by 4 KiB blocks
    512-all   512-byte sectors throughout. ext4 does not promise to mount after that: a torn commit block of its journal
              is "corrupt" to it. Where it refuses, `e2fsck -fy` runs first, as it would at boot, and is counted.

How the lots fall is the state's *fate*: sectors one by one, writes one by one, all, none, or all up to a point with the
write there torn. Not modelled: a device that lies about flushes, or that loses blocks that nobody was writing.
"""

from __future__ import annotations

import enum
import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .device import Operation

BLOCK = 4096
SECTOR = 512


class Model(enum.StrEnum):
    BLOCKS = "4096"
    SECTORS = "512"
    SECTORS_ALL = "512-all"


class Fate(enum.StrEnum):
    SECTORS = "each sector by lot"
    WRITES = "each write by lot"
    KEPT = "all kept"
    LOST = "all lost"
    PREFIX = "in order, the last torn"


class State(NamedTuple):
    """One crash state; with its record it says everything. `cut`: how many operations the device had been told."""

    cut: int
    model: Model
    fate: Fate
    seed: int


class Patch(NamedTuple):
    position: int
    data: bytes


class Record:
    """A device's record, and the part of ext4 that is written by whole blocks."""

    def __init__(self, operations: Sequence[Operation], whole_blocks: frozenset[int]) -> None:
        self.operations = operations
        self.whole_blocks = whole_blocks
        self.flushes = [index for index, each in enumerate(operations) if each.is_flush]

    def flushed(self, cut: int) -> int:
        """How many of the first `cut` operations are safe: those up to the last flush among them."""
        index = bisect_right(self.flushes, cut - 1)
        return self.flushes[index - 1] + 1 if index else 0

    def states(self, count: int, models: Sequence[Model], rng: random.Random) -> list[State]:
        """Both sides of every flush while `count` lasts, the rest cut at random; ascending."""
        sides = [cut for flush in self.flushes for cut in (flush, flush + 1)]
        cuts = sides if len(sides) <= count else rng.sample(sides, count * 2 // 3)
        cuts += [rng.randint(0, len(self.operations)) for _ in range(count - len(cuts))]
        fates = list(Fate)
        return [
            State(cut, rng.choice(models), rng.choice(fates), rng.getrandbits(32))
            for cut in sorted(cuts)
        ]

    def image(self, base: bytes, state: State) -> bytes:
        """The whole medium after that power cut."""
        found = bytearray(base)
        for each in self.operations[: self.flushed(state.cut)]:
            if not each.is_flush:
                found[each.position : each.position + len(each.data)] = each.data
        for position, data in self.patches(state):
            found[position : position + len(data)] = data
        return bytes(found)

    def patches(self, state: State) -> list[Patch]:
        """What of the un-flushed writes reached the medium, to be laid over the flushed ones in this order."""
        pending = self.operations[self.flushed(state.cut) : state.cut]
        rng = random.Random(state.seed)
        match state.fate:
            case Fate.LOST:
                return []
            case Fate.KEPT:
                return [Patch(each.position, each.data) for each in pending]
            case Fate.WRITES:
                return [Patch(w.position, w.data) for w in pending if rng.random() < 0.5]
            case Fate.SECTORS:
                return [
                    sector
                    for each in pending
                    for sector in self._sectors(each, state.model)
                    if rng.random() < 0.5
                ]
            case Fate.PREFIX:
                last = rng.randrange(len(pending)) if pending else 0
                kept = [Patch(each.position, each.data) for each in pending[:last]]
                torn = [
                    s for each in pending[last : last + 1] for s in self._sectors(each, state.model)
                ]
                return kept + torn[: rng.randint(0, len(torn))]

    def _sectors(self, write: Operation, model: Model) -> Iterator[Patch]:
        position, end = write.position, write.position + len(write.data)
        while position < end:
            block = position // BLOCK
            whole = model is Model.BLOCKS or (model is Model.SECTORS and block in self.whole_blocks)
            size = BLOCK if whole else SECTOR
            after = min(end, (position // size + 1) * size)
            yield Patch(position, write.data[position - write.position : after - write.position])
            position = after
