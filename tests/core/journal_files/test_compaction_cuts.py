"""Compaction through crashes: logs that must make room again and again, with refusing, dropping and thinning streams of all
priorities, on a disk that fails at any call.

What oracle.py holds them to is all that is owed: each record from its partition's start on is there, once, by partition and
in arrival order; starts move only as planned. A compaction that does one thing too early is condemned by the same lives.
"""

from __future__ import annotations

import contextlib
import os
import random
from typing import cast

import msgspec
import pytest

from headwater.core.disk import File
from headwater.core.errors import Unavailable
from headwater.core.journal.files import (
    FileJournal,
    StreamRetention,
    WhenFull,
    compaction,
    recovery,
    retention,
)
from headwater.core.journal.files.appender import Appender
from headwater.core.journal.files.compaction import compact
from headwater.core.journal.files.covered import Covered
from headwater.core.journal.files.holes import united
from headwater.core.journal.files.index import Footer
from headwater.core.journal.files.inspection import verify
from headwater.core.journal.files.planning import plan
from headwater.core.journal.files.retention import give_up
from headwater.core.journal.files.runs import Run
from headwater.core.units import KIB
from tests.core.journal_files.oracle import DIRECTORY, PARTITIONS, Life, open_journal
from tests.core.journal_files.test_compaction import TELEMETRY, alarms_of, crowded, squeezed
from tests.core.journal_files.test_damage import put
from tests.core.journal_files.test_early_power_cuts import EarlyLife
from tests.core.journal_files.test_noted_power_cuts import NotedLife
from tests.core.journal_files.test_power_cuts import seeds
from tests.sim.disk import SimCrash, SimDisk


class CrowdedLife(Life):
    """Some segments first, on a disk that works; then room is made over and over while it fails."""

    first_call = 0

    def _live_until_crash(self) -> None:
        rng, disk = self.rng, self.disk
        kill = rng.random() < 0.3
        try:
            journal = self._open_stubbornly()
            while len(journal.shelf.sequences) < rng.randint(3, 7):
                self._commit(journal)
            if rng.random() < 0.3:
                disk.write_error = disk.sync_error = rng.choice((0.02, 0.2))
                disk.name_error = rng.choice((0.0, 0.1))
            disk.crash_at = disk.calls + rng.choice((rng.randint(1, 60), rng.randint(1, 400)))
            for _ in range(rng.randint(5, 30)):
                if rng.random() < 0.4:
                    self.crowd(journal)
                else:
                    self._step(journal)
            disk.crash_at = None
            journal.close()
            kill = True
        except SimCrash:
            self.crashes += 1
        disk.restart(power_cut=not kill)


@pytest.mark.parametrize("block", range(6))
def test_what_must_survive_survives_every_compaction(block: int) -> None:
    compacted = lives = 0
    for seed in seeds(block)[::2]:
        lives += 1
        life = CrowdedLife(seed)
        try:
            life.lead(rounds=3)
        except (Exception, SimCrash) as error:
            raise AssertionError(f"seed {seed}: rerun with HEADWATER_SEED={seed}") from error
        compacted += life.compacted
    assert "HEADWATER_SEED" in os.environ or compacted > lives, (
        "hardly a segment was compacted: the lives prove nothing"
    )


class CrowdedEarlyLife(CrowdedLife, EarlyLife):
    """... with streams that are acknowledged early."""


class CrowdedNotedLife(CrowdedLife, NotedLife):
    """... with notes that are still wanted."""


@pytest.mark.parametrize("kind", [CrowdedEarlyLife, CrowdedNotedLife])
@pytest.mark.parametrize("block", range(2))
def test_early_offsets_and_notes_survive_it_too(kind: type[CrowdedLife], block: int) -> None:
    compacted = 0
    for seed in seeds(block)[::4]:
        life = kind(seed)
        try:
            life.lead(rounds=3)
        except (Exception, SimCrash) as error:
            raise AssertionError(f"seed {seed}: rerun with HEADWATER_SEED={seed}") from error
        compacted += life.compacted
    assert "HEADWATER_SEED" in os.environ or compacted, "nothing was compacted"


def _crowded_script(life: CrowdedLife) -> None:
    """Two compactions, the second over the first's: alarms that may not go beside two streams that may."""
    rules = {"a": StreamRetention(when_full=WhenFull.THIN_OLDEST, priority=1)}
    journal = life.open()
    for _ in range(2):
        for turn in range(40):
            journal.bytes_limit = 2**40
            journal.update_full()
            chosen = PARTITIONS if turn % 5 == 0 else PARTITIONS[:2]
            sizes = ((p, 6000 if p.topic == "a" else 200) for p in chosen)
            life.commit(journal, [life.append_to(journal, *each) for each in sizes])
        before, life.first_call = journal.used_bytes, life.first_call or life.disk.calls
        agreed = plan(journal, 0, rules=rules, sent={}, free_bytes=2 * 64 * KIB)
        assert agreed.runs
        life.carry_out(journal, agreed)
        assert journal.used_bytes < before
    journal.close()


