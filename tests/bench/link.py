"""Bytes on the wire for each 100-byte reading that goes up, counted by the kernel on a virtual Ethernet link.

Two network namespaces made here and a veth pair between them: the edge side has the broker under test and the sensors, the
other side the cloud (Headwater's, on a directory store) or the Mosquitto that a Mosquitto bridge sends to. Counted are all
bytes of all frames, both ways, TCP and Ethernet headers and acknowledgements included. Needs root.

What a trickle costs depends on how long it is gathered, and that on whether the link is billed (docs/uplink.md): slow
trickles are measured on both. HEADWATER_EDGE__UPLINK_OPTIONS__LINGER_MAX=15s in the environment measures another setting.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from headwater.demo.daemon import Daemon, DaemonFailed, free_port, headwater_command

from .connectprobe import TIMEOUT_SECONDS
from .contenders import LOAD_CORE, Running, edge_daemon, start_mosquitto
from .fanin import load

EDGE, CLOUD = "hwbench-edge", "hwbench-cloud"
EDGE_ADDRESS, CLOUD_ADDRESS = "10.213.77.1", "10.213.77.2"
RATES = (1, 10, 100, 1000)
# On a metered link: those at which gathering matters.
SLOW_RATES = (1, 10)
SENSORS = 10
# Before it counts: the sensors' connecting has been written down and sent up, which is no trickle.
LEAD_SECONDS, METERED_LEAD_SECONDS = 16.0, 36.0
# Some whole times of what a metered link gathers (`linger_metered`).
METERED_SECONDS = 60.0
SETTLE_SECONDS = 4.0
UPLINK, UPLINK_METERED, BRIDGE = "Headwater uplink", "Headwater uplink, metered", "Mosquitto bridge"
# Beyond the interval of the edge's journal of connections.
WARM_SECONDS = 12.0


class Wire(NamedTuple):
    rate: int
    name: str
    readings: int
    bytes_per_reading: float


def possible() -> str | None:
    """Why not, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    return None if shutil.which("ip") else "there is no ip command"


@contextmanager
def _namespaces() -> Iterator[None]:
    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    _remove()
    try:
        ip("netns", "add", EDGE)
        ip("netns", "add", CLOUD)
        ip(
            "link",
            "add",
            "up0",
            "netns",
            EDGE,
            "type",
            "veth",
            "peer",
            "name",
            "up0",
            "netns",
            CLOUD,
        )
        for space, address in ((EDGE, EDGE_ADDRESS), (CLOUD, CLOUD_ADDRESS)):
            ip("-n", space, "addr", "add", f"{address}/30", "dev", "up0")
            ip("-n", space, "link", "set", "up0", "up")
            ip("-n", space, "link", "set", "lo", "up")
        yield
    finally:
        _remove()


def _remove() -> None:
    for space in (EDGE, CLOUD):
        with contextlib.suppress(OSError):
            subprocess.run(["ip", "netns", "del", space], capture_output=True)


def _inside(space: str) -> list[str]:
    return ["ip", "netns", "exec", space]


def _bytes() -> int:
    total = 0
    for name in ("rx_bytes", "tx_bytes"):
        path = f"/sys/class/net/up0/statistics/{name}"
        done = subprocess.run(
            [*_inside(EDGE), "cat", path], capture_output=True, text=True, check=True
        )
        total += int(done.stdout)
    return total


def measure(*, seconds: float, directory: Path) -> list[Wire]:
    found = []
    with _namespaces():
        pairs = ((UPLINK, _headwater), (UPLINK_METERED, _metered), (BRIDGE, _bridge))
        for name, pair in pairs:
            with (
                tempfile.TemporaryDirectory(dir=directory) as folder,
                pair(Path(folder)) as running,
            ):
                _warm(running)
                rates = SLOW_RATES if name == UPLINK_METERED else RATES
                found += [_wire(name, running, rate, seconds) for rate in rates]
    return found


def _warm(running: Running) -> None:
    """First contact is not the trickle: topics made, who connected written down; both brokers get the same."""
    load(
        running,
        *("--rate", "10", "--connections", str(SENSORS), "--seconds", "2"),
        program="paceload",
        prefix=_inside(EDGE),
    )
    time.sleep(WARM_SECONDS)


def _wire(name: str, running: Running, rate: int, seconds: float) -> Wire:
    lead, seconds = (
        (METERED_LEAD_SECONDS, METERED_SECONDS)
        if name == UPLINK_METERED
        else (LEAD_SECONDS, max(seconds, 10.0))
    )
    flags = ("--rate", str(rate), "--connections", str(SENSORS))
    length = ("--seconds", str(lead + seconds + 1))
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(
            load, running, *flags, *length, program="paceload", prefix=_inside(EDGE)
        )
        time.sleep(lead)
        before = _bytes()
        time.sleep(seconds)
        total = _bytes() - before
        heard = loading.result()
    assert heard["acknowledged"] == heard["sent"], "a reading that was not taken costs nothing"
    count = round(rate * seconds)
    wire = Wire(rate, name, count, total / count)
    print(
        f"  on the wire, {rate:>5}/s {name:25} {wire.bytes_per_reading:8.1f} bytes per reading",
        flush=True,
    )
    return wire


@contextmanager
def _metered(folder: Path) -> Iterator[Running]:
    """The same cable, billed by the byte as far as the edge knows."""
    (folder / "edge.toml").write_text('[edge.uplink_options.shaping]\nmetered = ["up0"]\n')
    with _headwater(folder, "--config", str(folder / "edge.toml")) as running:
        yield running


@contextmanager
def _headwater(folder: Path, *more: str) -> Iterator[Running]:
    kafka, http, cloud_http, port = free_port(), free_port(), free_port(), free_port()
    cloud = Daemon(
        "cloud",
        [
            *_inside(CLOUD),
            *headwater_command(
                *("cloud", "--no-sink", "--store", str(folder / "store")),
                *("--kafka", f"{CLOUD_ADDRESS}:{kafka}", "--http", f"127.0.0.1:{cloud_http}"),
            ),
        ],
        log=folder / "cloud.log",
        core=LOAD_CORE,
    )
    edge = edge_daemon(
        folder,
        port=port,
        http=http,
        uplink=f"kafka://{CLOUD_ADDRESS}:{kafka}",
        prefix=_inside(EDGE),
        more=more,
    )
    try:
        cloud.start()
        edge.start()
        _wait(edge, port)
        time.sleep(SETTLE_SECONDS)
        yield Running(edge, port)
    finally:
        edge.close()
        cloud.close()


@contextmanager
def _bridge(folder: Path) -> Iterator[Running]:
    upper, lower = folder / "upper", folder / "lower"
    upper.mkdir()
    lower.mkdir()
    above = start_mosquitto(upper, _inside(CLOUD), persistence=False, host=CLOUD_ADDRESS)
    lines = [
        "connection up",
        f"address {CLOUD_ADDRESS}:{above.port}",
        "topic # out 1",
        "cleansession false",
    ]
    below = start_mosquitto(lower, _inside(EDGE), persistence=False, more=lines)
    try:
        _wait(below.daemon, below.port)
        time.sleep(SETTLE_SECONDS)
        yield below
    finally:
        below.daemon.close()
        above.daemon.close()


def _wait(daemon: Daemon, port: int) -> None:
    """Until the broker inside the namespace listens."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    probe = [*_inside(EDGE), "bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"]
    while time.monotonic() < deadline and daemon.running:
        if subprocess.run(probe, capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    raise DaemonFailed(f"{daemon.name} does not listen\n{daemon.log_tail()}")
