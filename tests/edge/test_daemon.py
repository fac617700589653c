"""The whole edge in this process and as a process: real journal, real sockets, real signals."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import aiomqtt
import pytest
import uvloop

from headwater.core.batch import decode_batch
from headwater.core.disk import File, SystemDisk
from headwater.core.errors import HeadwaterError, Refused, Unavailable
from headwater.core.gap import GAPS_PARTITION, Gap, GapReason
from headwater.core.journal.files.shelf import Loss
from headwater.core.record import TopicPartition
from headwater.edge.daemon import Edge, open_edge, run_edge
from headwater.edge.settings import EdgeSettings

TIMEOUT_S = 30
DEFAULT = TopicPartition("default", 0)


def settings(folder: Path, **more: object) -> EdgeSettings:
    values: dict[str, object] = {
        "name": "e1",
        "data_dir": str(folder),
        "mqtt": "127.0.0.1:0",
        "http": "127.0.0.1:0",
    }
    return EdgeSettings(**(values | more))  # type: ignore[arg-type]


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(TIMEOUT_S):
            await scenario()

    uvloop.run(main())


def client_of(edge: Edge, identifier: str | None = None) -> aiomqtt.Client:
    host, port = edge.mqtt
    return aiomqtt.Client(host, port, identifier=identifier, protocol=aiomqtt.ProtocolVersion.V5)


async def until(condition: Callable[[], bool]) -> None:
    """The broker looks at the disk once a tick; nobody is told when."""
    for _ in range(TIMEOUT_S * 20):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it never came true")


async def values_of(edge: Edge, partition: TopicPartition = DEFAULT) -> list[bytes | None]:
    batches = await edge.journal.read(partition, 0, bytes_max=1 << 20)
    return [record.value for batch in batches for record in decode_batch(batch)[1]]


def get(edge: Edge, path: str) -> tuple[int, str]:
    assert edge.http is not None
    try:
        with urllib.request.urlopen(f"http://{edge.http[0]}:{edge.http[1]}{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_edge(settings(tmp_path)) as edge:
            log = edge.journal.log_id
            async with client_of(edge) as client:
                for value in range(5):
                    await client.publish("a/b", b"%d" % value, qos=value % 2 + 1)
            assert await values_of(edge) == [b"0", b"1", b"2", b"3", b"4"]
        async with open_edge(settings(tmp_path)) as edge:
            assert edge.journal.log_id == log
            assert await values_of(edge) == [b"0", b"1", b"2", b"3", b"4"]

    run(scenario)


class GatedDisk(SystemDisk):
    """Syncs wait while the gate is closed: the moment between written and durable, held open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()

    def create(self, path: str) -> File:
        return cast("File", GatedFile(super().create(path), self))

    def open(self, path: str, *, read_only: bool = False) -> File:
        return cast("File", GatedFile(super().open(path, read_only=read_only), self))


class GatedFile:
    def __init__(self, file: File, disk: GatedDisk) -> None:
        self._file = file
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def sync(self) -> None:
        if not self._disk.gate.is_set():
            self._disk.waiting.set()
            assert self._disk.gate.wait(TIMEOUT_S)
        self._file.sync()


@pytest.mark.parametrize("qos", [1, 2])
def test_no_acknowledgement_and_no_delivery_while_the_sync_has_not_returned(
    tmp_path: Path, qos: int
) -> None:
    async def scenario() -> None:
        disk = GatedDisk()
        async with (
            open_edge(settings(tmp_path), disk=disk) as edge,
            client_of(edge, "s") as subscriber,
            client_of(edge, "p") as publisher,
        ):
            await subscriber.subscribe("a", qos=0)
            disk.gate.clear()
            publishing = asyncio.create_task(publisher.publish("a", b"x", qos=qos))
            assert await asyncio.to_thread(disk.waiting.wait, TIMEOUT_S)
            # the broker is alive and has answered everything else it was asked
            await subscriber.unsubscribe("nothing")
            assert not publishing.done()
            assert edge.broker.tally.acknowledged == 0
            assert edge.broker.tally.delivered == [0, 0, 0]
            disk.gate.set()
            await publishing
            message = await anext(aiter(subscriber.messages))
            assert message.payload == b"x"

    run(scenario)


