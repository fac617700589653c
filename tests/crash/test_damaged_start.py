"""Every file of a data directory that a kill left, damaged in every way: the edge starts, and what is lost is stated.

A kind or two for each file in every run; all of them, and many flips, by `make damage` (HEADWATER_DAMAGE=all).
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from headwater.core import config
from headwater.demo.daemon import Daemon, free_port, headwater_command
from headwater.edge.settings import EdgeSettings

from . import damaging
from .damaging import FLIPPED, WHOLE, Contents, Damage, Start

pytestmark = [pytest.mark.crash, pytest.mark.timeout(1800)]

_CONFIG = """
[edge]
name = "damaged"
uplink = "none"
mqtt = "127.0.0.1:0"
http = "none"

[edge.journal]
segment_bytes = "64KiB"
record_bytes_max = "32KiB"
commit_bytes_max = "32KiB"
bytes_max = "8MiB"

[edge.mqtt_limits]
packet_bytes_max = "16KiB"
checkpoint_interval = "1s"

[[edge.streams]]
name = "kept"
filters = ["kept/#"]
partitions = 3
"""
TOPICS = 7
RETAINED = 20
LAST = b"the last"


class Found:
    """A data directory, and what is in it while it is whole."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self._config = folder / "edge.toml"
        self._config.write_text(_CONFIG, encoding="utf-8")
        self._fill()
        shutil.copytree(self.data, folder / "whole")
        self.before = self.start(folder / "whole")
        self.newest = self._newest()

    def settings(self, data: Path) -> EdgeSettings:
        return config.load(
            EdgeSettings,
            section="edge",
            file=self._config,
            environ={},
            flags={"data_dir": str(data)},
        )[0]

    def start(self, data: Path) -> Start:
        async def run() -> Start:
            async with asyncio.timeout(60):
                return await damaging.start(data, self.settings)

        return asyncio.run(run())

    def _fill(self) -> None:
        mqtt, http = free_port(), free_port()
        arguments = ("--config", str(self._config), "--data-dir", str(self.data))
        ports = ("--mqtt", f"127.0.0.1:{mqtt}", "--http", f"127.0.0.1:{http}")
        command = headwater_command("edge", *arguments, *ports)
        daemon = Daemon("edge", command, log=self.folder / "edge.log", http_port=http)
        daemon.start()
        try:
            daemon.wait_ready()
            self._publish(mqtt, daemon)
            daemon.kill()
        finally:
            daemon.close()

    def _publish(self, port: int, daemon: Daemon) -> None:
        client = paho.Client(CallbackAPIVersion.VERSION2, "lasting", clean_session=False)
        client.connect("127.0.0.1", port)
        client.loop_start()
        client.subscribe("elsewhere/#", 1)
        rng = random.Random(1)
        for index in range(RETAINED):
            client.publish(f"kept/r{index}", b"retained" * 20, 1, retain=True).wait_for_publish(30)
        for index in range(40):
            client.publish(f"kept/{index % TOPICS}", rng.randbytes(3000), 1).wait_for_publish(30)
        while not daemon.metrics()["headwater_state_checkpoint_rows_total"]:
            time.sleep(0.02)
        client.publish("kept/0", LAST, 1).wait_for_publish(30)
        client.loop_stop()

    def _newest(self) -> Contents:
        """The newest commit's: damaged, it cannot be told from a torn one."""
        return {
            partition: {offset: value for offset, value in records.items() if value == LAST}
            for partition, records in self.before.contents.items()
        }


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return Found(tmp_path_factory.mktemp("damaged"))


def test_no_damaged_file_keeps_the_edge_from_starting_and_all_it_cost_is_said(found: Found) -> None:
    seed = int(os.environ.get("HEADWATER_SEED", random.SystemRandom().randrange(1_000_000)))
    print(f"HEADWATER_SEED={seed}")
    rng = random.Random(seed)
    thorough = os.environ.get("HEADWATER_DAMAGE") == "all"
    broken = []
    for name in damaging.files(found.data):
        damages = (*WHOLE, *[FLIPPED] * 40) if thorough else (rng.choice(WHOLE), FLIPPED)
        for damage in damages:
            broken += [f"{name} {damage.name}: {each}" for each in _tried(found, name, damage, rng)]
    assert not broken, "\n".join(broken[:20])


def _tried(found: Found, name: str, damage: Damage, rng: random.Random) -> Iterator[str]:
    scratch = found.folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(found.data, scratch)
    damage.do(scratch / name, rng)
    for turn in ("first", "second"):
        try:
            after = found.start(scratch)
        except Exception as error:  # whatever it is, nothing may keep it from starting
            yield f"the {turn} start: {error!r}"
            return
        if turn == "first":
            yield from damaging.violations(found.before, after, found.newest)
            forgotten = found.before.sessions > after.sessions
            if (found.before.retained - after.retained or forgotten) and not after.said:
                yield "state lost, unsaid"


@pytest.mark.parametrize(
    "gone", [("log/state.a", "log/state.b"), ("log/state.a", "state/state.db")]
)
def test_two_files_gone_at_once_cost_no_record(found: Found, gone: tuple[str, ...]) -> None:
    scratch = found.folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(found.data, scratch)
    for name in gone:
        (scratch / name).unlink()
    after = found.start(scratch)
    assert not list(damaging.violations(found.before, after, {}))
    assert found.before.retained == after.retained or after.said
