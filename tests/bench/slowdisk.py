"""A disk that takes longer to sync, as SD cards do: strace holds every fsync and fdatasync of the broker for so long.

The delay is real (the system call returns later), the writing is not slower, and strace costs CPU of its own: so what is
told is rates and latencies, no CPU. Only brokers that sync before they acknowledge are measured; for the others a slow disk
changes nothing that a publisher sees.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from headwater.demo.daemon import DaemonFailed

from .contenders import HEADWATER, NATS_ALWAYS, Contender
from .fanin import load

DELAYS_MS = (2, 10, 50)
WINDOWS = (1, 20)
SECONDS = 4.0
NOTHING = {"acknowledged": 0.0, "seconds": 1.0, "latency_p50_ms": 0.0, "latency_p99_ms": 0.0}


class Slow(NamedTuple):
    delay_ms: int
    window: int
    contender: str
    rate: float
    p50_ms: float
    p99_ms: float
    seconds: float


def strace(delay_ms: int) -> list[str]:
    """The command to put before a broker's. Raises DaemonFailed where there is no strace."""
    path = shutil.which("strace")
    if path is None:
        raise DaemonFailed("strace is not installed", hint="apt-get install strace, as root")
    calls = "fsync,fdatasync"
    return [
        *(path, "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", f"trace={calls}"),
        *("-e", f"inject={calls}:delay_exit={delay_ms * 1000}", "-e", "signal=none"),
    ]


def measure(
    contenders: Sequence[Contender], *, directory: Path, seconds: float = SECONDS
) -> list[Slow]:
    found = []
    syncing = [each for each in contenders if each in {HEADWATER, NATS_ALWAYS}]
    for delay_ms in DELAYS_MS:
        for window in WINDOWS:
            for contender in syncing:
                with tempfile.TemporaryDirectory(dir=directory) as folder:
                    running = contender.start(Path(folder), strace(delay_ms))
                    try:
                        heard = load(
                            running,
                            *("--connections", "100", "--window", str(window)),
                            *("--seconds", str(seconds), "--warm-up", "1"),
                        )
                    except DaemonFailed as error:
                        # a hundred CONNECTs that each wait for the disk can take longer than their clients do
                        print(f"  {contender.name}: {str(error).splitlines()[-1][:150]}")
                        heard = NOTHING
                    finally:
                        running.daemon.close()
                slow = Slow(
                    delay_ms,
                    window,
                    contender.name,
                    heard["acknowledged"] / heard["seconds"],
                    heard["latency_p50_ms"],
                    heard["latency_p99_ms"],
                    seconds,
                )
                found.append(slow)
                print(
                    f"  sync + {delay_ms} ms, 100 × {window:<3} {contender.name:24} {slow.rate:>9,.0f}/s "
                    f"p50 {slow.p50_ms:7.2f} ms  p99 {slow.p99_ms:7.2f} ms",
                    flush=True,
                )
    return found
