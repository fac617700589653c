"""What the kernel says of a process: CPU time, memory, bytes sent to the disk. No sampling in between, no estimate."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# fields of /proc/PID/stat after the command's closing parenthesis, which may itself hold blanks (proc(5))
_UTIME, _STIME = 11, 12


class Snapshot(NamedTuple):
    at: float
    cpu_seconds: float
    rss_bytes: int
    written_bytes: int


def snapshot(pid: int) -> Snapshot:
    """All threads of one process; CPU in steps of 1/TICKS_PER_SECOND."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    cpu = (int(fields[_UTIME]) + int(fields[_STIME])) / TICKS_PER_SECOND
    return Snapshot(
        time.perf_counter(),
        cpu,
        _kib(f"/proc/{pid}/status", "VmRSS:"),
        _plain(f"/proc/{pid}/io", "write_bytes:"),
    )


def pss_bytes(pid: int) -> int:
    """Memory with each shared page divided among those who share it."""
    return _kib(f"/proc/{pid}/smaps_rollup", "Pss:")


def _kib(path: str, field: str) -> int:
    return 1024 * _plain(path, field)


def _plain(path: str, field: str) -> int:
    for line in Path(path).read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise LookupError(f"{path} has no {field}")
