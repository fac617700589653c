"""The demo as it happens: start, publish, kill the edge, kill the cloud, let everything arrive, prove, and clean up.

Rule: nothing is staged. The daemons are started by the command line, killed with SIGKILL and started again with the same
arguments; if the proof fails the directory is kept and the exit status is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import aiomqtt

from ..core.clock import SystemClock
from .daemon import HOST, Daemon
from .fleet import Fleet
from .lakecount import LakeCount
from .progress import Progress, Screen
from .proof import STREAMS, Proof, cloud_log, prove, replicated
from .river import River

SINK_INTERVAL = "1s"
SCREEN_SECONDS = 0.25
DRAIN_SECONDS_MAX = 90.0
# How the publishing time is spent: shares at which the edge dies, the cloud dies, and the cloud comes back.
EDGE_DIES, CLOUD_DIES, CLOUD_BACK = 0.3, 0.6, 0.75


def run(options: argparse.Namespace) -> int:
    """The exit status: 0 when the proof holds."""
    directory = Path(options.dir or tempfile.mkdtemp(prefix="headwater-demo-"))
    screen = Screen(sys.stdout)
    river = River(directory, sink_interval=SINK_INTERVAL)
    story = Story(river, screen, devices=options.devices, seconds=options.seconds)
    holds = False
    try:
        holds = asyncio.run(story.tell(stay=options.stay))
    except asyncio.CancelledError:
        screen.print("ended before the proof")
    finally:
        river.close()
        if holds and options.dir is None:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            screen.print(f"logs, store and lake are kept in {directory}")
    return 0 if holds else 1


class Story:
    def __init__(self, river: River, screen: Screen, *, devices: int, seconds: float) -> None:
        self._river = river
        self._screen = screen
        self._seconds = seconds
        self._fleet = Fleet(
            devices, port=river.mqtt_port, clock=SystemClock(), rng=random.Random(devices)
        )
        self._devices = devices
        self._replicated = 0
        self._edge_log = 0
        self._in_lake = 0
        self._drained = asyncio.Event()

    async def tell(self, *, stay: bool) -> bool:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        loop.set_exception_handler(_ignore_broken_connections)
        assert task is not None, "a coroutine runs in a task"
        for ending in (signal.SIGTERM, signal.SIGHUP):
            # else what we started would outlive a closed terminal
            loop.add_signal_handler(ending, task.cancel)
        self._screen.say(f"starting an edge and a cloud in {self._river.directory}")
        await asyncio.to_thread(self._river.start)
        self._screen.say(
            f"both ready; publishing this machine's own readings and those of {self._devices} simulated gauges"
        )
        watching = asyncio.create_task(self._watch())
        try:
            await self._publish()
            self._screen.say("publishers stopped; letting everything arrive in the lake")
            await self._drain()
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        proof = await self._prove()
        self._show(proof)
        if stay:
            await self._stay()
        return proof.holds

    async def _publish(self) -> None:
        stop = asyncio.Event()
        began = time.monotonic()

        async def moment(share: float) -> None:
            await asyncio.sleep(began + share * self._seconds - time.monotonic())

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._fleet.run(stop))
            await moment(EDGE_DIES)
            await self._kill(self._river.edge)
            await self._restart(self._river.edge)
            await moment(CLOUD_DIES)
            await self._kill(self._river.cloud)
            self._screen.say("the edge goes on alone: the log holds what the link cannot take")
            await moment(CLOUD_BACK)
            await self._restart(self._river.cloud)
            await moment(1.0)
            stop.set()

    async def _kill(self, daemon: Daemon) -> None:
        pid = daemon.pid
        await asyncio.to_thread(daemon.kill)
        self._screen.say(f"killed the {daemon.name}: SIGKILL to process {pid}")

    async def _restart(self, daemon: Daemon) -> None:
        daemon.start()
        took = await asyncio.to_thread(daemon.wait_ready)
        self._screen.say(f"the {daemon.name} is back as process {daemon.pid} after {took:.1f} s")

    async def _watch(self) -> None:
        lake = LakeCount(self._river.lake, STREAMS)
        while True:
            acked, logged = replicated(await asyncio.to_thread(self._river.edge.metrics))
            # an edge that is down, or has not spoken with its cloud yet, answers with less than is true
            self._replicated = max(self._replicated, acked)
            self._edge_log = max(self._edge_log, logged)
            self._in_lake = await lake.look()
            account = self._fleet.account
            if self._in_lake >= max(len(account.acknowledged), self._edge_log):
                self._drained.set()
            self._screen.show(
                Progress(
                    len(account.sent), len(account.acknowledged), self._replicated, self._in_lake
                )
            )
            await asyncio.sleep(SCREEN_SECONDS)

    async def _drain(self) -> None:
        self._drained.clear()
        try:
            async with asyncio.timeout(DRAIN_SECONDS_MAX):
                await self._drained.wait()
        except TimeoutError:
            self._screen.say(f"not everything arrived within {DRAIN_SECONDS_MAX:g} s")

    async def _prove(self) -> Proof:
        _, edge_log = replicated(await asyncio.to_thread(self._river.edge.metrics))
        in_cloud = await cloud_log(f"{HOST}:{self._river.kafka_port}")
        return await asyncio.to_thread(
            prove, self._river, self._fleet.account, edge_log=edge_log, cloud_log=in_cloud
        )

    def _show(self, proof: Proof) -> None:
        self._screen.print()
        for line in proof.lines():
            self._screen.print(f"  {line}")
        verdict = "PROVEN" if proof.holds else "NOT PROVEN"
        self._screen.print()
        self._screen.say(f"{verdict}: acknowledged, logged and in the lake, each exactly once")

    async def _stay(self) -> None:
        """Go on publishing until somebody presses Ctrl-C."""
        river, lake = self._river, self._river.lake
        self._screen.print(
            f"""
still running and publishing; Ctrl-C ends it. Try in another terminal:

  mosquitto_pub -h {HOST} -p {river.mqtt_port} -q 1 -t site/mine/001 -m '{{"level_m": 1.2}}'
  mosquitto_sub -h {HOST} -p {river.mqtt_port} -t 'site/#' -v
  kcat -b {HOST}:{river.kafka_port} -C -t telemetry -o -5 -c 5
  headwater query 'select device, level_m, arrival from telemetry order by arrival desc limit 5' --lake {lake}
  headwater verify --lake {lake}
  curl http://{HOST}:{river.edge_http}/metrics     the edge
  curl http://{HOST}:{river.cloud_http}/metrics     the cloud
"""
        )
        # a signal cancels us: the story is over, and its end is what the proof said
        with contextlib.suppress(asyncio.CancelledError):
            await self._fleet.run(asyncio.Event())


def _ignore_broken_connections(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """aiomqtt leaves behind a future for each connection that broke, and asks the loop to watch a socket that was closed
    while its thread connected it; breaking connections is what we do here."""
    error = context.get("exception")
    is_closed = isinstance(error, OSError) and error.errno == errno.EBADF
    if isinstance(error, aiomqtt.MqttError) or (
        is_closed and "add_writer" in str(context.get("message"))
    ):
        return
    loop.default_exception_handler(context)
