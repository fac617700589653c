"""What the figures were measured on, said without naming the machine: processor, kernel, file system, cost of a sync."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

SYNCS = 200
BLOCK = bytes(4096)


class Machine(NamedTuple):
    processor: str
    cores: int
    memory_bytes: int
    kernel: str
    python: str
    file_system: str
    sync_p50_ms: float
    sync_p99_ms: float

    def sentence(self) -> str:
        return (
            f"{self.cores} cores of {self.processor}, {self.memory_bytes / 2**30:.0f} GiB, Linux {self.kernel}, "
            f"Python {self.python}; data on {self.file_system}, where a 4 KiB overwrite with fdatasync takes "
            f"{self.sync_p50_ms:.2f} ms (median; p99 {self.sync_p99_ms:.2f} ms)"
        )


def look(directory: Path) -> Machine:
    p50, p99 = _sync_ms(directory)
    return Machine(
        _processor(),
        os.cpu_count() or 1,
        psutil.virtual_memory().total,
        platform.release().split("-")[0],
        platform.python_version(),
        _file_system(directory),
        p50,
        p99,
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(directory: Path) -> str:
    """The kind of the file system that `directory` lies in: that of the longest mount point above it."""
    where = directory.resolve()
    kinds = {
        part.mountpoint: part.fstype
        for part in psutil.disk_partitions(all=True)
        if where.is_relative_to(part.mountpoint)
    }
    return kinds[max(kinds, key=len)] if kinds else "an unknown file system"


def _sync_ms(directory: Path) -> tuple[float, float]:
    with tempfile.NamedTemporaryFile(dir=directory, buffering=0) as file:
        file.write(BLOCK * 16)
        os.fsync(file.fileno())
        took = []
        for index in range(SYNCS):
            began = time.perf_counter()
            os.pwrite(file.fileno(), BLOCK, (index % 16) * len(BLOCK))
            os.fdatasync(file.fileno())
            took.append(1000 * (time.perf_counter() - began))
    took.sort()
    return statistics.median(took), took[len(took) * 99 // 100]
