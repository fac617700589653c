"""What the kernel says of a process and of a disk: CPU time, memory, bytes written. No sampling in between, no estimate.

Bytes are those that reached the block device, whoever wrote them: /proc/PID/io counts a whole large folio for each page
that is made dirty, up to a hundred times what is written.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# fields of /proc/PID/stat after the command's closing parenthesis, which may itself hold blanks (proc(5))
_UTIME, _STIME = 11, 12
# /sys/block/DEVICE/stat counts in these, whatever the device's own sectors are (kernel: Documentation/block/stat.rst)
SECTOR_BYTES = 512
_SECTORS_WRITTEN = 6


class Snapshot(NamedTuple):
    at: float
    cpu_seconds: float
    rss_bytes: int


def snapshot(pid: int) -> Snapshot:
    """All threads of one process; CPU in steps of 1/TICKS_PER_SECOND."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    cpu = (int(fields[_UTIME]) + int(fields[_STIME])) / TICKS_PER_SECOND
    return Snapshot(
        time.perf_counter(),
        cpu,
        _kib(f"/proc/{pid}/status", "VmRSS:"),
    )


def device_written_bytes(directory: Path) -> int | None:
    """Bytes written to the device that `directory` lies on, since boot. None where it lies on none (tmpfs, overlay)."""
    device = directory.stat().st_dev
    try:
        fields = (
            Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
            .read_text(encoding="ascii")
            .split()
        )
    except OSError:
        return None
    return SECTOR_BYTES * int(fields[_SECTORS_WRITTEN])


def pss_bytes(pid: int) -> int:
    """Memory with each shared page divided among those who share it."""
    return _kib(f"/proc/{pid}/smaps_rollup", "Pss:")


def peak_rss_bytes(pid: int) -> int:
    """The most that was ever resident."""
    return _kib(f"/proc/{pid}/status", "VmHWM:")


def _kib(path: str, field: str) -> int:
    for line in Path(path).read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    raise LookupError(f"{path} has no {field}")
