"""The ledger read, and the lake judged by it.

Rule: `judge` returns every broken promise as a sentence with the record's name; an empty list is the proof. The promises:

1. each acknowledged message is in the lake;
2. no message is there more often than it was sent, and those of a device that must not repeat are there at most once;
3. no address (edge, log, stream, partition, offset) is there twice, and offsets have no hole;
4. within a partition a device's messages stand in the order they were published, copies aside;
5. nothing is there that was never sent.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

BROKEN_SHOWN_MAX = 20

Message = tuple[str, int]  # device, sequence


class Row(NamedTuple):
    """One row of the lake: where it was logged, and which message it is."""

    edge: str
    log: str
    stream: str
    partition: int
    offset: int
    device: str
    sequence: int


@dataclass
class Ledger:
    sent: Counter[Message] = field(default_factory=Counter)  # how often, the first time included
    acknowledged: set[Message] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path) -> Ledger:
        ledger = cls()
        text = path.read_text(encoding="ascii") if path.exists() else ""
        # a witness that is still writing has perhaps half a line
        for line in text[: text.rfind("\n") + 1].splitlines():
            mark, device, sequence = line.split(" ")
            message = (device, int(sequence))
            if mark == "A":
                ledger.acknowledged.add(message)
            else:
                ledger.sent[message] += 1
        return ledger

    @property
    def uncertain(self) -> set[Message]:
        """Sent and never acknowledged: may be in the lake or not."""
        return set(self.sent) - self.acknowledged


def judge(ledger: Ledger, rows: Iterable[Row]) -> list[str]:
    rows = sorted(rows)
    found = Counter((row.device, row.sequence) for row in rows)
    broken = [
        f"acknowledged but lost: {message}" for message in sorted(ledger.acknowledged - set(found))
    ]
    for message, count in sorted(found.items()):
        sent = ledger.sent[message]
        if not sent:
            broken.append(f"in the lake but never sent: {message}")
        elif count > (sent if message[0].startswith("s") else 1):
            broken.append(f"{count} times in the lake, sent {sent} times: {message}")
    return [*broken, *_addresses(rows), *_order(rows)]


def _addresses(rows: list[Row]) -> list[str]:
    offsets: dict[tuple[str, str, str, int], list[int]] = defaultdict(list)
    for row in rows:
        offsets[row[:4]].append(row.offset)
    broken = []
    for partition, taken in sorted(offsets.items()):
        for before, after in itertools.pairwise(taken):
            if after == before:
                broken.append(f"one address twice: {partition} offset {after}")
            elif after != before + 1:
                broken.append(f"hole in {partition}: from {before} to {after}")
        if taken[0] != 0:
            broken.append(f"hole in {partition}: begins at {taken[0]}")
    return broken


def _order(rows: list[Row]) -> list[str]:
    """`rows` are sorted by address. A copy of what has been seen is not out of order."""
    broken = []
    last: dict[tuple[str, int, str], int] = {}
    seen: set[Message] = set()
    places: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for row in rows:
        places[row.device].add((row.stream, row.partition))
        if (row.device, row.sequence) in seen:
            continue
        seen.add((row.device, row.sequence))
        key = (row.stream, row.partition, row.device)
        if row.sequence < last.get(key, -1):
            broken.append(
                f"out of order in {row.stream}/{row.partition}: {row.device} {row.sequence}"
            )
        last[key] = row.sequence
    return broken + [
        f"{device} is spread over {sorted(where)}"
        for device, where in places.items()
        if len(where) > 1
    ]
