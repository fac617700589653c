"""A broker that clients of other projects talk to: in a thread of its own, or as the real process.

Both can be stopped as a crash stops them and started again over the same store, at the same address.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from headwater.cloud.store import open_store
from tests.cloud.broker.running import open_broker


def free_port() -> int:
    """A port that was free a moment ago: a node that is started again must come back at its address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class BrokerThread:
    """The broker object on a loop of its own, over a directory."""

    def __init__(self, store: Path, port: int) -> None:
        self._store = store
        self.port = port
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._kill = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()
        assert self._ready.wait(30)
        assert self._failure is None, self._failure

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def drop(self) -> None:
        """As SIGKILL would: no answer leaves any more, nothing more reaches the store."""
        self._kill = True
        self.close()

    def close(self) -> None:
        if self._thread.is_alive():
            assert self._loop is not None
            assert self._stop is not None
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(30)
            assert not self._thread.is_alive()

    def _main(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                runner.run(self._serve())
            except BaseException as error:
                self._failure = error
                self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        store = await open_store(str(self._store), rng=random.Random())
        broker = await open_broker(store, port=self.port)
        self._ready.set()
        await self._stop.wait()
        if self._kill:
            broker.kill()
        else:
            await broker.close()
        await store.close()


@contextmanager
def broker_thread(directory: Path) -> Iterator[BrokerThread]:
    broker = BrokerThread(directory / "store", free_port())
    try:
        yield broker
    finally:
        broker.close()


class NodeProcess:
    """`headwater cloud` itself."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [
            sys.executable, "-m", "headwater", "cloud", "--node", "n", "--no-sink",
            "--store", str(self._directory / "store"), "--kafka", self.address,
            "--http", "127.0.0.1:0",
        ]  # fmt: skip
        settings = {"HEADWATER_CLOUD__GROUPS__REBALANCE_DELAY": "100ms"}
        log = (self._directory / "node.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                command, env=os.environ | settings, stdout=log, stderr=log
            )
        self._wait()

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self) -> int:
        """The exit status after SIGTERM."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        assert self.process is not None
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (self._directory / "node.log").read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError("the node does not listen")


@contextmanager
def node_process(directory: Path) -> Iterator[NodeProcess]:
    node = NodeProcess(directory)
    try:
        node.start()
        yield node
    finally:
        if node.process is not None and node.process.poll() is None:
            node.kill()
