"""The account over reboots, and what the rim tells."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from headwater.core.clock import ManualClock
from headwater.core.disk import SystemDisk
from headwater.core.errors import Misconfigured
from headwater.core.journal.files import Committer, FileJournal, FileJournalSettings
from headwater.core.record import TopicPartition
from headwater.core.units import GIB, MIB, ByteSize, Duration
from headwater.edge.wear.account import Account, load, store
from headwater.edge.wear.control import DAY_S
from headwater.edge.wear.settings import WearSettings
from headwater.edge.wear.wear import Wear
from headwater.hardware.flash import FlashReading

CARD = FlashReading("mmcblk0p2", "boot1", 1000, 16 * GIB, None, None, "", "")


class FakeFlash:
    def __init__(self) -> None:
        self.reading = CARD

    def read(self) -> FlashReading:
        return self.reading

    def wrote(self, size: int) -> None:
        assert self.reading.written_bytes is not None
        self.reading = self.reading._replace(written_bytes=self.reading.written_bytes + size)


class Rig:
    def __init__(self, path: Path, settings: WearSettings, clock: ManualClock) -> None:
        self.flash, self.clock = FakeFlash(), clock
        self.journal = FileJournal.open(
            str(path / "log"),
            disk=SystemDisk(),
            clock=clock,
            settings=FileJournalSettings(),
            rng=random.Random(1),
        )
        self.committer = Committer(self.journal, clock=clock, rng=random.Random(1))
        self.wear = Wear(
            settings,
            journal=self.journal,
            committer=self.committer,
            flash=self.flash,
            disk=SystemDisk(),
            clock=clock,
            path=str(path / "wear.json"),
        )

    def store(self, size: int) -> None:
        self.journal.writer(TopicPartition("a", 0)).append(1, None, bytes(size))
        commit = self.journal.seal()
        assert commit is not None
        commit.write()
        self.journal.complete(commit)


def test_the_account_adds_up_over_looks_reboots_and_new_cards(tmp_path: Path) -> None:
    disk, path = SystemDisk(), str(tmp_path / "wear.json")
    account = load(disk, path, device="card", size=7, now_ms=5)
    assert account.observe("boot1", 1000) == 0, "what was written before us is not ours to count"
    assert account.observe("boot1", 1500) == 500
    store(disk, path, account)
    again = load(disk, path, device="card", size=7, now_ms=99)
    assert again.since_ms == 5
    assert again.observe("boot1", 1800) == 300, "while the edge was down"
    assert again.observe("boot2", 200) == 200
    assert again.total == 1000
    assert load(disk, path, device="card", size=8, now_ms=9).total == 0
    (tmp_path / "wear.json").write_bytes(b"torn")
    assert load(disk, path, device="card", size=7, now_ms=9) == Account(
        device="card", size=7, since_ms=9
    )


def test_a_card_that_must_last_gets_what_is_left_of_it_spread_over_its_time(tmp_path: Path) -> None:
    clock = ManualClock()
    settings = WearSettings(card_lasts=Duration(1000 * DAY_S), cycles=500, card_factor=2.0)
    rig = Rig(tmp_path, settings, clock)
    endurance = 16 * GIB * 250
    assert rig.wear.endurance_bytes() == endurance
    assert rig.wear.budget_per_day() == pytest.approx(endurance / 1000)
    rig.flash.wrote(endurance // 2)
    clock.advance(500 * DAY_S)
    rig.wear.step()
    assert rig.wear.budget_per_day() == pytest.approx(endurance / 1000, rel=0.01)
    rig.flash.reading = rig.flash.reading._replace(life_used=0.9)
    rig.wear.step()
    assert rig.wear.budget_per_day() == pytest.approx(0.2 * endurance / 500, rel=0.01)
    status = rig.wear.status()
    assert status.life_used == pytest.approx(0.8)
    assert status.ends_ms is not None
    assert status.ends_ms == pytest.approx(clock.wall_ms() + 0.2 * 1000 * DAY_S * 1000, rel=0.01)
    rig.journal.close()


@pytest.mark.parametrize("years", [2, -2])
def test_a_clock_that_is_set_is_not_time_that_passed(tmp_path: Path, years: int) -> None:
    clock = ManualClock()
    rig = Rig(tmp_path, WearSettings(card_lasts=Duration(1000 * DAY_S)), clock)
    rig.flash.wrote(GIB)
    clock.advance(DAY_S / 2)
    clock.sleep_ms(int(DAY_S * 500))
    clock.step_wall(int(years * 365 * DAY_S * 1000))
    rig.wear.step()
    status = rig.wear.status()
    assert status.bytes_per_day == pytest.approx(GIB, rel=0.01)
    endurance = rig.wear.endurance_bytes()
    assert endurance is not None
    assert rig.wear.budget_per_day() == pytest.approx((endurance - GIB) / 999, rel=0.001)
    assert status.ends_ms == pytest.approx(
        clock.wall_ms() + (endurance - GIB) / GIB * DAY_S * 1000, rel=0.01
    )
    rig.journal.close()


def test_an_overrun_budget_lengthens_the_interval_and_never_beyond_its_limit(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    settings = WearSettings(bytes_per_day=ByteSize(MIB), interval_max=Duration(2))
    rig = Rig(tmp_path, settings, clock)
    assert rig.committer.interval_s == 0.0
    for _ in range(20):
        rig.store(100)
        rig.flash.wrote(4096 * 50)
        clock.advance(60)
        rig.wear.step()
    assert rig.committer.interval_s == 2.0
    status = rig.wear.status()
    assert status.strained
    assert status.amplification is not None
    assert status.amplification > 10
    assert status.journal_bytes > status.payload_bytes > 20 * 100
    rig.wear.change(WearSettings(bytes_per_day=ByteSize(MIB), interval_max=Duration(1)))
    clock.advance(60)
    rig.wear.step()
    assert rig.committer.interval_s <= 1.0
    rig.wear.change(WearSettings())
    clock.advance(60)
    rig.wear.step()
    assert rig.committer.interval_s == 0.0
    rig.wear.save()
    assert load(
        SystemDisk(), str(tmp_path / "wear.json"), device="mmcblk0p2", size=16 * GIB, now_ms=1
    ).credit == pytest.approx(-MIB, rel=0.01)
    rig.journal.close()


def test_where_the_kernel_tells_nothing_the_logs_own_writes_count(tmp_path: Path) -> None:
    clock = ManualClock()
    rig = Rig(tmp_path, WearSettings(), clock)
    rig.flash.reading = FlashReading("", "b", None, None, None, None, "", "no block device")
    rig.wear.step()
    rig.store(100)
    clock.advance(60)
    rig.wear.step()
    status = rig.wear.status()
    assert status.reason == "no block device"
    assert status.endurance_bytes is None
    assert status.ends_ms is None
    rig.journal.close()


def test_contradictions_are_refused() -> None:
    with pytest.raises(Misconfigured):
        WearSettings(bytes_per_day=ByteSize(1), card_lasts=Duration(DAY_S)).check()
    WearSettings(card_lasts=Duration.parse("5y")).check()


def test_a_device_that_bears_nothing_is_refused() -> None:
    lasts = Duration(5 * 365 * DAY_S)
    with pytest.raises(Misconfigured, match="endurance"):
        WearSettings(card_lasts=lasts, endurance=ByteSize(0)).check()
    with pytest.raises(Misconfigured, match="capacity"):
        WearSettings(card_lasts=lasts, capacity=ByteSize(0)).check()


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 0.5])
def test_a_card_factor_that_is_none_is_refused(factor: float) -> None:
    with pytest.raises(Misconfigured, match="card_factor"):
        WearSettings(card_factor=factor).check()


def test_a_device_of_a_byte_still_has_a_pace(tmp_path: Path) -> None:
    settings = WearSettings(card_lasts=Duration(5 * 365 * DAY_S), capacity=ByteSize(1), cycles=1)
    settings.check()
    clock = ManualClock()
    rig = Rig(tmp_path, settings, clock)
    for _ in range(5):
        clock.advance(60)
        rig.store(1000)
        rig.wear.step()
    assert rig.committer.interval_s <= float(settings.interval_max)
    assert rig.wear.status().budget_per_day
