"""Thousands of lives, each with its seed. A failure prints it; HEADWATER_SEED=n runs that one alone."""

from __future__ import annotations

import contextlib
import os
import random

import pytest

from headwater.core.errors import Unavailable
from tests.core.journal_files.oracle import (
    PARTITIONS,
    Life,
    Model,
    contents,
    open_journal,
)
from tests.sim.disk import SimCrash, SimDisk

_LIVES = int(os.environ.get("HEADWATER_LIVES", "3000"))
_BLOCKS = 6


def seeds(block: int) -> list[int]:
    if "HEADWATER_SEED" in os.environ:
        return [int(os.environ["HEADWATER_SEED"])] if block == 0 else []
    return list(range(block, _LIVES, _BLOCKS))


@pytest.mark.parametrize("block", range(_BLOCKS))
def test_acknowledged_records_survive_every_life(block: int) -> None:
    crashes = 0
    for seed in seeds(block):
        life = Life(seed)
        try:
            life.lead(rounds=2)
        except (Exception, SimCrash) as error:
            raise AssertionError(f"seed {seed}: rerun with HEADWATER_SEED={seed}") from error
        crashes += life.crashes
    if "HEADWATER_SEED" not in os.environ:
        assert crashes > _LIVES // _BLOCKS // 2, "the lives are too quiet to prove anything"


def test_the_same_seed_leads_the_same_life() -> None:
    first, second = Life(42), Life(42)
    first.lead(rounds=2)
    second.lead(rounds=2)
    assert first.disk.calls == second.disk.calls
    assert first.model.acknowledged == second.model.acknowledged


def test_the_oracle_notices_a_disk_that_lies_about_sync() -> None:
    noticed = 0
    for seed in range(40):
        try:
            Life(seed, lying_sync=True).lead(rounds=2)
        except (AssertionError, Unavailable):
            noticed += 1
    assert noticed > 20


def _script(disk: SimDisk, model: Model) -> None:
    """A short life with everything in it: creation, rolls, spares, retention, reopening."""
    rng = random.Random(7)
    life = Life(7)
    life.disk, life.model, life.rng = disk, model, rng
    for session in range(2):
        journal = life.open()
        for turn in range(9):
            life._commit(journal)
            if turn % 4 == 2:
                life._retain(journal)
                if session:
                    journal.appender.prepare()
        journal.close()


@pytest.mark.parametrize("keep", [0.0, 0.5, 1.0])
def test_a_crash_at_each_disk_call_loses_nothing(keep: float) -> None:
    counting = SimDisk(random.Random(1))
    _script(counting, Model())
    assert counting.calls > 100
    for call in range(1, counting.calls + 1):
        disk, model = SimDisk(random.Random(call)), Model()
        disk.crash_at = call
        with pytest.raises(SimCrash):
            _script(disk, model)
        disk.restart(power_cut=True, keep=keep)
        journal = open_journal(disk)
        model.check(contents(journal), journal)
        assert not journal.recovery.losses, f"call {call}: {journal.recovery}"
        assert not journal.recovery.quarantined, f"call {call}: {journal.recovery}"


@pytest.mark.parametrize("keep", [0.0, 0.5, 1.0])
def test_a_crash_at_each_call_of_recovery_loses_nothing(keep: float) -> None:
    def crashed() -> tuple[SimDisk, Model]:
        disk, model = SimDisk(random.Random(3)), Model()
        disk.crash_at = 90
        with pytest.raises(SimCrash):
            _script(disk, model)
        disk.restart(power_cut=True, keep=0.5)
        return disk, model

    disk, _ = crashed()
    before = disk.calls
    open_journal(disk).close()
    for call in range(before + 1, disk.calls + 1):
        again, model = crashed()
        again.crash_at = call
        with pytest.raises(SimCrash):
            open_journal(again)
        again.restart(power_cut=True, keep=keep)
        journal = open_journal(again)
        model.check(contents(journal), journal)


def test_a_frame_seen_after_a_kill_is_durable_before_it_is_shown() -> None:
    """SIGKILL leaves the frame in the page cache: recovery must sync it before a reader may see it."""
    shown = 0
    for seed in range(200):
        rng = random.Random(seed)
        disk = SimDisk(rng)
        journal = open_journal(disk)
        journal.writer(PARTITIONS[0]).append(1, None, b"first")
        commit = journal.seal()
        assert commit is not None
        disk.crash_at = disk.calls + rng.randint(1, 12)
        with contextlib.suppress(SimCrash):
            commit.write()
        disk.restart(power_cut=False)
        found = contents(open_journal(disk))
        shown += bool(found)
        disk.restart(power_cut=True, keep=0.0)
        assert contents(open_journal(disk)) == found
    assert shown > 20
