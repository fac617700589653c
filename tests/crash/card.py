"""A card in its slot: ext4 on a loop device on a device that fails on command, mounted where the edge has its data.

Rule: the card outlives the slot. `pull_out` takes the device away under the mounted file system; `put_in` gives the same
bytes to a new device and mounts them, after a file system check as at a boot.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.powercut import kernel

from .faultydevice import (
    BAD_END,
    BAD_FIRST,
    CONTROL_BYTES,
    DISK,
    FAIL_FLUSHES,
    FAIL_FRAMES,
    FAIL_SYNCS,
    FAIL_WRITES,
    FOREVER,
    PAUSES,
    Control,
)

READY_SECONDS = 30.0
BLOCK_BYTES = 4096
# struct fiemap: start, length, flags, mapped, count, reserved; then extents of 56 bytes: logical, physical, length, …
_FS_IOC_FIEMAP = 0xC020660B
_FIEMAP, _EXTENT = struct.Struct("=QQIIII"), struct.Struct("=QQQQQIIII")
_EXTENTS_MAX = 64


def sbin(program: str) -> str:
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    assert found is not None, f"{program} is installed"
    return found


class Card:
    def __init__(self, folder: Path, mib: int = 32) -> None:
        self.mount = folder / "card"
        self.mount.mkdir()
        self._folder = folder
        self._image = folder / "card.img"
        self._slots = 0
        self._devices: list[tuple[subprocess.Popen[bytes], Path]] = []
        with self._image.open("wb") as file:
            file.truncate(mib << 20)
        made = (sbin("mkfs.ext4"), "-q", "-F", "-b", str(BLOCK_BYTES), "-m", "0")
        subprocess.run([*made, str(self._image)], check=True)
        self.put_in()

    def put_in(self) -> None:
        self._slots += 1
        control, slot = (
            self._folder / f"control-{self._slots}",
            self._folder / f"slot-{self._slots}",
        )
        control.write_bytes(bytes(CONTROL_BYTES))
        slot.mkdir()
        command = [sys.executable, "-m", "tests.crash.faultydevice", str(self._image), str(control)]
        with_us = ("setpriv", "--pdeathsig", "KILL")
        process = subprocess.Popen([*with_us, *command, str(slot)], cwd=Path(__file__).parents[2])
        self._devices.append((process, slot))
        deadline = time.monotonic() + READY_SECONDS
        while not (slot / DISK).exists():
            assert process.poll() is None, "the FUSE device ended by itself"
            assert time.monotonic() < deadline, "the FUSE device is not ready"
            time.sleep(0.01)
        self.control = Control(control)
        self.mount_again()

    def mount_again(self) -> None:
        kernel.mount(self._devices[-1][1] / DISK, self.mount, options="errors=remount-ro")

    def break_down(self) -> None:
        """EIO to everything that is written."""
        self.control[FAIL_WRITES] = self.control[FAIL_FLUSHES] = FOREVER

    def accept(self) -> None:
        for order in (
            FAIL_WRITES,
            FAIL_FLUSHES,
            FAIL_FRAMES,
            FAIL_SYNCS,
            BAD_FIRST,
            BAD_END,
            PAUSES,
        ):
            self.control[order] = 0

    @property
    def is_read_only(self) -> bool:
        """What ext4 made of an error in its own journal."""
        probe = self.mount / "probe"
        try:
            probe.write_bytes(b"")
            probe.unlink()
        except OSError:
            return True
        return False

    def pull_out(self) -> None:
        """The device is gone at once, with the file system mounted and its files open."""
        process, slot = self._devices[-1]
        process.kill()
        process.wait()
        kernel.detach(slot)

    def take_off(self) -> None:
        """What is mounted is seen no more; whoever has files open keeps them."""
        kernel.detach(self.mount)

    def check(self) -> None:
        """The file system check of a boot."""
        done = subprocess.run([sbin("e2fsck"), "-fy", str(self._image)], capture_output=True)
        assert done.returncode < 4, done.stdout

    def spoil(self, file: Path, position: int, size: int) -> None:
        """Flip a bit of every byte, below the file system and behind the kernel's cache."""
        with self._image.open("r+b") as image:
            for place in range(position, position + size):
                image.seek(self.place_of(file, place))
                byte = image.read(1)[0]
                image.seek(-1, 1)
                image.write(bytes([byte ^ 0x40]))

    def place_of(self, file: Path, position: int) -> int:
        """Where on the device this byte of the file lies."""
        with file.open("rb") as opened:
            request = bytearray(_FIEMAP.pack(0, 2**63, 1, 0, _EXTENTS_MAX, 0))
            request += bytes(_EXTENTS_MAX * _EXTENT.size)
            fcntl.ioctl(opened, _FS_IOC_FIEMAP, request)
        mapped = _FIEMAP.unpack_from(request)[3]
        for index in range(mapped):
            logical, physical, length, *_ = _EXTENT.unpack_from(
                request, _FIEMAP.size + index * _EXTENT.size
            )
            if logical <= position < logical + length:
                return int(physical + position - logical)
        raise AssertionError(f"{file} has nothing at {position}")

    def close(self) -> None:
        self.take_off()
        for process, slot in self._devices:
            if process.poll() is None:
                with contextlib.suppress(OSError):
                    kernel.unmount(slot)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
            process.kill()
            process.wait()


@contextlib.contextmanager
def card_in(folder: Path, mib: int = 32) -> Iterator[Card]:
    card = Card(folder, mib)
    try:
        yield card
    finally:
        card.close()
