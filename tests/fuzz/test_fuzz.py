"""Every run: the corpus as it is, and a few seconds of search from it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from . import corpus
from .names import TARGETS
from .targets import TARGETS as FUNCTIONS

SECONDS = 3


def test_every_target_has_a_name_and_a_corpus() -> None:
    assert tuple(FUNCTIONS) == TARGETS
    for target in TARGETS:
        assert len(corpus.load(target)) >= 20, target


@pytest.mark.parametrize("target", TARGETS)
def test_what_was_found_once_stays_right(target: str) -> None:
    for data in corpus.load(target):
        FUNCTIONS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_a_short_search_finds_nothing(target: str) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris has no wheel for this Python or processor")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", target, "--seconds", str(SECONDS)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def test_the_search_finds_a_planted_defect(tmp_path: object) -> None:
    """The engine is really looking: a target that fails behind two compares is broken within seconds."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris has no wheel for this Python or processor")
    planted = (
        "import sys, atheris\n"
        "@atheris.instrument_func\n"
        "def target(data):\n"
        "    if len(data) > 1 and data[0] == 0x30:\n"
        "        if data[1] == 0x7f:\n"
        "            raise RuntimeError('planted')\n"
        "atheris.Setup([sys.argv[0], '-max_total_time=20', '-artifact_prefix=' + sys.argv[1] + '/'], target)\n"
        "atheris.Fuzz()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", planted, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "planted" in done.stdout + done.stderr
