"""The statements of both specifications and the reasons for those without a test, read from tests/vectors/mqtt."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_FOLDER = Path(__file__).resolve().parents[1] / "vectors" / "mqtt"

# How a mark names a version: the protocol level of CONNECT.
NAMES = {"v4": "3.1.1", "v5": "5.0"}


class Statement(NamedTuple):
    version: str  # v4 or v5
    label: str
    summary: str


def _lines(file: str) -> list[list[str]]:
    text = (_FOLDER / file).read_text(encoding="utf-8")
    return [
        [part.strip() for part in line.split("|")]
        for line in text.splitlines()
        if line and not line.startswith("#")
    ]


def statements() -> list[Statement]:
    return [
        Statement(version, label, summary)
        for version, name in NAMES.items()
        for label, summary in _lines(f"statements-{name}.txt")
    ]


def excused() -> dict[tuple[str, str], str]:
    """{(version, label): reason}"""
    return {
        (version, label): reason
        for version, labels, reason in _lines("excused.txt")
        for label in labels.split()
    }
