"""Which tests cover which statements: pytest collects, this plug-in writes down the marks.

In a process of its own, because collecting inside a running pytest would share its state.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
WHERE = "tests/edge"


class Mark(NamedTuple):
    """One case of one test: `function` is its file and name, `case` the parameters in brackets, or nothing."""

    function: str
    case: str
    version: str
    label: str


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mqtt-marks", help="where to write the marks")


def pytest_collection_finish(session: pytest.Session) -> None:
    found = [
        (item.nodeid, version, label)
        for item in session.items
        for mark in item.iter_markers("mqtt")
        for version, labels in mark.kwargs.items()
        for label in labels.split()
    ]
    Path(session.config.getoption("--mqtt-marks")).write_text(json.dumps(found))


def collect() -> list[Mark]:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "marks.json"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "--collect-only",
            "-qq",
            "-p",
            "no:cacheprovider",
        ]
        command += ["-p", "tests.conformance.marks", f"--mqtt-marks={file}", WHERE]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"pytest could not collect {WHERE}:\n{done.stdout[-2000:]}")
        marks = []
        for nodeid, version, label in json.loads(file.read_text()):
            function, _, case = nodeid.partition("[")
            marks.append(Mark(function, case.removesuffix("]"), version, label))
        return marks
