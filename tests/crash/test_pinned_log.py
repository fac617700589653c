"""A long outage of a site with rare alarms, which may not be lost, beside telemetry that may: the log is overwritten twenty
times, nothing is refused, and when the link comes each alarm is in the cloud once.

Before there was compaction each alarm kept its whole segment, until the log was full of telemetry that could not go: of
these 60,000 publishes 1,441 were taken.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from headwater.core.gap import GAPS_PARTITION
from headwater.core.record import TopicPartition
from headwater.core.units import KIB, MIB
from headwater.demo.daemon import Daemon, free_port, headwater_command, total
from tests.bench import wire
from tests.crash.test_full_log import UNREACHABLE, FullEdge, stream
from tests.powercut import headwater_edge
from tests.powercut.view import View

confluent_kafka = pytest.importorskip("confluent_kafka")

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300)]

MESSAGES = 60_000
ALARM_EVERY = 100
PAYLOAD_BYTES = 1400
LOG_BYTES = 4 * MIB
SEGMENT_BYTES = 256 * KIB
WINDOW = 16
CLOUD_SECONDS = 60.0
TELEMETRY = ("thin", "drop")


def payload(number: int) -> bytes:
    reading = {"n": number, "t": number % 100 / 4, "pad": "x" * (PAYLOAD_BYTES - 40)}
    return json.dumps(reading).encode()


def topic(number: int) -> str:
    if number % ALARM_EVERY == 0:
        return "alarms/0"
    return f"{TELEMETRY[number % 2]}/0"


async def publish(port: int, count: int) -> tuple[set[int], int]:
    """The numbers that were acknowledged, and how many were not: a refusal closes the connection, and the next is tried."""
    acknowledged: set[int] = set()
    number = 0
    while number < count:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(wire.connect("site"))
        packets = wire.PacketReader()
        flying: dict[int, int] = {}
        while data := await _some(reader):
            for packet in packets.feed(data):
                if packet.kind == wire.PUBACK:
                    acknowledged.add(flying.pop(packet.packet_id))
            while len(flying) < WINDOW and number < count:
                flying[number % 60_000 + 1] = number
                writer.write(wire.publish(topic(number), payload(number), number % 60_000 + 1))
                number += 1
            if not flying:
                break
        writer.close()
    return acknowledged, count - len(acknowledged)


async def _some(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65536)
    except ConnectionError:
        return b""


class Site(FullEdge):
    def __init__(self, folder: Path, bootstrap: str = UNREACHABLE) -> None:
        super().__init__(
            folder,
            {
                "alarms": stream("alarms", "refuse", priority=9),
                "thin": stream("thin", "thin-oldest"),
                "drop": stream("drop", "drop-oldest", priority=1),
            },
        )
        config = folder / "edge.toml"
        text = config.read_text(encoding="utf-8").replace(UNREACHABLE, bootstrap)
        text = text.replace('"64KiB"', f'"{SEGMENT_BYTES // KIB}KiB"')
        text = text.replace('bytes_max = "1024KiB"', f'bytes_max = "{LOG_BYTES // KIB}KiB"')
        config.write_text(text, encoding="utf-8")

    @property
    def used_bytes(self) -> float:
        return total(self.daemon.metrics(), "headwater_journal_used_bytes")


def numbers(view: View, name: str) -> list[int]:
    values = (value for tp, found in view.records.items() if tp.topic == name for _, value in found)
    return sorted(json.loads(value)["n"] for value in values)


def told(view: View) -> dict[TopicPartition, set[int]]:
    """The offsets that gap records name."""
    found: dict[TopicPartition, set[int]] = {}
    for gap in view.gaps:
        where = TopicPartition(gap.stream, gap.partition)
        found.setdefault(where, set()).update(range(gap.first, gap.last + 1))
    return found


def consumed(bootstrap: str, name: str, wanted: int) -> list[int]:
    """What the cloud has of it, until a while after so many were there: one too many would show."""
    settings = {"bootstrap.servers": bootstrap, "group.id": "g", "auto.offset.reset": "earliest"}
    consumer = confluent_kafka.Consumer({**settings, "topic.metadata.refresh.interval.ms": 500})
    consumer.subscribe([name])
    found: list[int] = []
    deadline = time.monotonic() + CLOUD_SECONDS
    while time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            found.append(json.loads(message.value())["n"])
        if message is None and len(found) >= wanted:
            break
    consumer.close()
    return found


def cloud(folder: Path, port: int) -> Daemon:
    http = free_port()
    where = ["--store", str(folder / "store"), "--lake", str(folder / "lake")]
    address = f"127.0.0.1:{port}"
    listening = ["--kafka", address, "--advertise", address, "--http", f"127.0.0.1:{http}"]
    command = headwater_command("cloud", *where, *listening)
    return Daemon("cloud", command, log=folder / "cloud.log", http_port=http)


def test_alarms_that_may_not_go_leave_room_for_telemetry_that_may(tmp_path: Path) -> None:
    port = free_port()
    site, upstream = Site(tmp_path, f"kafka://127.0.0.1:{port}"), cloud(tmp_path, port)
    try:
        site.daemon.start()
        site.daemon.wait_ready()
        acknowledged, refused = asyncio.run(publish(site.port, MESSAGES))
        print(f"{len(acknowledged)} of {MESSAGES} stored, {refused} refused")
        assert not refused, site.daemon.log_tail()
        samples = site.daemon.metrics()
        compacted = total(samples, "headwater_journal_segments_compacted_total")
        written = total(samples, "headwater_journal_compacted_bytes_total")
        print(f"{compacted:.0f} segments compacted into {written:.0f} bytes")
        assert compacted > 50
        assert written < MESSAGES * PAYLOAD_BYTES, "each byte once more at most"
        everything = total(samples, "headwater_journal_bytes_written_total")
        assert everything < 2.2 * MESSAGES * PAYLOAD_BYTES, "and no file is filled with zeros again"
        site.daemon.stop()
        view = site.view()
        alarms = [n for n in range(MESSAGES) if n % ALARM_EVERY == 0]
        assert numbers(view, "alarms") == alarms
        lost = told(view)
        for partition, (start, end) in view.bounds.items():
            if partition != GAPS_PARTITION:
                assert lost.get(partition, set()) == set(range(start)), f"{partition}: not exact"
                offsets = [offset for offset, _ in view.records[partition]]
                assert offsets == list(range(start, end)), f"{partition}: not whole"
        assert not headwater_edge.damage(tmp_path)
        upstream.start()
        upstream.wait_ready()
        site.daemon.start()
        assert consumed(f"127.0.0.1:{port}", "alarms", len(alarms)) == alarms
    finally:
        site.daemon.close()
        upstream.close()
