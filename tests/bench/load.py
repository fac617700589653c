"""The load: a process of its own that publishes over raw sockets and counts what the broker answered.

Rule: it never measures what it did not hear back. QoS 1 counts PUBACKs, with `window` publishes in flight on each of
`connections` connections; QoS 0 has no answer, so `window` publishes go out before a PINGREQ and are counted when its
PINGRESP comes back, two such groups in flight: MQTT answers in order, so the broker has taken them all.

Packets are built before the clock starts; each connection publishes to a topic of its own. Prints one line of JSON.
MQTT 3.1.1 only, and only as much of it as the load needs. Trusts its broker: it is a load, not a client.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import time
from functools import partial
from typing import cast

import uvloop

from . import wire
from .process import snapshot

CONNECT_SECONDS_MAX = 30.0
DRAIN_SECONDS = 0.3
PUBACK_BYTES = 4
PINGRESP_BYTES = 2
ACCEPTED = b"\x20\x02\x00\x00"


class Tally:
    """What all connections heard back, and how long each answer took, while the clock ran."""

    def __init__(self) -> None:
        self.running = False
        self.enough = asyncio.Event()
        self.limit = 0
        self.ever = 0
        self.acknowledged = 0
        self.lost_connections = 0
        self.seconds: list[float] = []

    def heard(self, count: int, seconds: float) -> None:
        self.ever += count
        if self.running:
            self.acknowledged += count
            self.seconds.append(seconds)
            if self.acknowledged >= self.limit > 0:
                self.enough.set()


class Publisher(asyncio.Protocol):
    """One connection; the subclasses differ in what is in flight."""

    def __init__(self, tally: Tally, name: str) -> None:
        self._tally = tally
        self._name = name
        self._connected = False
        self._left = b""
        self.stopping = False
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, but not asyncio's class
        self._transport = cast("asyncio.WriteTransport", transport)
        self._transport.write(wire.connect(self._name))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.stopping:
            self._tally.lost_connections += 1
            self._tally.enough.set()

    def data_received(self, data: bytes) -> None:
        data = self._left + data
        if not self._connected:
            if len(data) < len(ACCEPTED):
                self._left = data
                return
            assert data[:4] == ACCEPTED, f"the broker said {data[:4]!r}"
            self._connected = True
            self.ready.set_result(None)
            data = data[4:]
        self._left = self._answers(data)

    def begin(self) -> None:
        """Send the first window."""
        raise AssertionError("abstract")

    def _answers(self, data: bytes) -> bytes:
        """Take the whole answers in `data`, publish as many again, and return what is left of it."""
        raise AssertionError("abstract")


class AtLeastOnce(Publisher):
    """QoS 1: a PUBACK frees its packet identifier, which is published again at once."""

    def __init__(self, tally: Tally, name: str, payloads: list[bytes]) -> None:
        super().__init__(tally, name)
        numbered = enumerate(payloads, 1)
        self._packets = [b"", *(wire.publish(f"bench/{name}", p, i) for i, p in numbered)]
        self._sent_at = [0.0] * len(self._packets)

    def begin(self) -> None:
        now = time.perf_counter()
        self._sent_at = [now] * len(self._sent_at)
        self._transport.write(b"".join(self._packets[1:]))

    def _answers(self, data: bytes) -> bytes:
        now = time.perf_counter()
        whole = len(data) - len(data) % PUBACK_BYTES
        again = []
        for position in range(0, whole, PUBACK_BYTES):
            assert data[position] == wire.PUBACK << 4, (
                f"expected PUBACK, got {data[position : position + 8]!r}"
            )
            packet_id = int.from_bytes(data[position + 2 : position + 4], "big")
            self._tally.heard(1, now - self._sent_at[packet_id])
            self._sent_at[packet_id] = now
            again.append(self._packets[packet_id])
        if again and not self.stopping:
            self._transport.write(b"".join(again))
        return data[whole:]


class AtMostOnce(Publisher):
    """QoS 0: groups of publishes, each closed by a PINGREQ, two groups in flight."""

    def __init__(self, tally: Tally, name: str, payloads: list[bytes]) -> None:
        super().__init__(tally, name)
        self._count = len(payloads)
        publishes = b"".join(wire.publish(f"bench/{name}", each, None) for each in payloads)
        self._group = publishes + wire.PINGREQ_PACKET
        self._sent_at: list[float] = []

    def begin(self) -> None:
        self._sent_at = [time.perf_counter()] * 2
        self._transport.write(self._group * 2)

    def _answers(self, data: bytes) -> bytes:
        now = time.perf_counter()
        whole = len(data) // PINGRESP_BYTES
        for _ in range(whole):
            self._tally.heard(self._count, now - self._sent_at.pop(0))
        if whole and not self.stopping:
            self._sent_at += [now] * whole
            self._transport.write(self._group * whole)
        return data[whole * PINGRESP_BYTES :]


def payloads(options: argparse.Namespace, rng: random.Random) -> list[bytes]:
    """One for each place in the window: random bytes, or readings padded to the size asked for."""
    if not options.json:
        return [rng.randbytes(options.payload) for _ in range(options.window)]
    return [_reading(options.payload, rng) for _ in range(options.window)]


def _reading(size: int, rng: random.Random) -> bytes:
    reading: dict[str, object] = {
        "temperature": round(rng.gauss(21, 4), 2),
        "humidity": round(rng.uniform(30, 70), 1),
        "voltage": round(rng.gauss(3.7, 0.1), 3),
        "count": rng.randrange(100_000),
        "ok": True,
        "firmware": "2.4.1",
        "note": "",
    }
    reading["note"] = "n" * max(size - len(json.dumps(reading)), 0)
    return json.dumps(reading).encode()


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(prog="tests.bench.load", description=__doc__)
    flags.add_argument("--port", type=int, required=True)
    flags.add_argument("--broker-pid", type=int, required=True)
    flags.add_argument("--connections", type=int, default=100)
    flags.add_argument("--window", type=int, default=1)
    flags.add_argument("--qos", type=int, choices=(0, 1), default=1)
    flags.add_argument("--payload", type=int, default=200, help="bytes")
    flags.add_argument("--json", action="store_true", help="readings in JSON, not random bytes")
    flags.add_argument("--warm-up", type=float, default=0.5, help="seconds")
    flags.add_argument("--seconds", type=float, default=3.0)
    flags.add_argument("--messages", type=int, default=0, help="stop at this many, if sooner")
    return flags


async def run(options: argparse.Namespace) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    tally = Tally()
    kind = AtLeastOnce if options.qos else AtMostOnce
    rng = random.Random(options.connections)
    publishers = []
    for index in range(options.connections):
        _, protocol = await loop.create_connection(
            partial(kind, tally, f"load-{index}", payloads(options, rng)),
            "127.0.0.1",
            options.port,
        )
        publishers.append(protocol)
    async with asyncio.timeout(CONNECT_SECONDS_MAX):
        await asyncio.gather(*(publisher.ready for publisher in publishers))
    for publisher in publishers:
        publisher.begin()
    await asyncio.sleep(options.warm_up)
    before, tally.running = snapshot(options.broker_pid), True
    tally.limit = options.messages
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(options.seconds):
            await tally.enough.wait()
    after, tally.running = snapshot(options.broker_pid), False
    for publisher in publishers:
        publisher.stopping = True
    await asyncio.sleep(DRAIN_SECONDS)  # what is in flight is answered before the connections go
    tally.seconds.sort()
    count = len(tally.seconds)
    return {
        "ever_acknowledged": tally.ever,
        "acknowledged": tally.acknowledged,
        "lost_connections": tally.lost_connections,
        "seconds": after.at - before.at,
        "broker_cpu_seconds": after.cpu_seconds - before.cpu_seconds,
        "broker_rss_bytes": after.rss_bytes,
        "latency_p50_ms": 1000 * tally.seconds[count // 2] if count else 0.0,
        "latency_p99_ms": 1000 * tally.seconds[count * 99 // 100] if count else 0.0,
    }


def main() -> None:
    options = parser().parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run(options))))


if __name__ == "__main__":
    main()
