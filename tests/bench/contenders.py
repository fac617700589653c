"""Who is measured: Headwater's edge, Debian's Mosquitto and NATS, each a fresh process on a core and a disk of its own.

Mosquitto runs with `set_tcp_nodelay`, without which Nagle's algorithm would measure itself, and without a log; once with
its defaults (nothing survives a kill) and once with `persistence true` (written out every half hour and at exit, as Debian
ships it). Neither syncs before it acknowledges; no setting of it does. NATS (with JetStream, which its MQTT needs) once
with its defaults, a sync every two minutes, and once with `sync_interval: always`, a sync before each acknowledgement.

A `prefix` before the command runs the broker under another program: strace where a slow disk is imitated, `ip netns
exec` where the bytes of a link are counted.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
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
    """`start(directory, prefix)`."""

    name: str
    start: Callable[[Path, Sequence[str]], Running]


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


def start_mosquitto(
    directory: Path,
    prefix: Sequence[str] = (),
    *,
    persistence: bool,
    more: Sequence[str] = (),
    port: int = 0,
    host: str = HOST,
) -> Running:
    """`more`: lines of the configuration; `port` 0: a free one."""
    port = port or free_port()
    lines = [
        f"listener {port} {host}",
        "allow_anonymous true",
        "set_tcp_nodelay true",
        "log_dest none",
        f"persistence {'true' if persistence else 'false'}",
        f"persistence_location {directory}/",
        "max_queued_messages 0",
        *more,
    ]
    if os.geteuid() == 0:
        lines.append("user root")  # else it becomes a user who may not write there
    config = directory / "mosquitto.conf"
    config.write_text("\n".join(lines) + "\n")
    daemon = Daemon(
        "mosquitto",
        [*prefix, install_mosquitto(), "-c", str(config)],
        log=directory / "mosquitto.log",
        core=BROKER_CORE,
    )
    daemon.start()
    if not prefix:
        _wait_port(daemon, port)
    return Running(daemon, port)


def nats_path() -> str:
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise DaemonFailed("nats-server is not installed", hint="make setup-test")
    return found


def nats_version() -> str:
    said = subprocess.run([nats_path(), "--version"], capture_output=True, text=True).stdout
    return said.strip().removeprefix("nats-server: v") or "unknown"


def start_nats(directory: Path, prefix: Sequence[str] = (), *, always: bool) -> Running:
    mqtt = free_port()
    sync = "sync_interval: always" if always else ""
    config = directory / "nats.conf"
    config.write_text(
        f'server_name: bench\nlisten: "{HOST}:{free_port()}"\n'
        f'jetstream {{ store_dir: "{directory}/nats", max_file_store: 20GB, {sync} }}\n'
        f'mqtt {{ host: "{HOST}", port: {mqtt} }}\n'
    )
    daemon = Daemon(
        "nats-server",
        [*prefix, nats_path(), "-c", str(config)],
        log=directory / "nats.log",
        core=BROKER_CORE,
        # one core is what it is given, so that it should plan for no more
        environment={"GOMAXPROCS": "1"},
    )
    daemon.start()
    _wait_port(daemon, mqtt)
    return Running(daemon, mqtt)


def start_edge(directory: Path, prefix: Sequence[str] = ()) -> Running:
    port, http = free_port(), free_port()
    daemon = edge_daemon(directory, port=port, http=http, uplink="none", prefix=prefix)
    daemon.start()
    daemon.wait_ready()
    return Running(daemon, port)


def edge_daemon(
    directory: Path,
    *,
    port: int,
    http: int,
    uplink: str,
    prefix: Sequence[str] = (),
    more: Sequence[str] = (),
) -> Daemon:
    """`more`: further flags."""
    command = headwater_command(
        *("edge", "--name", "bench", "--data-dir", str(directory / "edge")),
        *("--mqtt", f"{HOST}:{port}", "--uplink", uplink, "--http", f"{HOST}:{http}"),
        *more,
    )
    return Daemon(
        "edge",
        [*prefix, *command],
        log=directory / "edge.log",
        http_port=http,
        core=BROKER_CORE,
    )


HEADWATER = Contender("Headwater", start_edge)
MOSQUITTO = Contender("Mosquitto", partial(start_mosquitto, persistence=False))
MOSQUITTO_PERSISTENT = Contender(
    "Mosquitto, persistence", partial(start_mosquitto, persistence=True)
)
NATS = Contender("NATS", partial(start_nats, always=False))
NATS_ALWAYS = Contender("NATS, sync always", partial(start_nats, always=True))
CONTENDERS = (HEADWATER, MOSQUITTO, MOSQUITTO_PERSISTENT, NATS, NATS_ALWAYS)


def _wait_port(daemon: Daemon, port: int) -> None:
    deadline = time.monotonic() + MOSQUITTO_READY_SECONDS
    while time.monotonic() < deadline and daemon.running:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.02)
    raise DaemonFailed(f"{daemon.name} does not listen\n{daemon.log_tail()}")