def _at_each_call(keep: float) -> list[int]:
    """Crashes the script at each call of its compactions; those after which something was owed and not there."""
    counting = CrowdedLife(1)
    _crowded_script(counting)
    assert counting.compacted > 4
    condemned = []
    for call in range(counting.first_call, counting.disk.calls + 1):
        life = CrowdedLife(1)
        life.disk.crash_at = call
        with contextlib.suppress(SimCrash):
            _crowded_script(life)
        life.disk.restart(power_cut=True, keep=keep)
        try:
            life.check()
            journal = life.open()
            assert not journal.recovery.losses, journal.recovery
            assert not journal.recovery.quarantined, journal.recovery
            journal.close()
            assert verify(DIRECTORY, disk=life.disk).whole
        except AssertionError:
            condemned.append(call)
    return condemned


@pytest.mark.parametrize("keep", [0.0, 0.5, 1.0])
def test_a_power_cut_at_each_call_of_a_compaction_loses_nothing(keep: float) -> None:
    assert not _at_each_call(keep)


def _too_early(journal: FileJournal, run: Run) -> None:
    """Step 5 before step 4: the state names i..j-1 absent, then they are written where they are to stand."""
    appender = journal.appender
    smaller = [(s, size) for s, size in journal.shelf.compacted.items() if s not in run.members]
    gone = [(each, each) for each in run.members[:-1]]
    early = msgspec.structs.replace(
        appender.state,
        generation=appender.state.generation + 1,
        absent=united([*appender.absent, *gone]),
        compacted=smaller,
    )
    appender.store(early)
    compact(journal, run)


def test_a_state_that_names_what_goes_before_the_renaming_is_condemned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention, "compact", _too_early)
    assert len(_at_each_call(0.5)) > 5


def test_a_compaction_that_is_not_synced_is_condemned(monkeypatch: pytest.MonkeyPatch) -> None:
    finish = compaction._Rewriting.finish

    def lazily(rewriting: compaction._Rewriting, run: Run, newest: Footer) -> int:
        rewriting._file = cast("File", _Lazy(rewriting._file))
        return finish(rewriting, run, newest)

    monkeypatch.setattr(compaction._Rewriting, "finish", lazily)
    monkeypatch.setattr(compaction._Rewriting, "read_back", lambda _: None)
    monkeypatch.setattr(compaction._Rewriting, "sync", lambda _: None)
    assert len(_at_each_call(0.5)) > 5


class _Lazy:
    """A file that is not synced."""

    def __init__(self, file: File) -> None:
        self.path, self.read, self.write = file.path, file.read, file.write

    def sync(self) -> None:
        pass

    def drop_cache(self) -> None:
        pass


def test_a_recovery_that_forgets_what_is_covered_is_condemned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recovery, "covered_by", lambda *_: Covered([], {}))
    assert len(_at_each_call(0.5)) > 5


def _replaced_and_rolled(disk: SimDisk) -> tuple[int, dict[int, bytes]]:
    """A compaction whose renaming the directory does not take, and commits that need another file."""
    journal = crowded(disk)
    agreed = squeezed(journal)
    give_up(journal, agreed)
    before, first = alarms_of(journal), disk.calls
    journal.appender.spares.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "sync_directory", _refusing)
        with pytest.raises(Unavailable):
            compact(journal, agreed.runs[0])
    assert journal.counters.segments_compacted
    sealed = len(journal.shelf.sequences)
    while len(journal.shelf.sequences) < sealed + 2:
        put(journal, TELEMETRY, size=16_000)
    return first, before


def _refusing(path: str) -> None:
    raise Unavailable(f"cannot sync directory: {path}: input/output error")


def _lost_at_each_call() -> list[int]:
    counting = SimDisk(random.Random(0))
    first, before = _replaced_and_rolled(counting)
    lost = []
    for call in range(first + 1, counting.calls + 1):
        disk = SimDisk(random.Random(0))
        disk.crash_at = call
        with contextlib.suppress(SimCrash):
            _replaced_and_rolled(disk)
        disk.restart(power_cut=True, keep=0.0)
        journal = open_journal(disk)
        try:
            assert alarms_of(journal) == before
            assert not journal.take_losses()
        except AssertionError:
            lost.append(call)
    return lost


def test_a_file_that_was_replaced_is_not_used_before_that_is_durable() -> None:
    assert not _lost_at_each_call()


def test_a_replaced_file_that_is_a_spare_at_once_is_condemned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take_place = Appender.take_place

    def at_once(appender: Appender, path: str, sequence: int) -> None:
        take_place(appender, path, sequence)
        while appender._replaced:
            appender.spares.append(appender._make_spare(appender._replaced.pop()))

    monkeypatch.setattr(Appender, "take_place", at_once)
    assert _lost_at_each_call()
