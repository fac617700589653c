"""What the kernel tells about the flash under a directory: which device, how much was written to it, how worn it says it is.

    /sys/dev/block/MAJ:MIN[/..]/stat    sectors of 512 bytes written since boot, whole disk: the card wears as a whole
    /sys/dev/block/MAJ:MIN[/..]/size    sectors of the disk
    …/device/life_time                  eMMC and some SD: "0x01 0x02" (areas A and B), in tenths of the estimated life
    …/device/pre_eol_info               eMMC: 1 normal, 2 warning (80 % of spare blocks used), 3 urgent
    /sys/fs/ext4/NAME/lifetime_write_kbytes   since mkfs: survives reboots, of this file system alone
Rule of the room: what cannot be read is None, with the reason. Knows nothing of budgets. The bytes are those that the host
hands to the device: what a card's own controller makes of them nobody outside can see.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from ..core.errors import HeadwaterError
from .sysroot import SysRoot

SECTOR_BYTES = 512
_SECTORS_WRITTEN = 6  # the seventh number of `stat` (Documentation/admin-guide/iostats.rst)


class FlashReading(NamedTuple):
    """`written_bytes` since boot; `lifetime_bytes` since the file system was made; `life_used` 0 to 1, by the device."""

    device: str
    boot: str
    written_bytes: int | None
    size_bytes: int | None
    lifetime_bytes: int | None
    life_used: float | None
    spare_blocks: str
    reason: str


class FlashReader:
    """Of the device that holds `directory`."""

    def __init__(
        self, root: SysRoot, directory: str, *, device: tuple[int, int] | None = None
    ) -> None:
        self._root = root
        if device is None:
            try:
                number = os.stat(directory).st_dev
            except OSError:  # no such directory: then nothing is known of it
                number = 0
            device = (os.major(number), os.minor(number))
        self._block = f"/sys/dev/block/{device[0]}:{device[1]}"
        self._name = root.link_name(self._block) or ""
        is_part = self._integer(f"{self._block}/partition") is not None
        # a partition's directory lies in its disk's
        self._disk = f"{self._block}/.." if is_part else self._block

    def read(self) -> FlashReading:
        """A few small files of sysfs, some microseconds each."""
        if not self._name:
            reason = f"no block device {self._block}: the directory is on a file system in memory or over a network"
            return FlashReading("", self._boot(), None, None, None, None, "", reason)
        written = self._written()
        size = self._integer(f"{self._disk}/size")
        lifetime = self._integer(f"/sys/fs/ext4/{self._name}/lifetime_write_kbytes")
        return FlashReading(
            device=self._name,
            boot=self._boot(),
            written_bytes=written,
            size_bytes=None if size is None else size * SECTOR_BYTES,
            lifetime_bytes=None if lifetime is None else lifetime * 1024,
            life_used=self._life_used(),
            spare_blocks=self._spare_blocks(),
            reason="" if written is not None else f"{self._disk}/stat cannot be read",
        )

    def _boot(self) -> str:
        return self._text("/proc/sys/kernel/random/boot_id")

    def _written(self) -> int | None:
        fields = self._text(f"{self._disk}/stat").split()
        try:
            return int(fields[_SECTORS_WRITTEN]) * SECTOR_BYTES
        except (IndexError, ValueError):
            return None

    def _life_used(self) -> float | None:
        """The worse of the two areas, at the upper end of the tenth it is in; 0x0b means more than its whole life."""
        try:
            steps = [int(word, 16) for word in self._text(f"{self._disk}/device/life_time").split()]
        except ValueError:
            return None
        worst = max(steps, default=0)
        return min(worst, 10) / 10 if worst else None  # 0: not defined

    def _spare_blocks(self) -> str:
        words = {"1": "normal", "2": "warning", "3": "urgent"}
        text = self._text(f"{self._disk}/device/pre_eol_info").removeprefix("0x").lstrip("0")
        return words.get(text, "")

    def _text(self, path: str) -> str:
        try:
            return self._root.text(path)
        except HeadwaterError:
            return ""

    def _integer(self, path: str) -> int | None:
        try:
            return self._root.integer(path)
        except HeadwaterError:
            return None
