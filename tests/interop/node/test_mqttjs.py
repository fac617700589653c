"""mqtt.js, what web pages and Node-RED speak MQTT with, over WebSocket through a SIGKILL of the edge (mqttjs.cjs); judged
by what it saw and by the log.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater.core.batch import decode_batch
from headwater.core.clock import SystemClock
from headwater.core.disk import SystemDisk
from headwater.core.journal.files import FileJournal, FileJournalSettings
from headwater.demo.daemon import Daemon, free_port, headwater_command
from tests.requirements import missing

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]

MODULES = Path(__file__).resolve().parents[3] / ".cache" / "node" / "node_modules"
STORY = Path(__file__).with_name("mqttjs.cjs")
COUNT = 400


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[tuple[Daemon, str]]:
    """A real one with a WebSocket listener, and its URL."""
    port, http_port = free_port(), free_port()
    config = tmp_path / "edge.toml"
    config.write_text(
        "[[edge.listeners]]\n"
        f'name = "web"\naddress = "127.0.0.1:{port}"\nkind = "websocket"\npath = "/mqtt"\n'
    )
    command = headwater_command(
        *("edge", "--config", str(config), "--data-dir", str(tmp_path / "data")),
        *("--mqtt", "none", "--http", f"127.0.0.1:{http_port}"),
    )
    daemon = Daemon("edge", command, log=tmp_path / "edge.log", http_port=http_port)
    daemon.start()
    daemon.wait_ready()
    yield daemon, f"ws://127.0.0.1:{port}/mqtt"
    daemon.close()


def stored(directory: Path) -> Counter[bytes]:
    journal = FileJournal.open(
        str(directory / "log"),
        disk=SystemDisk(),
        clock=SystemClock(),
        settings=FileJournalSettings(),
        rng=random.Random(1),
    )
    found: Counter[bytes] = Counter()
    for partition in journal.partitions():
        offset, end = journal.bounds(partition)
        while offset < end and (batches := journal.read_sync(partition, offset, bytes_max=1 << 20)):
            for batch in batches:
                header, records = decode_batch(batch)
                found.update(each.value or b"" for each in records if each.key == b"page/x")
                offset = header.next_offset
    journal.close()
    return found


@pytest.mark.parametrize("version", [4, 5])
def test_mqtt_js_loses_nothing_and_stores_nothing_twice_when_the_edge_is_killed(
    edge: tuple[Daemon, str], version: int, tmp_path: Path
) -> None:
    daemon, url = edge
    node = shutil.which("node")
    if node is None:
        missing("node is not installed", installable=False)
    if not (MODULES / "mqtt").is_dir():
        missing("mqtt.js is not in .cache/node")
    assert node is not None
    client = subprocess.Popen(
        [node, str(STORY), url, str(version), str(COUNT)],
        env={**os.environ, "NODE_PATH": str(MODULES)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert client.stdout is not None
        assert client.stdout.readline() == "half\n"
        daemon.kill()
        daemon.start()
        out, err = client.communicate(timeout=30)
    finally:
        client.kill()
    assert client.returncode == 0, err
    seen = json.loads(out)
    daemon.stop()
    assert seen["present"] == [False, True]
    assert seen["subprotocol"] == "mqtt"
    expected = {f"{1 + n % 2} {n}" for n in range(COUNT)}
    assert seen["received"].keys() == expected
    # at QoS 1 what was not acknowledged comes again, at QoS 2 never
    assert not [key for key, times in seen["received"].items() if key[0] == "2" and times > 1]
    log = stored(tmp_path / "data")
    assert log.keys() == {str(n).encode() for n in range(COUNT)}
    # mqtt.js repeats without DUP, so that at QoS 1 a repetition is another message; at QoS 2 it is the same one all the same
    assert not [n for n, times in log.items() if int(n) % 2 and times > 1]
    assert seen["receipts"] == (COUNT // 2 if version == 5 else 0)
