"""Bytes that reach the device for each byte of payload, at a sensor's pace, by durability class; the peers beside it.

Counted by the kernel at the block device under the directory, whoever else wrote meanwhile: a quiet machine is part of the
measurement, and the bytes that reach an idle device in the same time are subtracted.
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
from .process import device_written_bytes

RATE = 100
PAYLOAD_BYTES = 100
# what is not synced yet when the clock stops belongs to it all the same: the kernel writes back within 30 s
SETTLE_SECONDS = 5.0
CLASSES = {
    "Headwater, sync": "",
    "Headwater, sync, commit_interval 1s": '[edge.journal]\ncommit_interval = "1s"\n',
    "Headwater, interval": '[[edge.streams]]\nname = "default"\ndurability = "interval"\n',
    "Headwater, memory": '[[edge.streams]]\nname = "default"\ndurability = "memory"\n',
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
    began = device_written_bytes(directory)
    time.sleep(SETTLE_SECONDS)
    ended = device_written_bytes(directory)
    if began is None or ended is None:
        return []
    idle_per_second = (ended - began) / SETTLE_SECONDS
    return [_written(name, start, seconds, directory, idle_per_second) for name, start in starts]


def _written(
    name: str,
    start: Callable[[Path], Running],
    seconds: float,
    directory: Path,
    idle_per_second: float,
) -> Written:
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        running = start(Path(folder))
        try:
            time.sleep(SETTLE_SECONDS)  # its first segments are zero-filled, once
            began, before = time.monotonic(), device_written_bytes(directory)
            heard = load(
                running,
                *("--rate", str(RATE), "--payload", str(PAYLOAD_BYTES)),
                *("--seconds", str(seconds)),
                program="paceload",
            )
            time.sleep(SETTLE_SECONDS)
            after = device_written_bytes(directory)
            took = time.monotonic() - began
        finally:
            running.daemon.close()
    assert before is not None
    assert after is not None
    count = round(heard["acknowledged"])
    written = max(0.0, after - before - idle_per_second * took)
    found = Written(name, count, written, written / (count * PAYLOAD_BYTES))
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
