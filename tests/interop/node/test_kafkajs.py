"""kafkajs, the Node client, against the broker: one story in JavaScript (story.cjs), judged here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.interop.kafka.running import broker_thread
from tests.requirements import missing

pytestmark = pytest.mark.interop

MODULES = Path(__file__).resolve().parents[3] / ".cache" / "node" / "node_modules"
STORY = Path(__file__).with_name("story.cjs")
RECORDS = 200


def test_kafkajs_does_what_it_does_with_any_broker(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        missing("node is not installed", installable=False)
    if not MODULES.is_dir():
        missing("kafkajs is not in .cache/node")
    assert node is not None
    with broker_thread(tmp_path) as broker:
        done = subprocess.run(
            [node, str(STORY), broker.address],
            env={
                **os.environ,
                "NODE_PATH": str(MODULES),
                "KAFKAJS_NO_PARTITIONER_WARNING": "1",
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["brokers"] == [broker.address]
    assert (told["created"], told["createdAgain"]) == (True, False)

    def row(n: int) -> list[object]:
        return [n % 3, str(n // 3), f"k{n}", str(n), [["h", str(n)]]]

    assert sorted(told["read"], key=lambda each: int(each[3])) == [row(n) for n in range(RECORDS)]
    assert sorted(told["resumed"], key=lambda each: int(each[3])) == [
        row(n) for n in range(RECORDS, RECORDS + 3)
    ]
    ends = {n: str(len(range(n, RECORDS + 3, 3))) for n in range(3)}
    committed = {each["partition"]: each["offset"] for each in told["committed"]}
    assert committed == ends
    assert {each["partition"]: each["high"] for each in told["offsets"]} == ends
    by_time = {each["partition"]: each["offset"] for each in told["byTime"]}
    assert by_time == {0: "34", 1: "33", 2: "33"}, "the first of 1100 ms or later"
    assert told["group"] == "Empty"
    assert told["again"] == RECORDS + 3
    assert sorted(told["low"]) == ["0", "0", "5"]
    assert told["retention"] == "604800000"
    assert told["topics"] == []
