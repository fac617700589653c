"""A disk that others fill: given back to where that helps, and not where they take it."""

from __future__ import annotations

import random

import msgspec
import pytest

from headwater.core.journal.files import FileJournal
from headwater.core.journal.files.sharing import AGAIN_S, DiskShare
from headwater.core.units import KIB, ByteSize
from tests.core.journal_files.oracle import open_journal
from tests.core.journal_files.test_retention import DROP, TIGHT, A, fill, retain
from tests.sim.disk import SimDisk

SEGMENT = 64 * KIB
ROOMY = msgspec.structs.replace(TIGHT, bytes_max=ByteSize(60 * SEGMENT), spares=3)


class Shared:
    """A log of 20 segments on a disk without a free block. `greed`: of what becomes free, what others take at once."""

    def __init__(self, greed: float, *, free: int = 0) -> None:
        self.journal = open_journal(SimDisk(random.Random(0)), settings=ROOMY)
        fill(self.journal, A, 20)
        while self.journal.appender.prepare():
            pass
        self.share = DiskShare(self.journal)
        self.greed = greed
        self.free = free
        self.refused = 0

    @property
    def held(self) -> int:
        journal = self.journal
        return (len(journal.shelf.sequences) + 1 + len(journal.appender.spares)) * SEGMENT

    def round(self, now: float) -> None:
        before = self.held
        retain(self.journal, {"a": DROP}, {A: 0}, free_bytes=self.share.room(self.free, now))
        self.refused += self.journal.full is not None
        if self.journal.full is None and self.journal.appender.spares:
            fill(self.journal, A, len(self.journal.shelf.sequences) + 1)
        self.free += int((before - self.held) * (1 - self.greed))


def segments(journal: FileJournal) -> int:
    return len(journal.shelf.sequences)


def test_what_others_take_at_once_is_not_given_again_and_publishes_are_taken() -> None:
    shared = Shared(greed=1.0)
    for second in range(300):
        shared.round(float(second))
    assert segments(shared.journal) >= 12, "once it gave six, and then it looked"
    assert shared.journal.bounds(A).start > 200, "what is new took the place of what is old"
    assert shared.refused <= 2
    assert shared.journal.full is None


def test_every_ten_minutes_it_is_tried_once_more() -> None:
    shared = Shared(greed=1.0)
    for second in range(10):
        shared.round(float(second))
    left = segments(shared.journal)
    shared.greed = 0.0
    for second in range(10, int(AGAIN_S) + 20):
        shared.round(float(second))
    assert left - 7 <= segments(shared.journal) < left
    assert shared.free >= SEGMENT, "the others are content"


def test_what_stays_free_is_given_as_before() -> None:
    shared = Shared(greed=0.0)
    for second in range(60):
        shared.round(float(second))
    assert shared.free >= 4 * SEGMENT
    assert segments(shared.journal) >= 10


@pytest.mark.parametrize("free", [6 * SEGMENT, 2**40])
def test_a_disk_with_room_is_believed(free: int) -> None:
    shared = Shared(greed=1.0, free=free)
    assert shared.share.room(free, 0.0) == free
    for second in range(20):
        shared.round(float(second))
    assert shared.journal.bounds(A).start == 0 or free < 2**40