def test_stopping_acknowledges_what_was_taken_and_commits_the_wills(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = GatedDisk()
        async with open_edge(settings(tmp_path), disk=disk) as edge:
            will = aiomqtt.Will("gone", b"bye", qos=1)
            host, port = edge.mqtt
            client = aiomqtt.Client(host, port, will=will, identifier="c")
            await client.__aenter__()
            disk.gate.clear()
            publishing = asyncio.create_task(client.publish("a", b"x", qos=1))
            assert await asyncio.to_thread(disk.waiting.wait, TIMEOUT_S)
            # the commit at the gate may be one of the edge's own records
            await until(lambda: edge.broker.tally.published[1] == 1)
            asyncio.get_running_loop().call_later(0.2, disk.gate.set)
        await publishing  # acknowledged on the way out
        with contextlib.suppress(aiomqtt.MqttError):
            await client.__aexit__(None, None, None)
        async with open_edge(settings(tmp_path)) as edge:
            assert await values_of(edge) == [b"x", b"bye"]

    run(scenario)


class RefusingDisk(SystemDisk):
    """Refuses to write while `reason` is set."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def create(self, path: str) -> File:
        if self.reason is not None:
            raise Unavailable(self.reason)
        return cast("File", RefusingFile(super().create(path), self))

    def open(self, path: str, *, read_only: bool = False) -> File:
        return cast("File", RefusingFile(super().open(path, read_only=read_only), self))


class RefusingFile:
    def __init__(self, file: File, disk: RefusingDisk) -> None:
        self._file = file
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, position: int, data: bytes) -> None:
        if self._disk.reason is not None:
            raise Unavailable(self._disk.reason)
        self._file.write(position, data)


def test_a_disk_that_refuses_makes_it_unready_with_the_reason_and_recovers(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = RefusingDisk()
        async with open_edge(settings(tmp_path), disk=disk) as edge:
            assert await asyncio.to_thread(get, edge, "/readyz") == (200, "ready\n")
            async with client_of(edge) as client:
                disk.reason = "read-only file system"
                publishing = asyncio.create_task(client.publish("a", b"x", qos=1))
                await until(lambda: edge.broker.paused is not None)
                status, text = await asyncio.to_thread(get, edge, "/readyz")
                assert status == 503
                assert "read-only file system" in text
                assert not publishing.done()
                disk.reason = None
                await publishing
                await until(lambda: not edge.readiness())

    run(scenario)


def test_metrics_tell_of_broker_and_journal(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_edge(settings(tmp_path)) as edge, client_of(edge) as client:
            await client.publish("a", b"x", qos=1)
            _, text = await asyncio.to_thread(get, edge, "/metrics")
        lines = text.splitlines()
        assert 'headwater_mqtt_published_total{qos="1"} 1.0' in lines
        assert "headwater_mqtt_acknowledged_total 1.0" in lines
        assert "headwater_mqtt_clients 1.0" in lines
        assert "headwater_clock_anchors_total 1.0" in lines
        assert "headwater_journal_records_total 2.0" in lines, "an anchor of the clock came first"
        assert 'headwater_journal_end_offset_total{partition="0",stream="default"} 1.0' in lines
        assert any(line.startswith("process_resident_memory_bytes ") for line in lines)
        assert any(line.startswith("process_open_fds ") for line in lines)

    run(scenario)


def test_a_declared_loss_is_a_record_of_the_stream_of_gaps(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_edge(settings(tmp_path)) as edge:
            await edge.gaps.refused(DEFAULT, 3, 5, "too large")
            edge.gaps.declare([Loss(DEFAULT, 7, 7, "bad block")], GapReason.DAMAGE)
            await edge.committer.wait_durable(edge.journal.open_commit)
            one, two = [Gap.decode(value or b"") for value in await values_of(edge, GAPS_PARTITION)]
            assert (one.edge, one.log, one.stream) == ("e1", edge.journal.log_id, "default")
            assert (one.first, one.last, one.reason) == (3, 5, GapReason.REFUSED)
            assert (two.first, two.last, two.reason) == (7, 7, GapReason.DAMAGE)

    run(scenario)


def test_a_second_edge_on_the_same_directory_is_told_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_edge(settings(tmp_path)):
            with pytest.raises(HeadwaterError, match="log"):
                async with open_edge(settings(tmp_path)):
                    pass
        async with open_edge(settings(tmp_path)):
            pass  # and the first one leaves nothing locked

    run(scenario)


def test_a_port_in_use_leaves_the_directory_free(tmp_path: Path) -> None:
    async def scenario() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            for key in ("mqtt", "http"):
                with pytest.raises((Unavailable, Refused), match=str(port)):
                    async with open_edge(settings(tmp_path, **{key: f"127.0.0.1:{port}"})):
                        pass
        async with open_edge(settings(tmp_path)):
            pass

    run(scenario)


def test_the_service_manager_hears_ready_alive_and_stopping(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")

    async def scenario() -> None:
        heard: list[str] = []
        stop = asyncio.Event()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(address)
            manager.setblocking(False)

            async def listen() -> None:
                loop = asyncio.get_running_loop()
                while not any("WATCHDOG" in text for text in heard):
                    heard.append((await loop.sock_recv(manager, 4096)).decode())
                stop.set()

            listening = asyncio.create_task(listen())
            await run_edge(
                settings(tmp_path / "data", http="none"),
                environ={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "300000"},
                stop=stop,
            )
            await listening
            heard.append(manager.recv(4096).decode())
        assert heard[0].startswith("READY=1\nSTATUS=MQTT on 127.0.0.1:")
        assert heard[-1] in {"STOPPING=1", "WATCHDOG=1"}

    run(scenario)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_ends_with_0_when_asked_and_keeps_what_it_acknowledged(
    tmp_path: Path, number: signal.Signals
) -> None:
    with subprocess.Popen(
        [
            sys.executable, "-m", "headwater", "edge", "--name", "e1",
            "--data-dir", str(tmp_path), "--mqtt", "127.0.0.1:0", "--http", "none",
        ],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        ready = process.stderr.readline()
        assert "edge ready" in ready, ready
        port = int(ready.split('"mqtt": "127.0.0.1:')[1].split('"')[0])

        async def publish() -> None:
            async with aiomqtt.Client("127.0.0.1", port) as client:
                await client.publish("a", b"x", qos=1)

        run(publish)
        process.send_signal(number)
        assert process.wait(TIMEOUT_S) == 0, process.stderr.read()

    async def scenario() -> None:
        async with open_edge(settings(tmp_path)) as edge:
            assert await values_of(edge) == [b"x"]

    run(scenario)
