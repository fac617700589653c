"""Bytes that reach the device for each byte of payload, at a sensor's pace, by durability class; the peers beside it.

Counted by the kernel at a block device that nobody else writes to (ownfs.py), the file system's own journal and tables
included; what was not synced when the clock stopped is written out and counted.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from headwater.demo.daemon import free_port

from .contenders import MOSQUITTO_PERSISTENT, NATS, NATS_ALWAYS, Running, edge_daemon
from .fanin import load
from .ownfs import own_file_system, settle
from .process import device_written_bytes

RATE = 100
PAYLOAD_BYTES = 100
SETTLE_SECONDS = 5.0
# The steady state of years: the log has been filled once (its segments zero-filled, which doubles the first pass) and is
# overwritten from then on. A log of 18 MiB is there after this many commits of 4 KiB.
WARM_UP_MESSAGES = 6000
_SMALL_LOG = """
[edge]
retention_interval = "1s"
[edge.journal]
segment_bytes = "2MiB"
bytes_max = "18MiB"
"""
_STREAM = """
[[edge.streams]]
name = "default"
filters = ["#"]
when_full = "drop-oldest"
"""
CLASSES = {
    "Headwater, sync": _SMALL_LOG + _STREAM,
    "Headwater, sync, commit_interval 1s": _SMALL_LOG + 'commit_interval = "1s"\n' + _STREAM,
    "Headwater, interval": _SMALL_LOG + _STREAM + 'durability = "interval"\n',
    "Headwater, memory": _SMALL_LOG + _STREAM + 'durability = "memory"\n',
}


class Written(NamedTuple):
    name: str
    readings: int
    bytes_written: float
    per_payload_byte: float


def measure(*, seconds: float, directory: Path) -> list[Written]:
    starts: list[tuple[str, Callable[[Path], Running]]] = [
        (name, lambda folder, text=text: _edge(folder, text))  # type: ignore[misc]
        for name, text in CLASSES.items()
    ]
    starts += [
        (each.name, lambda folder, each=each: each.start(folder, ()))  # type: ignore[misc]
        for each in (MOSQUITTO_PERSISTENT, NATS, NATS_ALWAYS)
    ]
    return [
        found
        for name, start in starts
        if (found := _written(name, start, seconds, directory)) is not None
    ]


def _written(
    name: str, start: Callable[[Path], Running], seconds: float, directory: Path
) -> Written | None:
    with own_file_system(directory) as place, tempfile.TemporaryDirectory(dir=place) as folder:
        running = start(Path(folder))
        try:
            load(
                running,
                *("--connections", "1", "--window", "1", "--payload", str(PAYLOAD_BYTES)),
                *("--messages", str(WARM_UP_MESSAGES), "--seconds", "30"),
            )
            time.sleep(SETTLE_SECONDS)
            settle(place)
            before = device_written_bytes(place)
            heard = load(
                running,
                *("--rate", str(RATE), "--payload", str(PAYLOAD_BYTES)),
                *("--seconds", str(seconds)),
                program="paceload",
            )
            settle(place)
            after = device_written_bytes(place)
        finally:
            running.daemon.close()
    if before is None or after is None:
        return None
    count = round(heard["acknowledged"])
    found = Written(name, count, after - before, (after - before) / (count * PAYLOAD_BYTES))
    print(
        f"  to the device, {name:38} {found.per_payload_byte:8.2f} bytes per payload byte",
        flush=True,
    )
    return found


def _edge(folder: Path, text: str) -> Running:
    port, http = free_port(), free_port()
    config = folder / "headwater.toml"
    config.write_text(text)
    flags: Sequence[str] = ("--config", str(config)) if text else ()
    daemon = edge_daemon(folder, port=port, http=http, uplink="none", more=flags)
    daemon.start()
    daemon.wait_ready()
    return Running(daemon, port)
