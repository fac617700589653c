"""Kill anything, lose nothing: 54 SIGKILLs in three stories, each judged by what an outside witness wrote down.

Set HEADWATER_SEED to repeat a run's kill moments (the scheduler's part in it cannot be repeated).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from headwater.demo.daemon import headwater_command
from tests.seaweed import Seaweed, seaweed  # noqa: F401  (a fixture)

from .storeproxy import Fault, StoreProxy
from .world import TIERS, World

pytestmark = [pytest.mark.crash, pytest.mark.timeout(480)]


@pytest.fixture
def seed() -> int:
    return int(os.environ.get("HEADWATER_SEED", random.SystemRandom().randrange(1_000_000)))


@pytest.fixture
def proxy(seaweed: Seaweed, seed: int) -> Iterator[StoreProxy]:  # noqa: F811
    port = int(seaweed.endpoint_url.rpartition(":")[2])
    proxy = StoreProxy(port, rng=random.Random(seed))
    yield proxy
    proxy.close()


def test_every_tier_killed_at_random_moments_loses_nothing(tmp_path: Path, seed: int) -> None:
    with World(tmp_path, seed) as world:
        world.more_is_acknowledged()
        world.storm(30, TIERS)
        account = world.finish()
        assert sum(world.kills.values()) == 30
        assert len(account.acknowledged) > 1000, "the storm left time to keep promises"


def test_a_cloud_out_of_reach_only_delays(tmp_path: Path, seed: int) -> None:
    with World(tmp_path, seed) as world:
        world.more_is_acknowledged()
        world.kill("cloud")
        before = len(world.account.acknowledged)
        world.more_is_acknowledged(200)  # the edge needs nobody
        world.storm(11, ("edge", "sink"), ready=("edge",))
        world.more_is_acknowledged(200)
        assert len(world.account.acknowledged) >= before + 400
        world.restart("cloud")
        world.finish()


def test_a_store_that_answers_errors_only_delays(
    tmp_path: Path,
    seed: int,
    seaweed: Seaweed,  # noqa: F811
    proxy: StoreProxy,
) -> None:
    environment = {
        **seaweed.environ,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.start()}",
    }
    store, lake = seaweed.location("store"), seaweed.location("lake")
    with World(tmp_path, seed, store=store, lake=lake, environment=environment) as world:
        world.more_is_acknowledged()
        proxy.share = 0.2
        world.storm(12, TIERS, ready=("edge",))
        world.until(lambda: set(proxy.met) == set(Fault) and sum(proxy.met.values()) >= 30)
        proxy.share = 1.0
        world.live(1.0, 2.0)
        proxy.share = 0.0
        world.finish()
        print(f"faults met: {dict(proxy.met)}, requests passed: {proxy.passed}")


def test_the_demo_proves_itself(tmp_path: Path) -> None:
    """The command a newcomer runs first, shortened: two kills, and the proof's exit status."""
    done = subprocess.run(
        headwater_command(
            *("demo", "--devices", "20", "--seconds", "8", "--dir", str(tmp_path / "demo"))
        ),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PROVEN" in done.stdout
    assert done.stdout.count("SIGKILL") == 2
    assert "duplicates 0, gaps 0" in done.stdout
    assert not done.stderr, "nothing but the story is told"


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_stays_leaves_nothing_behind(tmp_path: Path, ending: signal.Signals) -> None:
    command = headwater_command(
        *("demo", "--stay", "--devices", "5", "--seconds", "3", "--dir", str(tmp_path / "demo"))
    )
    complaints = tmp_path / "stderr"
    with complaints.open("w") as stderr:
        demo = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True
        )
    assert demo.stdout is not None, "asked for"
    told = []
    try:
        for line in demo.stdout:
            told.append(line)
            if line.startswith("still running"):
                break
        children = psutil.Process(demo.pid).children(recursive=True)
        demo.send_signal(ending)
        assert demo.wait(60) == 0, "".join(told)  # its end is what the proof said
    finally:
        demo.kill()
        demo.wait()
        demo.stdout.close()
    assert len(children) >= 2, "an edge and a cloud at least"
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    assert not complaints.read_text()
