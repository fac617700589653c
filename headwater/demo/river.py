"""All tiers on one machine: an edge, a cloud node, its lake, and (where asked) the sink as a process of its own.

Rule: only the command line is used, as a user would: `headwater edge|cloud|sink|query|verify` with one TOML file, ports of
the loopback that stay the same when a tier is killed and started again. Knows nothing of what is published.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..core.errors import HeadwaterError
from .daemon import HOST, Daemon, free_port, headwater_command

EDGE_NAME = "edge-1"
QUERY_SECONDS_MAX = 60.0

# Short pauses: a demonstration is watched and a test waits, so neither wants an hour's good manners towards a dead cloud.
CONFIG = """\
[edge]
[[edge.streams]]
name = "telemetry"
filters = ["site/#"]
partitions = 4

[[edge.streams]]
name = "machine"
filters = ["machine/#"]

[edge.uplink_options]
backoff_max = "1s"

[cloud]
sink_restart_max = "1s"
"""


class Answerless(HeadwaterError):
    """`headwater query` failed; the message is what it said. A lake without a first commit is such a case."""


class River:
    """`daemons` are "edge" and "cloud", and "sink" where it runs alone. Close it, whatever happens."""

    def __init__(
        self,
        directory: Path,
        *,
        sink_interval: str,
        sink_alone: bool = False,
        store: str | None = None,
        lake: str | None = None,
        environment: Mapping[str, str] | None = None,
        config: str = CONFIG,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.lake = lake or str(directory / "lake")
        self.mqtt_port, self.kafka_port = free_port(), free_port()
        self.edge_http, self.cloud_http, self.sink_http = free_port(), free_port(), free_port()
        self.config = directory / "headwater.toml"
        self.config.write_text(config)
        # by the environment, which the sink that runs beside the cloud inherits too
        self._environment = {
            "HEADWATER_SINK__INTERVAL": sink_interval,
            "HEADWATER_SINK__DISCOVERY": "500ms",
            **(environment or {}),
        }
        self.daemons = {
            "edge": self._daemon("edge", self._edge(), self.edge_http),
            "cloud": self._daemon(
                "cloud",
                self._cloud(store or str(directory / "store"), sink=not sink_alone),
                self.cloud_http,
            ),
        }
        if sink_alone:
            self.daemons["sink"] = self._daemon("sink", self._sink(), self.sink_http)

    @property
    def edge(self) -> Daemon:
        return self.daemons["edge"]

    @property
    def cloud(self) -> Daemon:
        return self.daemons["cloud"]

    @property
    def edge_data(self) -> Path:
        return self.directory / "edge"

    def start(self) -> None:
        """Start every tier and wait until each says that it is ready. Raises DaemonFailed."""
        for daemon in self.daemons.values():
            daemon.start()
        for daemon in self.daemons.values():
            daemon.wait_ready()

    def close(self) -> None:
        for daemon in self.daemons.values():
            daemon.close()

    def query(self, sql: str) -> list[dict[str, object]]:
        """Rows of the lake by `headwater query`. Raises Answerless."""
        arguments = ["query", sql, "--lake", self.lake, "--format", "json"]
        done = self._run(arguments)
        if done.returncode != 0:
            raise Answerless(done.stderr.strip() or f"exit status {done.returncode}")
        return list(_json_rows(done.stdout))

    def verify(self) -> tuple[bool, str]:
        """Whether `headwater verify` finds the lake complete, and what it said."""
        done = self._run(["verify", "--lake", self.lake])
        return done.returncode == 0, (done.stdout + done.stderr).strip()

    def _run(self, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            headwater_command(*arguments),
            capture_output=True,
            text=True,
            timeout=QUERY_SECONDS_MAX,
            env={**os.environ, **self._environment},
            check=False,
        )

    def _daemon(self, name: str, arguments: list[str], http_port: int) -> Daemon:
        return Daemon(
            name,
            headwater_command(name, "--config", str(self.config), *arguments),
            log=self.directory / f"{name}.log",
            http_port=http_port,
            environment=self._environment,
        )

    def _edge(self) -> list[str]:
        return [
            *("--name", EDGE_NAME),
            *("--data-dir", str(self.edge_data)),
            *("--mqtt", f"{HOST}:{self.mqtt_port}"),
            *("--uplink", f"kafka://{HOST}:{self.kafka_port}"),
            *("--http", f"{HOST}:{self.edge_http}"),
        ]

    def _cloud(self, store: str, *, sink: bool) -> list[str]:
        return [
            *("--store", store),
            *("--lake", self.lake),
            *("--kafka", f"{HOST}:{self.kafka_port}"),
            *("--http", f"{HOST}:{self.cloud_http}"),
            *(() if sink else ("--no-sink",)),
        ]

    def _sink(self) -> list[str]:
        return [
            *("--bootstrap", f"kafka://{HOST}:{self.kafka_port}"),
            *("--lake", self.lake),
            *("--http", f"{HOST}:{self.sink_http}"),
        ]


def _json_rows(text: str) -> Iterator[dict[str, object]]:
    """One array, or one object a line: both are called JSON."""
    if text.lstrip().startswith("["):
        yield from json.loads(text)
        return
    for line in text.splitlines():
        if line.strip():
            yield json.loads(line)
