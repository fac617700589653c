"""The daemon's edges: what it says when it cannot start, and the child beside it."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys
from pathlib import Path

import msgspec
import pytest

from headwater.cloud.daemon import Daemon, broker_options
from headwater.cloud.settings import CloudSettings
from headwater.cloud.supervisor import Supervisor
from headwater.core.clock import SystemClock
from headwater.core.errors import Refused
from headwater.core.journal.objects import ObjectJournalSettings
from headwater.core.units import ByteSize

from .running import until


def settings(directory: Path, **changed: object) -> CloudSettings:
    base = CloudSettings(
        node="n",
        store=str(directory / "store"),
        kafka="127.0.0.1:0",
        http="127.0.0.1:0",
        sink=False,
    )
    return msgspec.structs.replace(base, **changed)


def test_asked_to_stop_it_drains_and_ends_with_zero(tmp_path: Path) -> None:
    async def body() -> None:
        stop = asyncio.Event()
        daemon = Daemon(settings(tmp_path))
        running = asyncio.ensure_future(daemon.run(stop))
        await until(lambda: not daemon._readiness())
        stop.set()
        assert await running == 0

    asyncio.run(body())


def test_the_service_manager_hears_of_readiness_life_and_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "300000")

        async def body() -> None:
            stop = asyncio.Event()
            running = asyncio.ensure_future(Daemon(settings(tmp_path)).run(stop))
            heard.extend([await asyncio.to_thread(manager.recv, 1000) for _ in range(3)])
            stop.set()
            assert await running == 0

        asyncio.run(body())
        manager.settimeout(0)
        while not heard[-1].startswith(b"STOPPING"):
            heard.append(manager.recv(1000))
    assert heard[0].startswith(b"READY=1")
    assert heard[1:3] == [b"WATCHDOG=1"] * 2


def test_the_sink_beside_a_node_reads_the_same_file_and_leaves_the_service_manager_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text('[sink]\ninterval = "1s"\n')
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

    async def body() -> list[str]:
        stop = asyncio.Event()
        daemon = Daemon(settings(tmp_path, sink=True), config_file=file)
        running = asyncio.ensure_future(daemon.run(stop))
        await until(lambda: daemon._supervisor is not None and daemon._supervisor.pid is not None)
        assert daemon._supervisor is not None
        pid = daemon._supervisor.pid
        environ = Path(f"/proc/{pid}/environ").read_text().split("\0")
        command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        stop.set()
        assert await running == 0
        assert not [name for name in environ if name.startswith("NOTIFY_SOCKET")]
        return command

    command = asyncio.run(body())
    assert command[command.index("--config") + 1] == str(file)


def test_asked_to_stop_while_starting_it_ends_with_zero(tmp_path: Path) -> None:
    async def body() -> None:
        stop = asyncio.Event()
        stop.set()
        assert await Daemon(settings(tmp_path)).run(stop) == 0

    asyncio.run(body())


@pytest.mark.parametrize("key", ["kafka", "http"])
def test_a_port_in_use_is_said(tmp_path: Path, key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        daemon = Daemon(settings(tmp_path, **{key: address}))
        with pytest.raises(Refused, match=address):
            asyncio.run(daemon.run(asyncio.Event()))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"kafka": "nowhere"}, "cloud.kafka"),
        ({"advertise": "host"}, "cloud.advertise"),
        ({"shards": 0}, "cloud.shards"),
        ({"node": "no/slash"}, "node"),
        (
            {"journal": ObjectJournalSettings(pending_bytes_max=ByteSize(9 << 20))},
            "cloud.journal.pending_bytes_max",
        ),
    ],
)
def test_settings_that_cannot_work_are_named(
    tmp_path: Path, changed: dict[str, object], named: str
) -> None:
    with pytest.raises(Refused, match=named):
        broker_options(settings(tmp_path, **changed))


def test_what_is_advertised_is_what_clients_can_reach(tmp_path: Path) -> None:
    plain = broker_options(settings(tmp_path, kafka="127.0.0.1:9092"))
    assert (plain.advertise_host, plain.advertise_port) == ("127.0.0.1", 0)
    everywhere = broker_options(settings(tmp_path, kafka="0.0.0.0:9092"))
    assert everywhere.advertise_host == socket.gethostname()
    behind = broker_options(settings(tmp_path, kafka="0.0.0.0:9092", advertise="cloud.example:19"))
    assert (behind.advertise_host, behind.advertise_port) == ("cloud.example", 19)


def test_a_child_that_ends_is_started_again_and_stops_with_its_parent(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    program = (
        "import sys, time, pathlib\n"
        f"marks = pathlib.Path({str(marks)!r})\n"
        "with marks.open('a') as out: out.write('x')\n"
        "if len(marks.read_text()) < 3: sys.exit(1)\n"
        "time.sleep(600)\n"
    )

    async def body() -> None:
        restarts: list[int] = []
        supervisor = Supervisor(
            "child",
            [sys.executable, "-c", program],
            environ={},
            clock=SystemClock(),
            rng=random.Random(1),
            pause_max_s=0.01,
            restarted=lambda: restarts.append(1),
        )
        running = asyncio.ensure_future(supervisor.run())
        await until(lambda: marks.exists() and marks.read_text() == "xxx")
        pid = supervisor.pid
        assert pid is not None
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert restarts == [1, 1]
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    asyncio.run(body())
