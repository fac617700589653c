"""Thermometers from fake trees: names that outlive renumbering, and failures that stay with their own sensor."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.hardware.sample import Quality, Sample
from headwater.hardware.sysroot import SysRoot
from headwater.hardware.temperatures import read_temperatures


def chip(root: Path, number: int, name: str, device: str | None, **files: str) -> Path:
    folder = root / f"sys/class/hwmon/hwmon{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(name + "\n")
    for attribute, text in files.items():
        (folder / attribute).write_text(text)
    if device is not None:
        (folder / "device").symlink_to(f"../../../devices/{device}")
    return folder


def zone(root: Path, number: int, kind: str, temp: str) -> None:
    folder = root / f"sys/class/thermal/thermal_zone{number}"
    folder.mkdir(parents=True)
    (folder / "type").write_text(kind + "\n")
    (folder / "temp").write_text(temp)


def read(root: Path) -> dict[str, Sample]:
    return {sample.name: sample for sample in read_temperatures(SysRoot(root), 42)}


def test_a_sensor_keeps_its_name_when_the_kernel_renumbers(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    chip(before, 0, "lm75", "i2c/1-0048", temp1_input="21500\n")
    chip(before, 1, "nvme", "nvme0", temp1_input="40000\n", temp1_label="Composite\n")
    chip(after, 5, "lm75", "i2c/1-0048", temp1_input="21500\n")
    chip(after, 0, "nvme", "nvme0", temp1_input="40000\n", temp1_label="Composite\n")
    assert read(before) == read(after)
    assert read(before)["temperature/lm75@1-0048/1"].value == 21.5
    assert read(before)["temperature/nvme@nvme0/Composite"].quality is Quality.GOOD


def test_two_chips_of_one_kind_are_told_apart_by_their_bus_address(tmp_path: Path) -> None:
    chip(tmp_path, 0, "lm75", "i2c/1-0048", temp1_input="20000")
    chip(tmp_path, 1, "lm75", "i2c/1-0049", temp1_input="30000")
    values = {name: sample.value for name, sample in read(tmp_path).items()}
    assert values == {"temperature/lm75@1-0048/1": 20.0, "temperature/lm75@1-0049/1": 30.0}


def test_two_sensors_of_one_name_are_both_uncertain(tmp_path: Path) -> None:
    zone(tmp_path, 0, "acpitz", "20000")
    zone(tmp_path, 1, "acpitz", "30000")
    samples = read_temperatures(SysRoot(tmp_path), 42)
    assert [sample.value for sample in samples] == [20.0, 30.0]
    assert {sample.quality for sample in samples} == {Quality.UNCERTAIN}


def test_an_unreadable_sensor_spoils_only_its_own_sample(tmp_path: Path) -> None:
    folder = chip(tmp_path, 0, "coretemp", None, temp2_input="50000")
    (
        folder / "temp1_input"
    ).mkdir()  # reading a directory fails as a driver's EIO does, for root too
    samples = read(tmp_path)
    assert samples["temperature/coretemp/1"].value is None
    assert samples["temperature/coretemp/1"].quality is Quality.BAD
    assert "cannot be read" in samples["temperature/coretemp/1"].reason
    assert samples["temperature/coretemp/2"].quality is Quality.GOOD


@pytest.mark.parametrize("garbage", ["", "nan", "12.5", "\x00\x01", "9" * 5000, "-"])
def test_garbage_is_bad_and_quoted(tmp_path: Path, garbage: str) -> None:
    chip(tmp_path, 0, "tmp102", None, temp1_input=garbage)
    (sample,) = read_temperatures(SysRoot(tmp_path), 42)
    assert sample.quality is Quality.BAD
    assert sample.reason


@pytest.mark.parametrize("millidegrees", ["-55001", "150001", "2147483647"])
def test_what_silicon_cannot_be_is_bad(tmp_path: Path, millidegrees: str) -> None:
    chip(tmp_path, 0, "tmp102", None, temp1_input=millidegrees)
    (sample,) = read_temperatures(SysRoot(tmp_path), 42)
    assert sample.quality is Quality.BAD
    assert "out of range" in sample.reason


def test_a_fault_that_the_driver_reports_hides_the_number(tmp_path: Path) -> None:
    chip(tmp_path, 0, "max31790", None, temp1_input="25000", temp1_fault="1\n")
    (sample,) = read_temperatures(SysRoot(tmp_path), 42)
    assert (sample.value, sample.quality) == (None, Quality.BAD)


def test_a_zone_that_is_a_chip_too_is_read_once(tmp_path: Path) -> None:
    zone(tmp_path, 0, "cpu-thermal", "48312")
    chip(tmp_path, 0, "cpu_thermal", "thermal_zone0", temp1_input="48312")
    samples = read(tmp_path)
    assert list(samples) == ["temperature/cpu_thermal/1"]


def test_a_machine_without_thermometers_says_so(tmp_path: Path) -> None:
    (sample,) = read_temperatures(SysRoot(tmp_path), 42)
    assert (sample.value, sample.quality) == (None, Quality.BAD)
    assert "absent" in sample.reason


def test_labels_become_one_level_of_a_topic(tmp_path: Path) -> None:
    chip(tmp_path, 0, "coretemp", None, temp1_input="1000", temp1_label="Package id 0/#+\n")
    assert list(read(tmp_path)) == ["temperature/coretemp/Package_id_0___"]
