"""Apache Kafka's own command-line tools, run as a user of theirs would, in one JVM (Toolbox.java).

They are the Java client with its defaults: an idempotent producer, a consumer with fetch sessions, the admin client.
"""

from __future__ import annotations

import json
import select
import signal
import subprocess
import time
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


# below the time that a test has
ANSWER_S = 90.0
STACKS_S = 1.0


class Done(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class ToolHung(Exception):
    """A tool gave no answer; with the stacks of its threads."""


class Tools:
    def __init__(self, log: Path) -> None:
        self._log = log
        self._process = _jvm(log)

    def run(self, tool: str, *arguments: str, stdin: str = "") -> Done:
        """Whatever its exit status. Raises ToolHung; the next runs in a new JVM."""
        command = {"main": MAIN[tool], "arguments": arguments, "input": stdin}
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(command) + "\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], ANSWER_S)[0]:
            process.send_signal(signal.SIGQUIT)  # which writes the stacks to its standard output
            time.sleep(STACKS_S)
            process.kill()
            stacks = process.stdout.read()
            self.close()
            self._process = _jvm(self._log)
            raise ToolHung(f"{tool} {arguments}: no answer in {ANSWER_S} s\n{stacks}")
        return Done(**json.loads(process.stdout.readline()))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def __call__(self, tool: str, *arguments: str, stdin: str = "") -> Done:
        """Where the tool is to succeed."""
        done = self.run(tool, *arguments, stdin=stdin)
        assert done.status == 0, f"{tool} {arguments}: {done}"
        return done


def _jvm(log: Path) -> subprocess.Popen[str]:
    # few compiler threads: the machine's cores are the brokers' too
    options = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*")
    with log.open("ab") as errors:
        return subprocess.Popen(
            [require(), *options, str(SOURCE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )


@contextmanager
def toolbox(log: Path) -> Iterator[Tools]:
    tools = Tools(log)
    try:
        yield tools
    finally:
        tools.close()
