"""A cluster as the command line sees it: where it is, and the tools pointed at it."""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass

from .tools import Done, Tools

LEADERS_S = 30.0
# what takes the address in its own way
_ADDRESS_ELSEWHERE = {"kafka-producer-perf-test"}


@dataclass(frozen=True)
class Cluster:
    name: str
    bootstrap: str
    tools: Tools

    def __call__(self, tool: str, *arguments: str, stdin: str = "") -> Done:
        """Where the tool is to succeed."""
        return self.tools(tool, *self._addressed(tool, arguments), stdin=stdin)

    def run(self, tool: str, *arguments: str, stdin: str = "") -> Done:
        """Whatever its exit status."""
        return self.tools.run(tool, *self._addressed(tool, arguments), stdin=stdin)

    def make_topic(self, partitions: int = 1, *configs: str) -> str:
        """A new topic's name, once each partition has its leader; the cluster is shared.

        A producer that comes before that may be stuck: its first batch is refused, its second taken, and the first is out of
        order for ever (Apache Kafka takes any sequence number from a producer that it does not know).
        """
        name = f"t-{uuid.uuid4().hex[:8]}"
        settings = [word for config in configs for word in ("--config", config)]
        self(
            "kafka-topics", "--create", "--topic", name, "--partitions", str(partitions), *settings
        )
        deadline = time.monotonic() + LEADERS_S
        while len(self.offsets(name, "-1")) < partitions:  # the tool leaves out what has none yet
            assert time.monotonic() < deadline, f"{name}: partitions without leaders"
        return name

    def produce(self, topic: str, lines: list[str], *arguments: str) -> None:
        text = "".join(f"{line}\n" for line in lines)
        self("kafka-console-producer", "--topic", topic, *arguments, stdin=text)

    def consume(self, topic: str, count: int, *arguments: str) -> list[str]:
        """`count` records, at the most: it waits for no more."""
        return self(
            "kafka-console-consumer",
            *("--topic", topic, "--max-messages", str(count), "--timeout-ms", "20000"),
            *arguments,
        ).lines

    def offsets(self, topic: str, time: str) -> dict[int, str]:
        """By partition, as kafka-get-offsets prints them."""
        found = {}
        for line in self("kafka-get-offsets", "--topic", topic, "--time", time).lines:
            name, partition, offset = line.rsplit(":", 2)
            assert name == topic
            found[int(partition)] = offset
        return found

    def committed(self, group: str, topic: str) -> dict[int, tuple[str, str, str]]:
        """By partition: committed offset, log end offset, lag."""
        table = self("kafka-consumer-groups", "--describe", "--group", group).out
        row = re.compile(rf"^{group} +{topic} +(\d+) +(\S+) +(\S+) +(\S+)", re.MULTILINE)
        return {int(partition): (at, end, lag) for partition, at, end, lag in row.findall(table)}

    def _addressed(self, tool: str, arguments: tuple[str, ...]) -> list[str]:
        if tool in _ADDRESS_ELSEWHERE:
            return [*arguments, "--producer-props", f"bootstrap.servers={self.bootstrap}"]
        if tool == "kafka-cluster":  # a sub-command comes first
            return [arguments[0], "--bootstrap-server", self.bootstrap, *arguments[1:]]
        return ["--bootstrap-server", self.bootstrap, *arguments]
