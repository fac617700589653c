"""Reads tests/vectors/mqtt/*.txt (see the README there)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from headwater.edge.mqtt.packets import Version

_FOLDER = Path(__file__).resolve().parents[2] / "vectors" / "mqtt"


class Vector(NamedTuple):
    versions: str
    name: str
    data: bytes
    rest: list[str]

    @property
    def id(self) -> str:
        return f"{self.versions} {self.name} [{self.rest[-1]}]"


def load(file: str) -> list[Vector]:
    vectors: list[Vector] = []
    for line in (_FOLDER / file).read_text().splitlines():
        if line and not line.startswith("#"):
            versions, name, data, *rest = (part.strip() for part in line.split("|"))
            vectors.append(Vector(versions, name, bytes.fromhex(data), rest))
    return vectors


def versions_of(vector: Vector) -> list[Version]:
    return [Version(int(digit)) for digit in vector.versions]
