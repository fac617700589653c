"""A data directory as a kill left it, and every way to damage one of its files; what a start then makes of it.

Oracle: the edge starts; each record that was there is there, or its offset is in a declared loss; no offset that was given
is given again. Excused is the newest commit alone, which cannot be told from a torn one (FORMAT.md).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from headwater.core.batch import decode_batch
from headwater.core.journal.files import FileJournal
from headwater.core.record import Record, TopicPartition
from headwater.core.units import MIB
from headwater.edge.daemon import Edge, open_edge
from headwater.edge.settings import EdgeSettings

Contents = dict[TopicPartition, dict[int, bytes]]


class Damage(NamedTuple):
    name: str
    do: Callable[[Path, random.Random], None]


def _truncate(share: float) -> Callable[[Path, random.Random], None]:
    def do(path: Path, rng: random.Random) -> None:
        del rng
        os.truncate(path, int(path.stat().st_size * share))

    return do


def _overwrite(
    make: Callable[[random.Random, int], bytes],
) -> Callable[[Path, random.Random], None]:
    def do(path: Path, rng: random.Random) -> None:
        path.write_bytes(make(rng, path.stat().st_size))

    return do


def _directory(path: Path, rng: random.Random) -> None:
    del rng
    path.unlink()
    path.mkdir()
    (path / "inside").write_bytes(b"x")


def _link(path: Path, rng: random.Random) -> None:
    del rng
    path.unlink()
    path.symlink_to("nowhere")


def _flip(path: Path, rng: random.Random) -> None:
    """A few bits, or a sector."""
    data = bytearray(path.read_bytes())
    if not data:
        return
    start = rng.randrange(len(data))
    for place in range(start, min(len(data), start + rng.choice((1, 1, 16, 512)))):
        data[place] ^= rng.randint(1, 255)
    path.write_bytes(data)


WHOLE = (
    Damage("deleted", lambda path, rng: path.unlink()),
    Damage("emptied", _truncate(0)),
    Damage("cut in half", _truncate(0.5)),
    Damage("cut short", _truncate(0.99)),
    Damage("zeroed", _overwrite(lambda rng, size: bytes(size))),
    Damage("overwritten", _overwrite(lambda rng, size: rng.randbytes(size))),
    Damage("grown", _overwrite(lambda rng, size: rng.randbytes(size + 5000))),
    Damage("a directory", _directory),
    Damage("a dangling link", _link),
)
FLIPPED = Damage("flipped", _flip)


def files(data: Path) -> list[str]:
    return sorted(str(path.relative_to(data)) for path in data.rglob("*") if path.is_file())


def contents(journal: FileJournal) -> Contents:
    found: Contents = {}
    for partition in journal.partitions():
        offset, end = journal.bounds(partition)
        records = found[partition] = {}
        while offset < end:
            batches = journal.read_sync(partition, offset, bytes_max=MIB)
            if not batches:
                break
            for batch in batches:
                header, decoded = decode_batch(batch)
                offset = header.next_offset
                records |= {record.offset: record.value or b"" for record in decoded}
    return found


class Start(NamedTuple):
    """What one start of the edge found and said."""

    contents: Contents
    lost: dict[TopicPartition, set[int]]
    next_offsets: dict[TopicPartition, int]
    said: list[str]
    retained: set[str]
    sessions: int


async def start(data: Path, settings: Callable[[Path], EdgeSettings]) -> Start:
    """Raises what keeps the edge from starting."""
    async with open_edge(settings(data)) as edge:
        return _look(edge)


def _look(edge: Edge) -> Start:
    journal = edge.journal
    given = {tp: journal.append(tp, Record(0, None, b"probe", ())) for tp in journal.partitions()}
    found = contents(journal)
    report = journal.recovery
    losses = [*report.losses, *report.volatile, *journal.take_losses()]
    lost: dict[TopicPartition, set[int]] = {}
    for loss in losses:
        lost.setdefault(loss.partition, set()).update(range(loss.first, loss.last + 1))
    said = [*report.warnings, *report.damage, *report.quarantined, *map(str, losses)]
    assert edge.keeping is not None
    said += edge.keeping.restored.losses
    retained = set(edge.broker.fanout.retained.topics())
    return Start(found, lost, given, said, retained, len(edge.broker.sessions))


def violations(before: Start, after: Start, excused: Contents) -> Iterator[str]:
    for partition, records in before.contents.items():
        if partition.topic.startswith("_"):
            continue
        there = after.contents.get(partition, {})
        lost = after.lost.get(partition, set())
        for offset, value in records.items():
            found = there.get(offset)
            if found is not None and found != value:
                yield f"{partition} at {offset} is another record"
            if found is None and offset not in lost and offset not in excused.get(partition, {}):
                yield f"{partition} at {offset} is gone, undeclared"
        given = after.next_offsets.get(partition)
        newest = max((o for o in records if o not in excused.get(partition, {})), default=-1)
        if given is not None and given <= newest:
            yield f"{partition}: {given} was given again"
