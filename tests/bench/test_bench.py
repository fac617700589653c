"""The measuring tool itself: its wire format, its counting against a real broker, and the document it writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.requirements import program

from . import fanin, report, wire
from .contenders import HEADWATER, MOSQUITTO, start_mosquitto
from .fanin import Round, Rounds
from .machine import look
from .process import snapshot
from .tiers import Drain, Memory, Sinking

SCENARIO = fanin.SCENARIOS[0].name


def rounds(rate: float, cpu_us: float) -> Round:
    return Round(rate, cpu_us, p50_ms=1, p99_ms=2, written_per_payload_byte=4, rss_bytes=1)


def run(found: Rounds | None, memory: Memory | None = None) -> report.Run:
    return report.Run(
        date="2026-01-01",
        commit="abc",
        command="python -m tests.bench",
        machine=look(Path.cwd()),
        mosquitto="2.0",
        nats="2.15",
        rounds=2,
        seconds=1,
        fan_in=found,
        memory=memory,
        drain=Drain(1000, 2.0, 3.0, 4.0, 64 << 20),
        sinking=Sinking(1000, 2.0, 0.5),
    )


@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_packets_are_cut_from_any_pieces(step: int) -> None:
    packets = [wire.connect("c"), wire.publish("t", b"x" * 300, 7), wire.pubrel(0xABCD)]
    stream = b"".join(packets)
    reader = wire.PacketReader()
    pieces = [stream[i : i + step] for i in range(0, len(stream), step)]
    found = [packet for piece in pieces for packet in reader.feed(piece)]
    assert [packet.kind for packet in found] == [wire.CONNECT, wire.PUBLISH, wire.PUBREL]
    assert found[1].body.endswith(b"x" * 300)
    assert found[2].packet_id == 0xABCD


@pytest.mark.interop
@pytest.mark.parametrize("qos", [0, 1])
def test_the_load_counts_what_a_real_broker_answered(tmp_path: Path, qos: int) -> None:
    program("mosquitto")
    running = start_mosquitto(tmp_path, persistence=False)
    try:
        before = snapshot(running.daemon.pid)
        heard = fanin.load(
            running,
            *("--qos", str(qos), "--connections", "5", "--window", "3", "--messages", "600"),
            *("--warm-up", "0", "--seconds", "20"),
        )
        after = snapshot(running.daemon.pid)
    finally:
        running.daemon.close()
    assert 600 <= heard["acknowledged"] <= heard["ever_acknowledged"]
    assert heard["seconds"] < 20, "it stops at the number asked for"
    assert heard["latency_p50_ms"] <= heard["latency_p99_ms"]
    assert 0 <= heard["broker_cpu_seconds"] <= after.cpu_seconds - before.cpu_seconds


def test_the_ratio_is_taken_within_each_round() -> None:
    found = {
        SCENARIO: {
            HEADWATER.name: [rounds(100, 2), rounds(10, 20), rounds(100, 3)],
            MOSQUITTO.name: [rounds(100, 4), rounds(10, 40), rounds(100, 4)],
        }
    }
    assert fanin.ratio(found, SCENARIO, "cpu_us") == (0.5, 0.5, 0.75)
    assert fanin.ratio(found, SCENARIO, "rate") == (1.0, 1.0, 1.0)


def test_the_document_says_what_was_not_reached() -> None:
    found = {SCENARIO: {HEADWATER.name: [rounds(1, 12)], MOSQUITTO.name: [rounds(1, 10)]}}
    text = report.render(run(found, Memory(50 << 20, 45 << 20, 60 << 20, 55 << 20)))
    assert "| at most 1× | 1.20× | NOT reached |" in text
    assert "| edge idle, resident | at most 40 MiB | 50.00 MiB | NOT reached |" in text
    assert "| uplink drain | 500 |" in text
    assert "| sink | 2,000 | 500 |" in text


def test_the_document_names_no_place_of_the_machine() -> None:
    text = report.render(run(None))
    assert str(Path.cwd()) not in text
    assert str(Path.home()) not in text
