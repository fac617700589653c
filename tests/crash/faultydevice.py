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


def serve(image: Path, control: Control, directory: Path) -> None:
    # only in the serving process, because importing mfusepy loads libfuse
    mfusepy: Any = importlib.import_module("mfusepy")

    def is_refused(*orders: int) -> bool:
        for order in orders:
            if left := control[order]:
                control[order] = left - 1
                control[REFUSED] += 1
                return True
        return False

    class Device(mfusepy.Operations):  # type: ignore[misc]
        use_ns = True

        def __init__(self) -> None:
            self._disk = os.open(image, os.O_RDWR)
            self._size = os.fstat(self._disk).st_size
            self._written: set[int] = set()  # segments with a frame since the last flush
            self._condemned: set[int] = set()
            self._journaled = False

        def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
            if path == "/":
                return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
            if path == f"/{DISK}":
                return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": self._size}
            raise mfusepy.FuseOSError(errno.ENOENT)

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", DISK]

        def open(self, path: str, flags: int) -> int:
            return 1

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            if offset < control[BAD_END] and offset + size > control[BAD_FIRST]:
                control[REFUSED] += 1
                raise mfusepy.FuseOSError(errno.EIO)
            return os.pread(self._disk, size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            self._journaled = self._journaled or data[:4] == _JBD2
            is_frame = data[:4] == _FRAME
            if is_frame:
                sequence = int.from_bytes(data[_SEQUENCE], "little")
                control[REPEATED] += sequence in self._condemned
                self._written.add(sequence)
            if is_refused(FAIL_WRITES, *([FAIL_FRAMES] if is_frame else [])):
                self._condemn()
                raise mfusepy.FuseOSError(errno.EIO)
            control[WRITES] += 1
            return os.pwrite(self._disk, data, offset)

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            if left := control[PAUSES]:
                control[PAUSES] = left - 1
                time.sleep(PAUSE_SECONDS)
            orders = (
                [FAIL_FLUSHES]
                if self._journaled or not self._written
                else [FAIL_FLUSHES, FAIL_SYNCS]
            )
            if is_refused(*orders):
                self._condemn()
                raise mfusepy.FuseOSError(errno.EIO)
            self._written.clear()
            self._journaled = False
            control[FLUSHES] += 1
            return 0

        def _condemn(self) -> None:
            self._condemned |= self._written
            self._written.clear()

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
    serve(Path(sys.argv[1]), Control(Path(sys.argv[2])), Path(sys.argv[3]))
