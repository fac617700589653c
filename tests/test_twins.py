"""Leaves that are bases of other classes cannot be swapped in one process: their tests run once more with the pure twins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headwater.core.journal.files import opencommit
from headwater.core.leaves import PURE_FORCED

ROOT = Path(__file__).resolve().parent.parent
CLAIMS = (
    *(
        "edge/broker/test_publishing.py",
        "edge/broker/test_promises.py",
        "edge/broker/test_early.py",
    ),
    *("edge/broker/test_repetitions.py", "edge/broker/test_plain.py"),
    *("core/journal_files/test_early_commits.py", "core/journal_files/test_volatile.py"),
)


@pytest.mark.skipif(PURE_FORCED or not opencommit.COMPILED, reason="these are the pure twins")
def test_the_pure_twins_of_base_classes_pass_the_tests_of_the_compiled_ones() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        + [str(ROOT / "tests" / each) for each in CLAIMS],
        env={**os.environ, "HEADWATER_PURE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
