"""Flash counters from fake trees modelled on the kernel's documents: an eMMC partition, an NVMe disk, no device at all."""

from __future__ import annotations

from pathlib import Path

from headwater.hardware.flash import FlashReader
from headwater.hardware.sysroot import SysRoot

STAT = "1 2 3 4 5 6 2048 8 9 10 11 0 0 0 0"


def emmc(root: Path) -> SysRoot:
    disk = root / "sys/devices/platform/emmc/block/mmcblk0"
    part = disk / "mmcblk0p2"
    (disk / "device").mkdir(parents=True)
    part.mkdir()
    (disk / "stat").write_text(f"  {STAT}\n")
    (disk / "size").write_text("61071360\n")
    (disk / "device/life_time").write_text("0x01 0x03\n")
    (disk / "device/pre_eol_info").write_text("0x02\n")
    (part / "partition").write_text("2\n")
    (part / "stat").write_text("0 0 0 0 0 0 8 0 0 0 0\n")
    (root / "sys/dev/block").mkdir(parents=True)
    (root / "sys/dev/block/179:2").symlink_to(part)
    ext4 = root / "sys/fs/ext4/mmcblk0p2"
    ext4.mkdir(parents=True)
    (ext4 / "lifetime_write_kbytes").write_text("4096\n")
    boot = root / "proc/sys/kernel/random"
    boot.mkdir(parents=True)
    (boot / "boot_id").write_text("b0\n")
    return SysRoot(root)


def test_a_partition_is_read_as_the_card_it_lies_on(tmp_path: Path) -> None:
    found = FlashReader(emmc(tmp_path), "/", device=(179, 2)).read()
    assert found.device == "mmcblk0p2"
    assert found.boot == "b0"
    assert found.written_bytes == 2048 * 512, "of the whole card, not of the partition"
    assert found.size_bytes == 61071360 * 512
    assert found.lifetime_bytes == 4096 * 1024
    assert found.life_used == 0.3, "the worse of both areas"
    assert found.spare_blocks == "warning"
    assert found.reason == ""


def test_what_a_driver_does_not_tell_is_unknown_and_not_invented(tmp_path: Path) -> None:
    root = emmc(tmp_path)
    disk = tmp_path / "sys/devices/platform/emmc/block/mmcblk0"
    (disk / "device/life_time").write_text("0x00 0x00\n")
    (disk / "stat").write_text("nonsense\n")
    (disk / "size").unlink()
    found = FlashReader(root, "/", device=(179, 2)).read()
    assert found.written_bytes is None
    assert found.size_bytes is None
    assert found.life_used is None
    assert "cannot be read" in found.reason


def test_a_directory_on_no_block_device_says_so(tmp_path: Path) -> None:
    found = FlashReader(SysRoot(tmp_path), "/", device=(0, 42)).read()
    assert found.written_bytes is None
    assert "no block device" in found.reason
    missing = FlashReader(SysRoot(tmp_path), str(tmp_path / "gone")).read()
    assert missing.reason
