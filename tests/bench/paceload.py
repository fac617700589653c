"""A load that keeps a pace: so many readings a second in all, from so many sensors. Prints one line of JSON.

JSON readings of about 100 bytes (`--payload`), each different from the last, as a slowly drifting sensor's are.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random

import uvloop

from . import wire
from .mini import Mini, connect
from .process import snapshot

DRAIN_SECONDS = 1.0


class Sensor:
    def __init__(self, index: int, size: int) -> None:
        self.topic = f"site/7/sensor/{index:03d}/climate"
        self._rng = random.Random(index)
        self._size = size
        self._temperature = self._rng.uniform(15, 25)
        self._at = 1_790_000_000_000 + self._rng.randrange(1000)

    def reading(self, elapsed_ms: int) -> bytes:
        rng = self._rng
        self._temperature += rng.gauss(0, 0.05)
        text = (
            f'{{"ts":{self._at + elapsed_ms},"temperature":{self._temperature:.2f},'
            f'"humidity":{rng.uniform(40, 45):.1f},"battery":{rng.uniform(3.6, 3.7):.3f},"ok":true}}'
        )
        return (text[:-1] + ',"n":"' + "n" * (self._size - len(text) - 7) + '"}').encode()


async def run(options: argparse.Namespace) -> dict[str, float]:
    acknowledged = 0

    def heard(packet: wire.Packet) -> None:
        nonlocal acknowledged
        acknowledged += packet.kind == wire.PUBACK

    sensors: list[tuple[Sensor, Mini]] = []
    for index in range(options.connections):
        mini = await connect(options.port, f"sensor-{index}", host=options.host)
        mini.on_packet = heard
        sensors.append((Sensor(index, options.payload), mini))
    loop = asyncio.get_running_loop()
    before = snapshot(options.broker_pid)
    began, sent = loop.time(), 0
    while (elapsed := loop.time() - began) < options.seconds:
        while sent < elapsed * options.rate:
            sensor, mini = sensors[sent % len(sensors)]
            reading = sensor.reading(int(1000 * elapsed))
            mini.write(wire.publish(sensor.topic, reading, sent % 60_000 + 1))
            sent += 1
        await asyncio.sleep(min(0.02, 1 / options.rate))
    await asyncio.sleep(DRAIN_SECONDS)
    after = snapshot(options.broker_pid)
    return {
        "sent": sent,
        "acknowledged": acknowledged,
        "seconds": after.at - before.at,
        "broker_cpu_seconds": after.cpu_seconds - before.cpu_seconds,
        "lost_connections": sum(mini.lost for _, mini in sensors),
    }


def main() -> None:
    flags = argparse.ArgumentParser(prog="tests.bench.paceload", description=__doc__)
    flags.add_argument("--host", default="127.0.0.1")
    flags.add_argument("--port", type=int, required=True)
    flags.add_argument("--broker-pid", type=int, required=True)
    flags.add_argument("--connections", type=int, default=10)
    flags.add_argument("--rate", type=float, default=100.0, help="readings a second, all together")
    flags.add_argument("--payload", type=int, default=100, help="bytes")
    flags.add_argument("--seconds", type=float, default=10.0)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run(flags.parse_args()))))


if __name__ == "__main__":
    main()
