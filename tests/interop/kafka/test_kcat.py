"""kcat, of Debian (librdkafka 2.0.2): an old client, from the command line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.requirements import program

from .running import BrokerThread, broker_thread

pytestmark = pytest.mark.interop


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerThread]:
    with broker_thread(tmp_path) as running:
        yield running


def kcat(broker: BrokerThread, *arguments: str, stdin: str = "") -> str:
    command = [program("kcat"), "-b", broker.address, *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_kcat_produces_lists_and_consumes(broker: BrokerThread) -> None:
    lines = "".join(f"key{n}:value{n}\n" for n in range(100))
    kcat(broker, "-P", "-t", "t", "-K:", "-z", "gzip", stdin=lines)
    kcat(broker, "-P", "-t", "t", "-X", "enable.idempotence=true", stdin="last\n")
    listed = json.loads(kcat(broker, "-L", "-J"))
    assert [topic["topic"] for topic in listed["topics"]] == ["t"]
    out = kcat(broker, "-C", "-t", "t", "-o", "beginning", "-e", "-f", "%o %k:%s\n")
    rows = out.splitlines()
    assert rows[:100] == [f"{n} key{n}:value{n}" for n in range(100)]
    assert rows[100] == "100 :last"
    tail = kcat(broker, "-C", "-t", "t", "-o", "-2", "-e", "-f", "%o ")
    assert tail.split() == ["99", "100"]


def test_kcat_consumes_in_a_group_and_asks_for_offsets_by_time(broker: BrokerThread) -> None:
    kcat(broker, "-P", "-t", "t", stdin="a\nb\n")
    settings = ["-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=6000"]
    assert kcat(broker, "-G", "g", *settings, "-e", "t").split() == ["a", "b"]
    kcat(broker, "-P", "-t", "t", stdin="c\n")
    assert kcat(broker, "-G", "g", *settings, "-e", "t").split() == ["c"]
    assert kcat(broker, "-Q", "-t", "t:0:1").strip().endswith("offset 0")
