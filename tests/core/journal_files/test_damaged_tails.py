"""Damage where a partition ends: it may hide the end, so the next offset jumps past it and the jump is declared."""

from __future__ import annotations

import random

import pytest

from headwater.core.journal.files import FileJournal
from headwater.core.record import TopicPartition
from tests.core.journal_files.oracle import PARTITIONS, contents, open_journal
from tests.core.journal_files.test_damage import filled, put, segment
from tests.sim.disk import SimDisk

A, QUIET = PARTITIONS[0], PARTITIONS[1]
SEGMENT_BYTES = 64 * 1024


def ended_in_the_segment_before(disk: SimDisk) -> tuple[int, int]:
    """QUIET has its newest records in the last sealed segment, and none in the open one. Its sequence, and QUIET's end."""
    journal = filled(disk)
    put(journal, QUIET, 3, size=100)
    sealed = len(journal.shelf.sequences)
    while len(journal.shelf.sequences) == sealed:
        put(journal, A, size=6000)
    put(journal, A, size=6000)
    last, end = journal.shelf.sequences[-1], journal.bounds(QUIET).end
    journal.close()
    return last, end


def check_no_offset_is_given_again(
    journal: FileJournal, partition: TopicPartition, end: int
) -> None:
    found = contents(journal).get(partition, {})
    losses = [*journal.recovery.losses, *journal.take_losses()]
    lost = {o for x in losses if x.partition == partition for o in range(x.first, x.last + 1)}
    assert not set(range(end)) - set(found) - lost, "told"
    assert journal.writer(partition).next_offset >= end


@pytest.mark.parametrize("kept_bytes", [0, 4096, 8192, 16384, 32768])
def test_the_last_sealed_segment_lost_hides_the_end_of_who_was_quiet_since(kept_bytes: int) -> None:
    disk = SimDisk(random.Random(0))
    last, end = ended_in_the_segment_before(disk)
    disk.put(
        segment(last), disk.bytes_of(segment(last))[:kept_bytes] + bytes(SEGMENT_BYTES - kept_bytes)
    )
    bounds = None
    for _ in range(3):
        journal = open_journal(disk)
        check_no_offset_is_given_again(journal, QUIET, end)
        assert bounds in {None, journal.bounds(QUIET)}, "one jump, however often it is started"
        bounds = journal.bounds(QUIET)
        journal.close()


def test_the_open_segment_cut_short_is_damaged_where_its_bytes_are_missing() -> None:
    disk = SimDisk(random.Random(0))
    journal = open_journal(disk)
    put(journal, A)
    for _ in range(5):
        put(journal, QUIET, size=5000)
    journal.close()
    disk.put(segment(1), disk.bytes_of(segment(1))[:16384])
    for _ in range(3):
        journal = open_journal(disk)
        check_no_offset_is_given_again(journal, QUIET, 5)
        assert set(contents(journal)[A]) >= {0}
        put(journal, A)
        journal.close()
