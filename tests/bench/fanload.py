"""The load of fan-out and of request/response: a process of its own, closed loop, so that no broker need drop anything.

Fan-out: one publisher (QoS 1), many subscribers. A message is published when every subscriber has had all but the last
few, so the count is of deliveries that arrived. Packets of one run have one size: deliveries are counted by it.

Request/response: pairs of clients, one request in flight each; a trip is request → responder → response, four packets
through the broker. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable

import uvloop

from . import wire
from .mini import Mini, connect
from .process import Snapshot, snapshot

WARM_UP_SECONDS = 0.5
DRAIN_SECONDS = 0.3
AHEAD = 8  # messages published that some subscriber may not have yet


class FanOut:
    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._qos: int = options.qos
        self._packet = wire.publish("bench/fan", bytes(options.payload), 1)
        # what a subscriber gets: at QoS 0 without a packet identifier
        self._size = len(self._packet) - (0 if self._qos else 2)
        self._id_at = self._size - options.payload - 2
        self._left: dict[Mini, bytes] = {}
        self._sent = 0
        self.delivered = 0
        self.stopping = False

    async def start(self) -> None:
        options = self._options
        for index in range(options.connections):
            mini = await connect(options.port, f"sub-{index}")
            await mini.subscribe("bench/fan", self._qos)
            self._left[mini] = b""
            mini.on_bytes = lambda data, mini=mini: self._heard(mini, data)
        self._publisher = await connect(options.port, "publisher")
        self._publisher.on_bytes = lambda data: None
        self._more()

    @property
    def lost(self) -> int:
        return sum(mini.lost for mini in self._left)

    def _heard(self, mini: Mini, data: bytes) -> None:
        data = self._left[mini] + data
        count, rest = divmod(len(data), self._size)
        self._left[mini] = data[len(data) - rest :]
        if not count:
            return
        self.delivered += count
        if self._qos:
            ids = (data[i * self._size + self._id_at :][:2] for i in range(count))
            mini.write(b"".join(b"\x40\x02" + each for each in ids))
        self._more()

    def _more(self) -> None:
        room = self.delivered // self._options.connections + AHEAD - self._sent
        if room > 0 and not self.stopping:
            self._sent += room
            self._publisher.write(self._packet * room)


class Trips:
    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.trips = 0
        self.seconds: list[float] = []
        self.stopping = False
        self._minis: list[Mini] = []

    async def start(self) -> None:
        starts = []
        for index in range(self._options.connections):
            responder = await connect(self._options.port, f"responder-{index}")
            await responder.subscribe(f"bench/ask/{index}", 1)
            requester = await connect(self._options.port, f"requester-{index}")
            await requester.subscribe(f"bench/answer/{index}", 1)
            self._minis += [responder, requester]
            starts.append(self._pair(index, requester, responder))
        for start in starts:
            start()

    def _pair(self, index: int, requester: Mini, responder: Mini) -> Callable[[], None]:
        payload = bytes(self._options.payload)
        ask = wire.publish(f"bench/ask/{index}", payload, 1)
        answer = wire.publish(f"bench/answer/{index}", payload, 1)
        began = 0.0

        def start() -> None:
            nonlocal began
            began = time.perf_counter()
            requester.write(ask)

        def asked(packet: wire.Packet) -> None:
            if packet.kind == wire.PUBLISH:
                responder.write(_puback(packet) + answer)

        def answered(packet: wire.Packet) -> None:
            if packet.kind == wire.PUBLISH:
                requester.write(_puback(packet))
                self.trips += 1
                self.seconds.append(time.perf_counter() - began)
                if not self.stopping:
                    start()

        responder.on_packet, requester.on_packet = asked, answered
        return start

    @property
    def lost(self) -> int:
        return sum(mini.lost for mini in self._minis)


def _puback(packet: wire.Packet) -> bytes:
    topic = int.from_bytes(packet.body[:2], "big")
    return b"\x40\x02" + packet.body[2 + topic : 4 + topic]


async def run(options: argparse.Namespace) -> dict[str, float]:
    if options.trips:
        return await _trips(options)
    fan = FanOut(options)
    await fan.start()
    await asyncio.sleep(WARM_UP_SECONDS)
    before, first = snapshot(options.broker_pid), fan.delivered
    await asyncio.sleep(options.seconds)
    after, last = snapshot(options.broker_pid), fan.delivered
    fan.stopping = True
    await asyncio.sleep(DRAIN_SECONDS)
    return {"count": last - first, "lost_connections": fan.lost, **_cost(before, after)}


async def _trips(options: argparse.Namespace) -> dict[str, float]:
    trips = Trips(options)
    await trips.start()
    await asyncio.sleep(WARM_UP_SECONDS)
    trips.seconds.clear()
    before, first = snapshot(options.broker_pid), trips.trips
    await asyncio.sleep(options.seconds)
    after, last = snapshot(options.broker_pid), trips.trips
    trips.stopping = True
    ordered = sorted(trips.seconds) or [0.0]
    await asyncio.sleep(DRAIN_SECONDS)
    return {
        "count": last - first,
        "lost_connections": trips.lost,
        "latency_p50_ms": 1000 * ordered[len(ordered) // 2],
        "latency_p99_ms": 1000 * ordered[len(ordered) * 99 // 100],
        **_cost(before, after),
    }


def _cost(before: Snapshot, after: Snapshot) -> dict[str, float]:
    return {
        "seconds": after.at - before.at,
        "broker_cpu_seconds": after.cpu_seconds - before.cpu_seconds,
    }


def main() -> None:
    flags = argparse.ArgumentParser(prog="tests.bench.fanload", description=__doc__)
    flags.add_argument("--port", type=int, required=True)
    flags.add_argument("--broker-pid", type=int, required=True)
    flags.add_argument("--connections", type=int, default=100, help="subscribers, or pairs")
    flags.add_argument("--qos", type=int, choices=(0, 1), default=0, help="of the subscriptions")
    flags.add_argument("--payload", type=int, default=200, help="bytes")
    flags.add_argument("--seconds", type=float, default=3.0)
    flags.add_argument("--trips", action="store_true", help="request/response instead")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run(flags.parse_args()))))


if __name__ == "__main__":
    main()
