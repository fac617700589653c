"""The system reader: honest on this machine, and honest where a machine answers less, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from headwater.core.clock import ManualClock, SystemClock
from headwater.hardware.sample import Quality, Sample
from headwater.hardware.sysroot import SysRoot
from headwater.hardware.system import SystemReader


class FakeCounters:
    """Answers what it was told; raises what it was told to raise."""

    def __init__(self) -> None:
        self.cpus: list[tuple[float, float]] = [(10.0, 100.0), (20.0, 100.0)]
        self.nics: dict[str, tuple[int, int]] = {"eth0": (1000, 2000)}
        self.error: Exception | None = None

    def cpu_times(self) -> list[tuple[float, float]]:
        return list(self.cpus)

    def load_average(self) -> float:
        return 0.5

    def memory(self) -> tuple[int, int]:
        return 1000, 400

    def disk(self, path: str) -> tuple[int, int]:
        return 5000, 3000

    def disk_bytes(self) -> tuple[int, int]:
        if self.error is not None:
            raise self.error
        return 1, 2

    def interfaces(self) -> Mapping[str, tuple[int, int]]:
        return self.nics


def reader(counters: FakeCounters, root: Path) -> SystemReader:
    return SystemReader(root=SysRoot(root), clock=ManualClock(), counters=counters)


def named(samples: list[Sample]) -> dict[str, Sample]:
    assert len({sample.name for sample in samples}) == len(samples), "one sample a name"
    return {sample.name: sample for sample in samples}


def test_this_machine_reads_itself() -> None:
    system = SystemReader(root=SysRoot(), clock=SystemClock())
    system.read()
    samples = named(system.read())
    total, available = samples["memory/total"].value, samples["memory/available"].value
    assert total is not None
    assert available is not None
    assert 0 < available <= total
    assert samples["network/lo/received"].quality is Quality.GOOD
    assert any(name.startswith("temperature") for name in samples), "measured, or said to be absent"


def test_a_share_needs_two_reads_and_is_of_the_time_between(tmp_path: Path) -> None:
    counters = FakeCounters()
    system = reader(counters, tmp_path)
    first = named(system.read())
    assert first["cpu/busy"].value is None
    assert "first read" in first["cpu/busy"].reason
    counters.cpus = [(10.5, 101.0), (20.0, 101.0)]
    second = named(system.read())
    assert second["cpu/0/busy"].value == 50.0
    assert second["cpu/1/busy"].value == 0.0
    assert second["cpu/busy"].value == 25.0


def test_two_reads_in_no_time_have_no_share(tmp_path: Path) -> None:
    system = reader(FakeCounters(), tmp_path)
    system.read()
    assert named(system.read())["cpu/busy"].quality is Quality.BAD


def test_a_cpu_that_went_offline_starts_the_shares_anew(tmp_path: Path) -> None:
    counters = FakeCounters()
    system = reader(counters, tmp_path)
    system.read()
    counters.cpus = [(11.0, 101.0)]
    assert named(system.read())["cpu/busy"].value is None


def test_a_total_that_went_back_is_uncertain_once(tmp_path: Path) -> None:
    counters = FakeCounters()
    system = reader(counters, tmp_path)
    assert named(system.read())["network/eth0/received"].quality is Quality.GOOD
    counters.nics = {"eth0": (10, 2001)}
    samples = named(system.read())
    assert samples["network/eth0/received"].quality is Quality.UNCERTAIN
    assert samples["network/eth0/sent"].quality is Quality.GOOD
    assert named(system.read())["network/eth0/received"].quality is Quality.GOOD


def test_what_cannot_be_read_does_not_hide_the_rest(tmp_path: Path) -> None:
    counters = FakeCounters()
    counters.error = FileNotFoundError(2, "No such file or directory", "/proc/diskstats")
    samples = named(reader(counters, tmp_path).read())
    assert samples["disk/io"].quality is Quality.BAD
    assert "/proc/diskstats" in samples["disk/io"].reason
    assert samples["memory/available"].value == 400
    assert samples["network/eth0/sent"].value == 2000
