"""A device that is gone is not damage: what cannot be read while nothing can be written is asked for again, not given up."""

from __future__ import annotations

import random

import pytest

from headwater.core.disk import File
from headwater.core.errors import Refused, Unavailable
from headwater.core.journal.files import FileJournal
from tests.core.journal_files.oracle import DIRECTORY, PARTITIONS, contents, open_journal
from tests.core.journal_files.test_damage import filled, put, segment
from tests.sim.disk import SimDisk

A = PARTITIONS[0]


def gone(disk: SimDisk, gone: bool = True) -> None:
    disk.read_error = disk.write_error = disk.sync_error = disk.name_error = 1.0 if gone else 0.0


def reopened(disk: SimDisk) -> tuple[FileJournal, dict[int, bytes]]:
    journal = filled(disk)
    before = contents(journal)[A]
    journal.close()
    return open_journal(disk), before


@pytest.mark.parametrize("names_are_cached", [False, True])
def test_segments_of_a_device_that_is_gone_are_neither_lost_nor_put_aside(
    names_are_cached: bool,
) -> None:
    """For a while Linux makes and removes names in memory that no device takes."""
    disk = SimDisk(random.Random(0))
    journal, before = reopened(disk)
    gone(disk)
    if names_are_cached:
        disk.name_error = 0.0
    for _ in range(3):
        with pytest.raises(Unavailable):
            journal.read_sync(A, 0, bytes_max=1000)
    gone(disk, False)
    assert not journal.take_losses()
    assert contents(journal)[A] == before, "once it is back"


def test_a_batch_that_cannot_be_fetched_while_the_device_is_gone_is_not_lost() -> None:
    disk = SimDisk(random.Random(0))
    journal, before = reopened(disk)
    contents(journal)  # its places are known
    gone(disk)
    with pytest.raises(Unavailable):
        journal.read_sync(A, max(before), bytes_max=1000)
    gone(disk, False)
    assert not journal.take_losses()
    assert contents(journal)[A] == before


def test_names_that_are_gone_with_their_directory_are_not_lost() -> None:
    """What a mount point shows when nothing is mounted."""
    disk = SimDisk(random.Random(0))
    journal, before = reopened(disk)
    taken = {name: disk.take(f"{DIRECTORY}/{name}") for name in disk.list(DIRECTORY)}
    disk.read_only = True
    with pytest.raises(Unavailable):
        journal.read_sync(A, 0, bytes_max=1000)
    disk.read_only = False
    for name, data in taken.items():
        disk.put(f"{DIRECTORY}/{name}", data)
    assert not journal.take_losses()
    assert contents(journal)[A] == before


@pytest.mark.parametrize("mapped", [True, False])
def test_a_handle_of_a_file_system_that_is_gone_is_exchanged_by_name(mapped: bool) -> None:
    """The card was pulled out and put in again: another mount under the same path."""
    disk = SimDisk(random.Random(0))
    journal, before = reopened(disk)
    if mapped:
        contents(journal)
    else:
        journal.shelf.segment(1)
    for sequence in journal.shelf.sequences:
        disk.supersede(segment(sequence))
    assert contents(journal)[A] == before
    assert not journal.take_losses()


def test_a_full_disk_does_not_keep_damage_from_being_told() -> None:
    disk = SimDisk(random.Random(0))
    journal, _ = reopened(disk)
    disk.full = True
    disk.put(segment(1), bytes(64 * 1024))
    assert journal.read_sync(A, 0, bytes_max=1000)
    assert [loss.first for loss in journal.take_losses() if loss.partition == A] == [0]


def test_a_segment_without_permission_is_told_and_stays_where_it_is() -> None:
    """Somebody's mistake is not damage: mended, everything is served again."""
    disk = SimDisk(random.Random(0))
    journal, before = reopened(disk)
    allowed = disk.open

    def refusing(path: str, *, read_only: bool = False) -> File:
        if path == segment(1):
            raise Refused(f"cannot open: {path}: permission denied")
        return allowed(path, read_only=read_only)

    disk.open = refusing  # type: ignore[method-assign]
    assert contents(journal)[A].keys() < before.keys()
    assert [loss.first for loss in journal.take_losses() if loss.partition == A] == [0]
    journal.close()
    disk.open = allowed  # type: ignore[method-assign]
    assert contents(open_journal(disk))[A] == before


def test_a_start_on_a_device_that_is_gone_gives_nothing_up() -> None:
    disk = SimDisk(random.Random(0))
    journal, before = reopened(disk)
    journal.close()
    disk.read_error = disk.write_error = 1.0
    with pytest.raises(Unavailable):
        open_journal(disk)
    gone(disk, False)
    journal = open_journal(disk)
    assert not journal.recovery.losses
    assert contents(journal)[A] == before


def test_a_temporary_file_that_may_not_be_removed_keeps_nobody_from_starting() -> None:
    class Immutable(SimDisk):
        def remove(self, path: str) -> None:
            if path.endswith("/x.tmp"):
                raise Refused(f"cannot remove: {path}: operation not permitted")
            super().remove(path)

    disk = Immutable(random.Random(0))
    journal = open_journal(disk)
    put(journal, A)
    journal.close()
    disk.create(f"{DIRECTORY}/x.tmp").close()
    journal = open_journal(disk)
    assert any("x.tmp" in warning for warning in journal.recovery.warnings)
    put(journal, A)
