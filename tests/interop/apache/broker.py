"""A real Apache Kafka on loopback: one KRaft node from its Maven jars, for tests that want the original's judgement.

`tests/setup.sh` fetches the jars. A broker takes a few seconds to start, so the fixture is one per session.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.requirements import missing

JARS = Path(__file__).resolve().parents[3] / ".cache" / "kafka" / "jars"
START_SECONDS_MAX = 60.0

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={directory}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
# a killed broker is let in again when its last life's session is over: nine seconds by default
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=300
{extra}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ApacheKafka:
    """One broker in `directory`. `start`, `kill` and `start` again keep its data."""

    def __init__(self, directory: Path, *, port: int | None = None, extra: str = "") -> None:
        self.directory = directory
        self.port = port or free_port()
        self._controller = free_port()
        self._extra = extra
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def controller_port(self) -> int:
        return self._controller

    def extend(self, extra: str) -> None:
        """More properties, before `format`; of two the later holds."""
        self._extra += extra

    def format(self) -> None:
        properties = _PROPERTIES.format(
            controller=self._controller,
            port=self.port,
            directory=self.directory,
            extra=self._extra,
        )
        (self.directory / "server.properties").write_text(properties)
        command = ("kafka.tools.StorageTool", "format", "-t", "aGVhZHdhdGVyLXRlc3Rz", "-c")
        self._java(*command).wait(timeout=START_SECONDS_MAX)

    def start(self) -> None:
        process = self._process = self._java("kafka.Kafka")
        self.wait(lambda: process.poll() is None, START_SECONDS_MAX)

    def wait(self, running: Callable[[], bool], timeout_seconds: float) -> float:
        """Until it answers a client. Returns the seconds it took."""
        began = time.monotonic()
        while (waited := time.monotonic() - began) < timeout_seconds:
            if not running():
                raise RuntimeError(f"kafka ended at start: see {self.directory / 'kafka.log'}")
            if self._answers():
                return waited
            time.sleep(0.2)
        raise RuntimeError(f"kafka does not answer: see {self.directory / 'kafka.log'}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        try:
            admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
            return bool(admin.list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def command(self, main: str, *arguments: str) -> list[str]:
        # few compiler threads: the machine's cores are the tests' too
        options = ("-Xmx512m", "-Xms128m", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*")
        return [require(), *options, main, *arguments, str(self.directory / "server.properties")]

    def _java(self, main: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.directory / "kafka.log").open("ab") as log:
            return subprocess.Popen(
                self.command(main, *arguments),
                stdout=log,
                stderr=log,
                env={**os.environ, "LC_ALL": "C"},
            )


def require() -> str:
    """The path of java; without it or the jars the test is skipped, or fails (tests/requirements.py)."""
    java = shutil.which("java")
    if java is None:
        missing("java is not installed", installable=False)
    if not JARS.is_dir():
        missing("Apache Kafka's jars are not in .cache/kafka/jars")
    assert java is not None
    return java


@contextmanager
def apache_kafka(directory: Path, *, extra: str = "") -> Iterator[ApacheKafka]:
    require()
    broker = ApacheKafka(directory, extra=extra)
    broker.format()
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()
