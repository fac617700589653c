"""What has no peer beside it: an idle edge's memory, a backlog's way up, and rows per CPU second into the lake.

The backlog is real: published by MQTT to an edge without an uplink, stopped, started again with one. JSON readings, since
their compression and decoding are what is measured.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from headwater.demo.daemon import HOST, Daemon, DaemonFailed, free_port, headwater_command, total
from headwater.demo.lakecount import LakeCount

from .contenders import BROKER_CORE, LOAD_CORE, Running, edge_daemon, start_edge
from .fanin import CONNECTIONS, PAYLOAD_BYTES, load
from .process import Snapshot, peak_rss_bytes, pss_bytes, snapshot

IDLE_SECONDS = 3.0
POLL_SECONDS = 0.1
# the rate would otherwise be that of the last commit's interval
SINK_INTERVAL = "1s"
DRAIN_SECONDS_MAX = 300.0


class Memory(NamedTuple):
    idle_rss_bytes: int
    idle_pss_bytes: int
    loaded_rss_bytes: int
    loaded_pss_bytes: int


class Drain(NamedTuple):
    """`rss_bytes`: the edge's largest while it had the backlog behind it and sent it."""

    records: int
    seconds: float
    edge_cpu_us: float
    cloud_cpu_us: float
    rss_bytes: int

    @property
    def rate(self) -> float:
        return self.records / self.seconds


class Sinking(NamedTuple):
    rows: int
    seconds: float
    cpu_seconds: float

    @property
    def rows_per_cpu_second(self) -> float:
        return self.rows / self.cpu_seconds


def memory(directory: Path, *, seconds: float) -> Memory:
    """An edge that has just started, and the same one after a load of 100 connections × 20 in flight."""
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        running = start_edge(Path(folder))
        try:
            time.sleep(IDLE_SECONDS)
            pid = running.daemon.pid
            idle = snapshot(pid).rss_bytes, pss_bytes(pid)
            load(running, "--window", "20", "--seconds", str(seconds))
            return Memory(*idle, snapshot(pid).rss_bytes, pss_bytes(pid))
        finally:
            running.daemon.close()


class Backlog:
    """An edge with records that nobody has taken yet, a cloud, and then its lake, measured in that order."""

    def __init__(self, directory: Path, records: int) -> None:
        self._directory = directory
        self._wanted = records
        self._kafka, self._cloud_http, self._edge_http = free_port(), free_port(), free_port()
        self._mqtt, self._sink_http = free_port(), free_port()
        self._lake = directory / "lake"
        self._cloud = Daemon(
            "cloud",
            headwater_command(
                *("cloud", "--no-sink", "--store", str(directory / "store")),
                *("--kafka", f"{HOST}:{self._kafka}", "--http", f"{HOST}:{self._cloud_http}"),
            ),
            log=directory / "cloud.log",
            http_port=self._cloud_http,
            core=LOAD_CORE,
        )

    def close(self) -> None:
        self._cloud.close()

    def fill(self) -> int:
        """Publish the backlog; returns how many records the edge acknowledged."""
        edge = self._edge("none")
        edge.start()
        try:
            edge.wait_ready()
            heard = load(
                Running(edge, self._mqtt),
                *("--connections", str(CONNECTIONS), "--window", "20", "--json"),
                *("--payload", str(PAYLOAD_BYTES), "--messages", str(self._wanted)),
                *("--seconds", str(DRAIN_SECONDS_MAX), "--warm-up", "0"),
            )
            edge.stop()
        finally:
            edge.close()
        return round(heard["ever_acknowledged"])

    def drain(self, records: int) -> Drain:
        """From the first record that the cloud took to the last."""
        self._cloud.start()
        self._cloud.wait_ready()
        edge = self._edge(f"kafka://{HOST}:{self._kafka}")
        edge.start()
        try:
            edge.wait_ready()
            first = self._wait_acked(edge, 1)
            before = snapshot(edge.pid), snapshot(self._cloud.pid)
            last = self._wait_acked(edge, records)
            after = snapshot(edge.pid), snapshot(self._cloud.pid)
            largest = peak_rss_bytes(edge.pid)
        finally:
            edge.close()
        moved = last - first
        edge_cpu, cloud_cpu = (_cpu(a, b) for a, b in zip(before, after, strict=True))
        return Drain(
            moved,
            after[0].at - before[0].at,
            1e6 * edge_cpu / moved,
            1e6 * cloud_cpu / moved,
            largest,
        )

    def sink(self, records: int) -> Sinking:
        """A sink from its start until the lake has every record; its start is part of the cost."""
        sink = Daemon(
            "sink",
            headwater_command(
                *("sink", "--bootstrap", f"kafka://{HOST}:{self._kafka}"),
                *("--lake", str(self._lake), "--http", f"{HOST}:{self._sink_http}"),
                *("--interval", SINK_INTERVAL),
            ),
            log=self._directory / "sink.log",
            http_port=self._sink_http,
            core=BROKER_CORE,
        )
        began = time.monotonic()
        sink.start()
        try:
            with asyncio.Runner() as runner:
                rows = runner.run(self._wait_rows(sink, records))
            return Sinking(rows, time.monotonic() - began, snapshot(sink.pid).cpu_seconds)
        finally:
            sink.close()

    async def _wait_rows(self, sink: Daemon, wanted: int) -> int:
        # records of no declared stream go to the edge's default one
        count = LakeCount(str(self._lake), ["default"])
        deadline = time.monotonic() + DRAIN_SECONDS_MAX
        while (rows := await count.look()) < wanted:
            if not sink.running or time.monotonic() > deadline:
                raise DaemonFailed(f"the sink wrote {rows} of {wanted}\n{sink.log_tail()}")
            await asyncio.sleep(POLL_SECONDS)
        return rows

    def _edge(self, uplink: str) -> Daemon:
        return edge_daemon(self._directory, port=self._mqtt, http=self._edge_http, uplink=uplink)

    def _wait_acked(self, edge: Daemon, count: int) -> int:
        deadline = time.monotonic() + DRAIN_SECONDS_MAX
        while time.monotonic() < deadline:
            acked = round(total(edge.metrics(), "headwater_uplink_acked_offset_total"))
            if acked >= count:
                return acked
            time.sleep(POLL_SECONDS)
        raise DaemonFailed(f"only {acked} of {count} records went up\n{edge.log_tail()}")


def _cpu(before: Snapshot, after: Snapshot) -> float:
    return after.cpu_seconds - before.cpu_seconds
