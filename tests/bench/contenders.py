"""Who is measured: Headwater's edge and Debian's Mosquitto, each a fresh process on a core and a disk of its own.

Mosquitto runs with `set_tcp_nodelay`, without which Nagle's algorithm would measure itself, and without a log; once with
its defaults (nothing survives a kill) and once with `persistence true` (written out every half hour and at exit, as Debian
ships it). Neither syncs before it acknowledges; no setting of it does.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from headwater.demo.daemon import HOST, Daemon, DaemonFailed, free_port, headwater_command

BROKER_CORE = 0
LOAD_CORE = 1
MOSQUITTO_READY_SECONDS = 5.0


class Running(NamedTuple):
    daemon: Daemon
    port: int


class Contender(NamedTuple):
    name: str
    start: Callable[[Path], Running]


def mosquitto_path() -> str | None:
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def install_mosquitto() -> str:
    """Where Mosquitto is, after installing Debian's package where we may. Raises DaemonFailed."""
    if (path := mosquitto_path()) is not None:
        return path
    if shutil.which("apt-get") and os.geteuid() == 0:
        print("installing mosquitto from Debian's package")
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for step in (["update"], ["install", "-y", "--no-install-recommends", "mosquitto"]):
            subprocess.run(["apt-get", "-qq", *step], env=quiet, capture_output=True)
        if (path := mosquitto_path()) is not None:
            return path
    raise DaemonFailed("mosquitto is not installed", hint="apt-get install mosquitto, as root")


def mosquitto_version() -> str:
    said = subprocess.run([install_mosquitto(), "-h"], capture_output=True, text=True).stdout
    return said.splitlines()[0].removeprefix("mosquitto version ") if said else "unknown"


def start_mosquitto(directory: Path, *, persistence: bool) -> Running:
    port = free_port()
    lines = [
        f"listener {port} {HOST}",
        "allow_anonymous true",
        "set_tcp_nodelay true",
        "log_dest none",
        f"persistence {'true' if persistence else 'false'}",
        f"persistence_location {directory}/",
    ]
    if os.geteuid() == 0:
        lines.append("user root")  # else it becomes a user who may not write there
    config = directory / "mosquitto.conf"
    config.write_text("\n".join(lines) + "\n")
    daemon = Daemon(
        "mosquitto",
        [install_mosquitto(), "-c", str(config)],
        log=directory / "mosquitto.log",
        core=BROKER_CORE,
    )
    daemon.start()
    _wait_port(daemon, port)
    return Running(daemon, port)


def start_edge(directory: Path) -> Running:
    port, http = free_port(), free_port()
    daemon = edge_daemon(directory, port=port, http=http, uplink="none")
    daemon.start()
    daemon.wait_ready()
    return Running(daemon, port)


def edge_daemon(directory: Path, *, port: int, http: int, uplink: str) -> Daemon:
    return Daemon(
        "edge",
        headwater_command(
            *("edge", "--name", "bench", "--data-dir", str(directory / "edge")),
            *("--mqtt", f"{HOST}:{port}", "--uplink", uplink, "--http", f"{HOST}:{http}"),
        ),
        log=directory / "edge.log",
        http_port=http,
        core=BROKER_CORE,
    )


HEADWATER = Contender("Headwater", start_edge)
MOSQUITTO = Contender("Mosquitto", lambda where: start_mosquitto(where, persistence=False))
MOSQUITTO_PERSISTENT = Contender(
    "Mosquitto, persistence", lambda where: start_mosquitto(where, persistence=True)
)
CONTENDERS = (HEADWATER, MOSQUITTO, MOSQUITTO_PERSISTENT)


def _wait_port(daemon: Daemon, port: int) -> None:
    deadline = time.monotonic() + MOSQUITTO_READY_SECONDS
    while time.monotonic() < deadline and daemon.running:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.02)
    raise DaemonFailed(f"{daemon.name} does not listen\n{daemon.log_tail()}")
