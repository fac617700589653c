"""A block device that fails on command: one file served by FUSE over an image, told what to do by shared memory.

    python -m tests.crash.faultydevice IMAGE CONTROL DIRECTORY      serves DIRECTORY/disk until unmounted

Rule: what was refused did not happen, and what was told to be done is in the image. A flush that is refused loses nothing
that was written before; what the *kernel* makes of it (clean pages, a file system that goes read-only) is the test's matter.
"""

from __future__ import annotations

import errno
import importlib
import mmap
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

DISK = "disk"
CONTROL_BYTES = mmap.PAGESIZE
FOREVER = 2**62
PAUSE_SECONDS = 2.0  # what an SD card takes when it tidies up
# Places of the control page, 8 bytes each. Orders: how many more to refuse of all writes, of all flushes, of the log's
# frames, of flushes that are not ext4's own; of flushes to take their time
# for; from where to where reads are refused.
# Counts: what was done, what was refused, frames that came to a segment for which one was refused before.
FAIL_WRITES, FAIL_FLUSHES, FAIL_FRAMES, FAIL_SYNCS, PAUSES, BAD_FIRST, BAD_END = range(7)
WRITES, FLUSHES, REFUSED, REPEATED = range(8, 12)
_FRAME, _SEQUENCE = b"HWF1", slice(32, 40)  # core/journal/files/FORMAT.md
_JBD2 = b"\xc0\x3b\x39\x98"


class Control:
    """The control page, from either side."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), CONTROL_BYTES)

    def __getitem__(self, place: int) -> int:
        return int.from_bytes(self._map[place * 8 : place * 8 + 8], "little")

    def __setitem__(self, place: int, value: int) -> None:
        self._map[place * 8 : place * 8 + 8] = value.to_bytes(8, "little")


class Faulty:
    """The image, as the orders let it be used."""

    def __init__(self, image: Path, control: Control) -> None:
        self._disk = os.open(image, os.O_RDWR)
        self.size = os.fstat(self._disk).st_size
        self._control = control
        self._written: set[int] = set()  # segments with a frame since the last flush
        self._condemned: set[int] = set()
        self._journaled = False

    def read(self, size: int, offset: int) -> bytes:
        if offset < self._control[BAD_END] and offset + size > self._control[BAD_FIRST]:
            self._control[REFUSED] += 1
            raise OSError(errno.EIO, "bad sector")
        return os.pread(self._disk, size, offset)

    def write(self, data: bytes, offset: int) -> int:
        self._journaled = self._journaled or data[:4] == _JBD2
        orders = [FAIL_WRITES]
        if data[:4] == _FRAME:
            orders.append(FAIL_FRAMES)
            sequence = int.from_bytes(data[_SEQUENCE], "little")
            self._control[REPEATED] += sequence in self._condemned
            self._written.add(sequence)
        self._obey(orders)
        self._control[WRITES] += 1
        return os.pwrite(self._disk, data, offset)

    def flush(self) -> None:
        if left := self._control[PAUSES]:
            self._control[PAUSES] = left - 1
            time.sleep(PAUSE_SECONDS)
        is_ours = bool(self._written) and not self._journaled
        self._obey([FAIL_FLUSHES, FAIL_SYNCS] if is_ours else [FAIL_FLUSHES])
        self._written.clear()
        self._journaled = False
        self._control[FLUSHES] += 1

    def _obey(self, orders: list[int]) -> None:
        for order in orders:
            if left := self._control[order]:
                self._control[order] = left - 1
                self._control[REFUSED] += 1
                self._condemned |= self._written
                self._written.clear()
                raise OSError(errno.EIO, "refused by order")


def serve(faulty: Faulty, directory: Path) -> None:
    # only in the serving process, because importing mfusepy loads libfuse
    mfusepy: Any = importlib.import_module("mfusepy")

    class Device(mfusepy.Operations):  # type: ignore[misc]
        use_ns = True

        def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
            if path == "/":
                return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
            if path == f"/{DISK}":
                return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": faulty.size}
            raise mfusepy.FuseOSError(errno.ENOENT)

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", DISK]

        def open(self, path: str, flags: int) -> int:
            return 1

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            return faulty.read(size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            return faulty.write(bytes(data), offset)

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            faulty.flush()
            return 0

        def flush(self, path: str, fh: int) -> int:
            return 0  # close(2), which promises nothing

        def fallocate(self, path: str, mode: int, offset: int, length: int, fh: int) -> int:
            raise mfusepy.FuseOSError(errno.EOPNOTSUPP)  # no discard

    mfusepy.FUSE(
        Device(),
        str(directory),
        foreground=True,
        nothreads=True,  # as a card: one thing at a time, and who reads waits for a pause too
        fsname="headwater-faulty",
        direct_io=True,  # nothing is remembered between the loop device and us: a bad sector is bad at once
    )


if __name__ == "__main__":
    serve(Faulty(Path(sys.argv[1]), Control(Path(sys.argv[2]))), Path(sys.argv[3]))
