"""SIGKILL of the edge at any moment between delivery and commit: what it acknowledged upstream is there, once."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

import pytest

from headwater.edge.daemon import open_edge

from ..test_daemon import run, until
from .mosquitto import Mosquitto
from .test_bridge import bridging, records_of, settings

MESSAGES = 3000


def started(folder: Path, upstream: Mosquitto) -> subprocess.Popen[str]:
    config = folder / "edge.toml"
    config.write_text(
        "[[edge.sources.mqtt]]\n"
        f'name = "plant"\naddress = "{upstream.address}"\nfilters = ["up/#"]\nretry_max = "200ms"\n'
    )
    process = subprocess.Popen(
        [
            sys.executable, "-m", "headwater", "edge", "--config", str(config), "--name", "e1",
            "--data-dir", str(folder / "edge"), "--mqtt", "127.0.0.1:0", "--http", "none",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "source connected" in line:
            break
    else:
        raise AssertionError("it never connected")
    threading.Thread(target=_drain, args=(process.stderr,), daemon=True).start()
    return process


def _drain(stream: IO[str]) -> None:
    with stream:
        stream.read()


@pytest.mark.crash
def test_a_killed_edge_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    upstream = Mosquitto(folder)
    upstream.start()
    rng = random.Random(7)
    try:
        edge = started(tmp_path, upstream)
        client = upstream.publisher()
        sent = threading.Event()

        def send() -> None:
            for number in range(MESSAGES):
                client.publish("up/a", b"%d" % number, qos=1).wait_for_publish(30)
                if number % 20 == 0:
                    time.sleep(0.005)
            sent.set()

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        kills = 0
        while not sent.is_set() or kills < 3:
            time.sleep(0.1 + 0.4 * rng.random())
            edge.kill()
            edge.wait(10)
            kills += 1
            edge = started(tmp_path, upstream)
        sender.join(30)
        client.disconnect()
        client.loop_stop()
        edge.kill()
        edge.wait(10)

        async def drain_and_look() -> None:
            async with open_edge(settings(tmp_path, upstream)) as last, bridging(last) as source:
                seen = -1
                while seen != source.messages:  # what was left upstream
                    seen = source.messages
                    await until(lambda: source.acknowledged == source.messages)
                    await asyncio.sleep(0.2)
                values = [int(record.value or b"") for record in await records_of(last)]
            assert values == list(range(MESSAGES)), f"once each and in order, after {kills} kills"

        run(drain_and_look)
    finally:
        upstream.stop()
