"""The load of retained messages: publish a value on each of many topics; later, receive them all as a new subscriber.

`--publish`: counts PUBACKs until every topic has one. Without: subscribes to all and counts until all came, or for as
long as `--seconds` allows; what is missing then is told. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

import uvloop

from . import wire
from .mini import connect
from .process import snapshot

PUBLISHERS = 20
WINDOW = 200
RETAIN = 0x01


def topic(index: int) -> str:
    return f"bench/retained/site-{index // 1000:03d}/sensor-{index:06d}"


async def publish(options: argparse.Namespace) -> dict[str, float]:
    done = 0
    everything = asyncio.Event()
    iterator = iter(range(options.topics))

    def packet(packet_id: int) -> bytes:
        index = next(iterator, None)
        if index is None:
            return b""
        made = wire.publish(topic(index), f'{{"value": {index}.5}}'.encode(), packet_id)
        return bytes([made[0] | RETAIN]) + made[1:]

    before = snapshot(options.broker_pid)
    for number in range(PUBLISHERS):
        mini = await connect(options.port, f"retain-{number}")

        def heard(answer: wire.Packet, mini=mini) -> None:  # type: ignore[no-untyped-def]
            nonlocal done
            done += 1
            mini.write(packet(answer.packet_id))
            if done == options.topics:
                everything.set()

        mini.on_packet = heard
        mini.write(b"".join(packet(each + 1) for each in range(WINDOW)))
    try:
        async with asyncio.timeout(options.seconds):
            await everything.wait()
    except TimeoutError:
        pass
    after = snapshot(options.broker_pid)
    return {
        "count": done,
        "seconds": after.at - before.at,
        "broker_cpu_seconds": after.cpu_seconds - before.cpu_seconds,
        "broker_rss_bytes": after.rss_bytes,
    }


async def receive(options: argparse.Namespace) -> dict[str, float]:
    mini = await connect(options.port, "newcomer")
    count = 0
    last = began = time.perf_counter()
    everything = asyncio.Event()

    def heard(packet: wire.Packet) -> None:
        nonlocal count, last
        if packet.kind == wire.PUBLISH:
            count += 1
            last = time.perf_counter()
            if count == options.topics:
                everything.set()

    mini.on_packet = heard
    before = snapshot(options.broker_pid)
    await mini.subscribe("bench/retained/#", 0)
    try:
        async with asyncio.timeout(options.seconds):
            await everything.wait()
    except TimeoutError:
        pass
    after = snapshot(options.broker_pid)
    return {
        "count": count,
        "seconds": last - began,
        "broker_cpu_seconds": after.cpu_seconds - before.cpu_seconds,
        "broker_rss_bytes": after.rss_bytes,
    }


def main() -> None:
    flags = argparse.ArgumentParser(prog="tests.bench.retainload", description=__doc__)
    flags.add_argument("--port", type=int, required=True)
    flags.add_argument("--broker-pid", type=int, required=True)
    flags.add_argument("--topics", type=int, default=100_000)
    flags.add_argument("--seconds", type=float, default=60.0, help="the longest it may take")
    flags.add_argument("--publish", action="store_true")
    options = flags.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run((publish if options.publish else receive)(options))))


if __name__ == "__main__":
    main()
