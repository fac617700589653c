"""Bring your own Kafka: edge → a real Apache Kafka → `headwater sink` → lake, SIGKILLed at random moments.

The crash tests' world (tests/crash), with Apache's broker in the place of the cloud: the same witness, the same judge, the
same proof. Set HEADWATER_SEED to repeat a run's kill moments.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from headwater.demo.daemon import Daemon
from tests.crash.test_lanes_kill import LANES, outages, split
from tests.crash.world import World

from .broker import ApacheKafka, require

pytestmark = [pytest.mark.interop, pytest.mark.crash, pytest.mark.timeout(240)]


class ApacheDaemon(Daemon):
    """Ready when it answers a client."""

    def __init__(self, kafka: ApacheKafka) -> None:
        log = kafka.directory / "kafka.log"
        super().__init__("cloud", kafka.command("kafka.Kafka"), log=log)
        self._kafka = kafka

    def wait_ready(self, timeout_seconds: float = 60.0) -> float:
        return self._kafka.wait(lambda: self.running, timeout_seconds)


class ApacheWorld(World):
    """Of the cloud only its address is left: what the edge and the sink were told."""

    def __init__(
        self, directory: Path, seed: int, *, environment: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(directory, seed, environment=environment)
        own = directory / "apache"
        own.mkdir()
        self.kafka = ApacheKafka(own, port=self.river.kafka_port)
        self.kafka.format()
        daemons = self.river.daemons
        # in the order of starting: the edge needs nobody, the sink a cluster
        self.river.daemons = {
            "edge": daemons["edge"],
            "cloud": ApacheDaemon(self.kafka),
            "sink": daemons["sink"],
        }


@pytest.fixture
def seed() -> int:
    return int(os.environ.get("HEADWATER_SEED", random.SystemRandom().randrange(1_000_000)))


def test_each_acknowledged_record_is_in_the_lake_exactly_once(tmp_path: Path, seed: int) -> None:
    require()
    with ApacheWorld(tmp_path, seed) as world:
        world.more_is_acknowledged(200)
        world.storm(3, ("edge", "sink"), ready=("edge",))
        for _ in range(2):
            world.kill("cloud")
            world.more_is_acknowledged(200)  # the edge needs nobody
            world.kill("edge")
            world.restart("edge")
            world.more_is_acknowledged(100)
            world.restart("cloud")
            world.river.daemons["cloud"].wait_ready()
            world.live(0.1, 1.5)  # in the middle of sending what was held back, or just after
            world.kill("edge")
            world.restart("edge")
            world.kill("sink")
            world.restart("sink")
            world.more_is_acknowledged(200)
        account = world.finish()
        assert world.kills["cloud"] == 2
        assert world.kills["edge"] >= 5
        assert len(account.acknowledged) > 1000
        streams = {row.stream for row in world.rows()}
        assert streams == {"telemetry"}, "Kafka's own topics stay out of the lake"


def test_a_backlog_interrupted_while_it_fills_in_behind_live_data_is_exact(
    tmp_path: Path, seed: int
) -> None:
    require()
    with ApacheWorld(tmp_path, seed, environment=LANES) as world:
        outages(world, rounds=2)
        world.finish()
        assert split(world), "the story never had two lanes"
