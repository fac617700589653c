"""A block device that remembers: one file served by FUSE, whose writes and flushes are written down in their order.

    python -m tests.powercut.device IMAGE LOG COUNTER DIRECTORY      serves DIRECTORY/disk over IMAGE until unmounted

Rule: an operation is in the log and counted before its caller hears that it is done. So whoever has heard of a sync and
then reads the counter (8 bytes, shared memory) knows that a record cut there or later contains that sync.
One operation at a time: the log's order is the device's order. A write that is counted before a flush counts as flushed
by it, though the kernel may have asked for both at once.
"""

from __future__ import annotations

import errno
import importlib
import mmap
import os
import stat
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

DISK = "disk"
FLUSH = -1
COUNTER_BYTES = mmap.PAGESIZE
# position (or FLUSH), length, monotonic nanoseconds; then the bytes
_HEAD = struct.Struct("<qIQ")


class Operation(NamedTuple):
    """A write of `data` at `position`, or a flush."""

    position: int
    nanoseconds: int
    data: bytes

    @property
    def is_flush(self) -> bool:
        return self.position == FLUSH


def read_log(path: Path) -> list[Operation]:
    return list(_operations(path.read_bytes()))


def _operations(log: bytes) -> Iterator[Operation]:
    place = 0
    while place < len(log):
        position, length, nanoseconds = _HEAD.unpack_from(log, place)
        place += _HEAD.size + length
        yield Operation(position, nanoseconds, log[place - length : place])


class Counter:
    """How many operations the device has done, read from another process."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), COUNTER_BYTES)

    def value(self) -> int:
        return int.from_bytes(self._map[:8], "little")


def serve(image: Path, log: Path, counter: Path, directory: Path) -> None:
    # only in the serving process, because importing mfusepy loads libfuse
    mfusepy: Any = importlib.import_module("mfusepy")

    with counter.open("r+b") as file:
        shared = mmap.mmap(file.fileno(), COUNTER_BYTES)

    class Device(mfusepy.Operations):  # type: ignore[misc]
        use_ns = True

        def __init__(self) -> None:
            self._disk = os.open(image, os.O_RDWR)
            self._size = os.fstat(self._disk).st_size
            self._log = log.open("wb", buffering=1 << 20)
            self._count = 0

        def _note(self, position: int, data: bytes) -> None:
            self._log.write(_HEAD.pack(position, len(data), time.monotonic_ns()) + data)
            self._count += 1

        def _counted(self) -> None:
            shared[:8] = self._count.to_bytes(8, "little")

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
            return os.pread(self._disk, size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            self._note(offset, bytes(data))
            os.pwrite(self._disk, data, offset)
            self._counted()
            return len(data)

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            self._note(FLUSH, b"")
            self._counted()
            return 0

        def flush(self, path: str, fh: int) -> int:
            return 0  # close(2), which promises nothing

        def fallocate(self, path: str, mode: int, offset: int, length: int, fh: int) -> int:
            raise mfusepy.FuseOSError(
                errno.EOPNOTSUPP
            )  # no discard: deleted blocks keep their bytes

        def destroy(self, path: str) -> None:
            self._log.close()

    mfusepy.FUSE(
        Device(), str(directory), foreground=True, nothreads=True, fsname="headwater-powercut"
    )


if __name__ == "__main__":
    serve(*(Path(argument) for argument in sys.argv[1:5]))
