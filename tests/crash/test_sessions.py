"""SIGKILL between a publish and its PUBACK, and a client that repeats: sessions, retained messages, DUP in a real process.

The client is a dozen lines of bytes, so that it repeats exactly when the story says so.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater.core.batch import decode_batch
from headwater.core.clock import SystemClock
from headwater.core.disk import SystemDisk
from headwater.core.journal.files import FileJournal, FileJournalSettings
from headwater.demo.daemon import free_port, headwater_command

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]


class Edge:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._log = directory / "edge.log"
        self._command = headwater_command(
            *("edge", "--data-dir", str(directory / "data")),
            *("--mqtt", f"127.0.0.1:{self.port}", "--http", "none"),
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.connections: list[socket.socket] = []

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            assert time.monotonic() < deadline, self._log.read_text()
            assert self._process.poll() is None, self._log.read_text()
            time.sleep(0.02)

    def end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(20)
            self._process = None

    def restart(self, number: int = signal.SIGKILL) -> None:
        self.end(number)
        self.start()

    @property
    def log(self) -> str:
        return self._log.read_text()


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    edge = Edge(tmp_path)
    edge.start()
    yield edge
    for connection in edge.connections:
        connection.close()
    edge.end(signal.SIGKILL)


class Client:
    """MQTT 3.1.1, clean session 0."""

    def __init__(self, edge: Edge, name: str, *, clean: bool = False) -> None:
        self._socket = socket.create_connection(("127.0.0.1", edge.port), timeout=10)
        edge.connections.append(self._socket)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        flags = 2 if clean else 0
        body = (
            b"\0\4MQTT\4" + bytes((flags,)) + b"\0\0" + len(name).to_bytes(2, "big") + name.encode()
        )
        self.send(0x10, body)
        first, connack = self.packet()
        assert (first, connack[1]) == (0x20, 0)
        self.present = connack[0] == 1

    def send(self, first: int, body: bytes) -> None:
        assert len(body) < 128
        self._socket.sendall(bytes((first, len(body))) + body)

    def packet(self) -> tuple[int, bytes]:
        head = self._read(2)
        return head[0], self._read(head[1])

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            assert more, "closed by the edge"
            data += more
        return data

    def publish(
        self,
        topic: bytes,
        payload: bytes,
        packet_id: int,
        *,
        qos: int = 1,
        dup: bool = False,
        retain: bool = False,
    ) -> None:
        body = len(topic).to_bytes(2, "big") + topic + packet_id.to_bytes(2, "big") + payload
        self.send(0x30 | dup << 3 | qos << 1 | retain, body)

    def subscribe(self, topic: bytes, qos: int = 1) -> None:
        self.send(0x82, b"\0\7" + len(topic).to_bytes(2, "big") + topic + bytes((qos,)))
        assert self.packet() == (0x90, bytes((0, 7, qos)))

    def acknowledged(self, packet_id: int) -> None:
        assert self.packet() == (0x40, packet_id.to_bytes(2, "big"))

    def deliveries(self, count: int) -> list[bytes]:
        """Payloads at QoS 1, each acknowledged."""
        found: list[bytes] = []
        while len(found) < count:
            first, body = self.packet()
            assert first & 0xF0 == 0x30
            after = 2 + int.from_bytes(body[:2], "big")
            if first & 6:
                self.send(0x40, body[after : after + 2])
                after += 2
            found.append(body[after:])
        return found

    def cut(self) -> None:
        """No DISCONNECT."""
        self._socket.close()


def test_a_publish_whose_puback_a_kill_swallowed_is_stored_once(edge: Edge) -> None:
    reader = Client(edge, "reader")
    reader.subscribe(b"t")
    rng = random.Random(int(os.environ.get("HEADWATER_SEED", "7")))
    sent = [b"%d" % number for number in range(60)]
    publisher = Client(edge, "device")
    for number, payload in enumerate(sent):
        packet_id = number % 3 + 1
        publisher.publish(b"t", payload, packet_id)
        if number % 6:
            publisher.acknowledged(packet_id)
            continue
        # the kill finds it somewhere between arrival and PUBACK, which is never read
        time.sleep(rng.random() * 0.01)
        edge.end(signal.SIGKILL)
        publisher.cut()
        reader.cut()
        edge.start()
        publisher = Client(edge, "device")
        assert publisher.present
        publisher.publish(b"t", payload, packet_id, dup=True)
        publisher.acknowledged(packet_id)
    reader = Client(edge, "reader")
    assert reader.present
    log = stored_payloads(edge)
    assert sorted(log, key=int) == sent


def stored_payloads(edge: Edge) -> list[bytes]:
    """Every payload of topic `t`, from the log itself."""
    edge.end(signal.SIGTERM)
    directory = edge.directory / "data" / "log"
    journal = FileJournal.open(
        str(directory),
        disk=SystemDisk(),
        clock=SystemClock(),
        settings=FileJournalSettings(),
        rng=random.Random(1),
    )
    found: list[bytes] = []
    for partition in journal.partitions():
        offset, end = journal.bounds(partition)
        while offset < end and (batches := journal.read_sync(partition, offset, bytes_max=1 << 20)):
            for batch in batches:
                header, records = decode_batch(batch)
                found += [record.value or b"" for record in records if record.key == b"t"]
                offset = header.next_offset
    journal.close()
    return found


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_session_goes_on_with_its_subscriptions_and_retained_messages_stay(
    edge: Edge, end: signal.Signals
) -> None:
    reader = Client(edge, "reader")
    assert not reader.present
    reader.subscribe(b"live/#")
    publisher = Client(edge, "device", clean=True)
    publisher.publish(b"state", b"on", 1, retain=True)
    publisher.acknowledged(1)
    edge.restart(end)
    publisher = Client(edge, "device", clean=True)
    publisher.publish(b"live/a", b"while away", 1)
    publisher.acknowledged(1)
    edge.restart(end)
    back = Client(edge, "reader")
    assert back.present
    assert back.deliveries(1) == [b"while away"]
    publisher = Client(edge, "device", clean=True)
    publisher.publish(b"live/b", b"now", 2)
    publisher.acknowledged(2)
    assert back.deliveries(1) == [b"now"]
    fresh = Client(edge, "fresh", clean=True)
    fresh.subscribe(b"state")
    assert fresh.deliveries(1) == [b"on"]


def test_exactly_once_at_qos_2_across_a_kill_at_each_step(edge: Edge) -> None:
    device = Client(edge, "device")
    device.publish(b"t", b"1", 5, qos=2)
    assert device.packet() == (0x50, b"\0\5")
    edge.restart()
    device = Client(edge, "device")
    device.publish(b"t", b"1", 5, qos=2, dup=True)
    assert device.packet() == (0x50, b"\0\5")
    device.send(0x62, b"\0\5")
    assert device.packet() == (0x70, b"\0\5")
    edge.restart()
    device = Client(edge, "device")
    device.publish(b"t", b"2", 5, qos=2)  # the identifier is free
    assert device.packet() == (0x50, b"\0\5")
    assert stored_payloads(edge) == [b"1", b"2"]


def test_a_new_reading_under_the_identifier_of_an_arrived_puback_is_stored(edge: Edge) -> None:
    """TCP's own word that the PUBACK arrived, at the end of a connection and across a kill: of a sensor that stutters."""
    device = Client(edge, "device")
    for _ in range(2):
        device.publish(b"t", b"21.5", 1)
        device.acknowledged(1)
    time.sleep(0.05)  # for TCP's delayed acknowledgement
    device.cut()
    device = Client(edge, "device")
    assert device.present
    device.publish(
        b"t", b"21.5", 1, dup=True
    )  # sent before, lost on the way: as far as the edge can see
    device.acknowledged(1)
    time.sleep(4)  # two quiet seconds, and ticks: the evidence is on disk
    edge.restart()
    device = Client(edge, "device")
    device.publish(b"t", b"21.5", 1, dup=True)
    device.acknowledged(1)
    assert stored_payloads(edge) == [b"21.5"] * 4


def test_a_puback_that_a_proxy_swallowed_or_nobody_read_is_a_lost_one(edge: Edge) -> None:
    """The client's kernel acknowledged the bytes, the client never saw them: at a cut, and before a kill."""
    device = Client(edge, "device")
    device.publish(b"t", b"a", 1)
    time.sleep(1)  # the PUBACK lies unread
    device.cut()
    device = Client(edge, "device")
    device.publish(b"t", b"a", 1, dup=True)
    device.acknowledged(1)
    for number in range(2, 30):
        device.publish(b"t", b"%d" % number, number)
    time.sleep(3)
    edge.restart()
    device = Client(edge, "device")
    for number in range(2, 30):
        device.publish(b"t", b"%d" % number, number, dup=True)
    for number in range(2, 30):
        device.acknowledged(number)
    assert stored_payloads(edge) == [b"a", *(b"%d" % number for number in range(2, 30))]
