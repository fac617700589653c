"""`headwater log` beside an edge that compacts: nothing is shown twice, nothing missed, nothing whole is called damaged."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from headwater.core.disk import File
from headwater.core.journal.files import FileJournal, inspection
from headwater.core.journal.files.inspection import dump, records, verify
from headwater.core.journal.files.planning import RetentionPlan
from headwater.core.journal.files.retention import carry_out
from headwater.core.journal.files.runs import Run
from headwater.core.journal.files.scan import read_through
from tests.core.journal_files.oracle import DIRECTORY
from tests.core.journal_files.test_compaction import ALARMS, TELEMETRY, alarmed, alarms_of, crowded
from tests.core.journal_files.test_damage import put
from tests.sim.disk import SimDisk


def offsets(lines: list[str]) -> list[int]:
    return [int(line.split()[0].rpartition("/")[2]) for line in lines]


@pytest.mark.parametrize("shown", range(1, 7))
@pytest.mark.parametrize("first", range(1, 5))
def test_records_are_shown_once_each_whatever_is_compacted_meanwhile(
    shown: int, first: int
) -> None:
    disk = SimDisk(random.Random(0))
    journal = crowded(disk, 6)
    lines = records(DIRECTORY, ALARMS.topic, disk=disk)
    told = [next(lines) for _ in range(shown)]
    alarmed(journal, 9)
    carry_out(journal, RetentionPlan(runs=[Run([*range(first, 8)])]))
    told += lines
    wanted = sorted(alarms_of(journal))
    assert offsets(told) == wanted[: len(told)], "in order, once each"
    assert len(told) >= 6, "all that was there when it began"


def once_before_reading(
    journal: FileJournal, change: Callable[[FileJournal], None]
) -> Callable[[File, int], bytes]:
    """A slow card: the file is open, and before it is read the edge has gone on."""
    waiting = [change]

    def late(file: File, limit: int) -> bytes:
        if file.path.endswith(f"{4:020d}.segment") and waiting:
            waiting.pop()(journal)
        return read_through(file, limit)

    return late


def replaced_and_overwritten(journal: FileJournal) -> None:
    carry_out(journal, RetentionPlan(runs=[Run([1, 2, 3, 4])]))
    while len(journal.shelf.sequences) < 8:
        put(journal, TELEMETRY, size=16_000)


def test_a_file_that_is_overwritten_while_it_is_read_is_read_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for look in (
        lambda disk: [line for line in dump(DIRECTORY, disk=disk) if "DAMAGED" in line],
        lambda disk: verify(DIRECTORY, disk=disk).damage,
        lambda disk: sorted({0, 1, 2, 3, 4, 5} - {*offsets([*records(DIRECTORY, "b", disk=disk)])}),
    ):
        disk = SimDisk(random.Random(0))
        journal = crowded(disk, 6)
        journal.appender.spares.clear()
        late = once_before_reading(journal, replaced_and_overwritten)
        monkeypatch.setattr(inspection, "read_through", late)
        assert look(disk) == []
        assert len(journal.appender.spares) < journal.counters.segments_recycled, (
            "none was overwritten"
        )
