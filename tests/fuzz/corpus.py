"""The corpus: inputs worth starting from, one line of hexadecimal each, in corpus/TARGET.txt."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "corpus"
# A long run finds ever longer ways to the same branch; these are kept in the repository.
INPUT_BYTES_MAX = 1024


def path_of(target: str) -> Path:
    return FOLDER / f"{target}.txt"


def load(target: str) -> list[bytes]:
    path = path_of(target)
    if not path.exists():
        return []
    lines = path.read_text(encoding="ascii").splitlines()
    return [bytes.fromhex(line) for line in lines if line and not line.startswith("#")]


def save(target: str, inputs: Iterable[bytes]) -> None:
    kept = sorted({each for each in inputs if 0 < len(each) <= INPUT_BYTES_MAX}, key=_order)
    path_of(target).write_text("".join(each.hex() + "\n" for each in kept), encoding="ascii")


def _order(data: bytes) -> tuple[int, bytes]:
    return len(data), data
