"""What was promised, held against what is in the lake: the demo's proof and the crash tests' judge.

Rule: `judge` returns every broken promise as a sentence with the message's name; an empty list is the proof. The promises:

1. each acknowledged message is in the lake;
2. no message is there more often than it was sent, and those of a device that must not repeat are there at most once;
3. no address (edge, log, stream, partition, offset) is there twice, and offsets have no hole;
4. within a partition a device's messages stand in the order they were published, copies aside;
5. nothing is there that was never sent.

Knows nothing of brokers or lakes: an account kept outside them, and rows.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

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

    @property
    def message(self) -> Message:
        return self.device, self.sequence


@dataclass
class Account:
    """What went out and what came back, written down by those who published."""

    sent: Counter[Message] = field(default_factory=Counter)  # how often, the first time included
    acknowledged: set[Message] = field(default_factory=set)

    @property
    def uncertain(self) -> set[Message]:
        """Sent and never acknowledged: may be in the lake or not."""
        return set(self.sent) - self.acknowledged


def judge(account: Account, rows: Iterable[Row], *, repeating: Collection[str] = ()) -> list[str]:
    """`repeating` are the devices that may publish a message again under a promise of at-least-once."""
    rows = sorted(rows)
    found = Counter(row.message for row in rows)
    broken = [
        f"acknowledged but lost: {message}" for message in sorted(account.acknowledged - set(found))
    ]
    for message, count in sorted(found.items()):
        sent = account.sent[message]
        if not sent:
            broken.append(f"in the lake but never sent: {message}")
        elif count > (sent if message[0] in repeating else 1):
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
        if row.message in seen:
            continue
        seen.add(row.message)
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
