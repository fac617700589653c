"""The real daemon, flooded from outside: others' QoS 1 round trips stay within a bound, memory under its ceiling, and
afterwards everything is as it was.

The bound is for a machine whose other core is taken by the flood; without one a round trip has a millisecond. Measured on
two shared cores: median 5 to 15 ms, 99 of 100 within 100 ms. Before turns (broker/turns.py) ten clients that pinged made it
three seconds.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from . import floods

pytestmark = pytest.mark.alone

MEDIAN_S = 0.5
WORST_S = 5.0
# Idle 40 MiB; a flood may take what the limits leave it, of which these here meet two at a time.
RSS_MIB = 110.0
SECONDS = 1.0
# A median says something of no fewer.
TRIPS_MIN = 20

CONFIG = """
[edge]
name = "flooded"
data_dir = "{folder}"
mqtt = "127.0.0.1:0"
http = "none"

[[edge.listeners]]
name = "web"
address = "127.0.0.1:0"
kind = "websocket"
"""


class Daemon:
    def __init__(self, pid: int, log: Path, ports: tuple[int, int]) -> None:
        self.process = psutil.Process(pid)
        self.log = log
        self.ports = ports

    @property
    def rss_mib(self) -> float:
        return float(self.process.memory_info().rss) / 2**20

    def connections(self) -> int:
        return len(self.process.net_connections("tcp"))


@pytest.fixture(name="daemon", scope="module")
def _daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("flooded")
    config, log = folder / "edge.toml", folder / "log"
    config.write_text(CONFIG.format(folder=folder / "data"))
    command = [sys.executable, "-m", "headwater", "edge", "--config", str(config)]
    with log.open("w") as out, subprocess.Popen(command, stderr=out) as process:
        try:
            deadline = time.monotonic() + 30
            while "edge ready" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            # in the order of the settings: the plain one first
            listening = [
                each.laddr.port
                for each in psutil.Process(process.pid).net_connections("tcp")
                if each.status == psutil.CONN_LISTEN
            ]
            said = log.read_text()
            ports = sorted(listening, key=lambda port: said.index(f"127.0.0.1:{port}"))
            yield Daemon(process.pid, log, (ports[0], ports[1]))
        finally:
            process.terminate()
            assert process.wait(30) == 0
    assert "rror" not in log.read_text()
    assert "Traceback" not in log.read_text()


@contextmanager
def flooding(name: str, daemon: Daemon) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.edge.floods", name, *map(str, daemon.ports)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"flooding\n"
            yield
            assert process.poll() is None, "the flood ended by itself"
        finally:
            process.kill()


class Probe:
    """Publishes at QoS 1 to itself, one after another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, port: int) -> Probe:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(floods.connect("probe") + floods.subscribe("probe", 0))
        await reader.readexactly(4 + 5)
        return cls(reader, writer)

    async def round_trip(self) -> float:
        began = time.monotonic()
        body = floods.text("probe") + b"\0\1reading"
        self._writer.write(floods.packet(0x32, body))
        await self._reader.readexactly(4 + len(floods.publish("probe", b"reading")))
        return time.monotonic() - began

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


@pytest.mark.parametrize("name", floods.FLOODS)
def test_others_are_served_memory_is_bounded_and_nothing_is_left(name: str, daemon: Daemon) -> None:
    async def flooded(probe: Probe) -> None:
        before = daemon.connections()
        trips: list[float] = []
        rss = 0.0
        with flooding(name, daemon):
            end = time.monotonic() + SECONDS
            while time.monotonic() < end or len(trips) < TRIPS_MIN:
                trips.append(await probe.round_trip())
                rss = max(rss, daemon.rss_mib)
                await asyncio.sleep(0.002)
        assert statistics.median(trips) < MEDIAN_S, sorted(trips)
        assert max(trips) < WORST_S
        assert rss < RSS_MIB
        async with asyncio.timeout(15):
            while daemon.connections() > before:  # noqa: ASYNC110 - what is waited for is another process
                await asyncio.sleep(0.02)
        await probe.round_trip()

    async def scenario() -> None:
        probe = await Probe.connect(daemon.ports[0])
        try:
            await flooded(probe)
        finally:
            await probe.close()

    asyncio.run(scenario())
