"""A few hundred power cuts in half a minute; thousands by `python -m tests.powercut`."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.requirements import missing

from . import kernel

# `crowded`, whose full log takes its time, is tried by `make durability`
SAMPLE = ("rolling", "recycling", "dropping", "sessions", "company")
pytestmark = [pytest.mark.crash, pytest.mark.timeout(480)]


@pytest.fixture(scope="module")
def seed() -> int:
    return int(os.environ.get("HEADWATER_SEED", random.SystemRandom().randrange(1_000_000)))


@pytest.fixture(autouse=True)
def _possible() -> None:
    absent = kernel.missing()
    if absent is not None:
        missing(absent.reason, installable=absent.installable)


def powercut(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, because it takes a mount namespace of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.powercut", "--no-page", *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    print(done.stdout, done.stderr)
    return done


def test_nothing_acknowledged_is_lost_in_any_crash_state(seed: int) -> None:
    print(f"HEADWATER_SEED={seed}")
    done = powercut(
        *("--states", "300", "--messages", "2000", "--second-lives", "1", "--seed", str(seed)),
        *("--resume-every", "20"),
        *(word for name in SAMPLE for word in ("--scenario", name)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" 0 violations") == 10, "five recordings, and a second life of each"


def test_a_device_that_lies_about_flushes_is_condemned(seed: int) -> None:
    """The judge sees losses where there are some: the same run, and no flush does anything."""
    done = powercut(
        *("--states", "12", "--messages", "600", "--scenario", "rolling", "--seed", str(seed)),
        *("--lying", "--daemon-every", "0", "--second-lives", "0"),
    )
    assert done.returncode == 1
    assert "lost: " in done.stdout


@pytest.mark.parametrize("twin", os.environ.get("HEADWATER_TWINS", "subscriptions").split(","))
def test_a_broken_twin_of_the_daemon_is_condemned(twin: str, seed: int) -> None:
    """One of defects.py in each run; `make durability` has them all."""
    done = powercut("--twins-only", "--twin", twin, "--twin-states", "24", "--seed", str(seed))
    assert done.returncode == 0, done.stdout
