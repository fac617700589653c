"""Apache Kafka's own command-line tools, run as a user of theirs would, in one JVM (Toolbox.java).

They are the Java client with its defaults: an idempotent producer, a consumer with fetch sessions, the admin client.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from .broker import JARS, require

SOURCE = Path(__file__).with_name("Toolbox.java")

PACKAGE = "org.apache.kafka.tools"
MAIN = {
    "kafka-topics": f"{PACKAGE}.TopicCommand",
    "kafka-console-producer": f"{PACKAGE}.ConsoleProducer",
    "kafka-console-consumer": f"{PACKAGE}.consumer.ConsoleConsumer",
    "kafka-get-offsets": f"{PACKAGE}.GetOffsetShell",
    "kafka-consumer-groups": f"{PACKAGE}.consumer.group.ConsumerGroupCommand",
    "kafka-groups": f"{PACKAGE}.GroupsCommand",
    "kafka-delete-records": f"{PACKAGE}.DeleteRecordsCommand",
    "kafka-cluster": f"{PACKAGE}.ClusterTool",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-transactions": f"{PACKAGE}.TransactionsCommand",
    "kafka-broker-api-versions": f"{PACKAGE}.BrokerApiVersionsCommand",
    "kafka-producer-perf-test": f"{PACKAGE}.ProducerPerformance",
    "kafka-consumer-perf-test": f"{PACKAGE}.ConsumerPerformance",
    "kafka-dump-log": "kafka.tools.DumpLogSegments",
}


class Done(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Tools:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, tool: str, *arguments: str, stdin: str = "") -> Done:
        """Whatever its exit status."""
        command = {"main": MAIN[tool], "arguments": arguments, "input": stdin}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return Done(**json.loads(self._process.stdout.readline()))

    def __call__(self, tool: str, *arguments: str, stdin: str = "") -> Done:
        """Where the tool is to succeed."""
        done = self.run(tool, *arguments, stdin=stdin)
        assert done.status == 0, f"{tool} {arguments}: {done}"
        return done


@contextmanager
def toolbox(log: Path) -> Iterator[Tools]:
    java = require()
    with (
        log.open("ab") as errors,
        subprocess.Popen(
            # few compiler threads: the machine's cores are the brokers' too
            [java, "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*", str(SOURCE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield Tools(process)
        finally:
            process.kill()
