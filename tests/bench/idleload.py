"""Connections that only hold on: opened, left alone, their broker's memory taken before and after.

Prints one line of JSON."""

from __future__ import annotations

import argparse
import asyncio
import json

import uvloop

from .mini import connect
from .process import snapshot

SETTLE_SECONDS = 2.0
AT_ONCE = 100
WARM = 100


async def run(options: argparse.Namespace) -> dict[str, float]:
    # the first hundred are not measured: what a broker makes once is not theirs
    first = min(WARM, options.connections)
    warm = [await connect(options.port, f"warm-{index}") for index in range(first)]
    await asyncio.sleep(SETTLE_SECONDS)
    before = snapshot(options.broker_pid)
    minis = []
    for start in range(first, options.connections, AT_ONCE):
        names = range(start, min(start + AT_ONCE, options.connections))
        minis += await asyncio.gather(*(connect(options.port, f"idle-{i}") for i in names))
    await asyncio.sleep(SETTLE_SECONDS)
    after = snapshot(options.broker_pid)
    return {
        "count": len(warm) + len(minis),
        "lost_connections": sum(mini.lost for mini in (*warm, *minis)),
        "seconds": after.at - before.at,
        "broker_cpu_seconds": after.cpu_seconds - before.cpu_seconds,
        "broker_rss_bytes": after.rss_bytes,
        "bytes_per_connection": (after.rss_bytes - before.rss_bytes) / max(1, len(minis)),
    }


def main() -> None:
    flags = argparse.ArgumentParser(prog="tests.bench.idleload", description=__doc__)
    flags.add_argument("--port", type=int, required=True)
    flags.add_argument("--broker-pid", type=int, required=True)
    flags.add_argument("--connections", type=int, default=10_000)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run(flags.parse_args()))))


if __name__ == "__main__":
    main()
