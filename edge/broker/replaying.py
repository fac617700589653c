"""The asyncio rim of replay: reads the journal in its threads, decodes, and hands records to the broker in the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from ...core.batch import decode_batch
from ...core.belief import Stamp
from ...core.errors import Corrupt, Missing, OffsetOutOfRange, Unavailable
from ...core.journal.reading import JournalReader
from ...core.record import StoredRecord, TopicPartition
from .departures import Reading
from .moments import Moments
from .stored import expires

_log = structlog.get_logger("edge.mqtt")
# A decoded record's objects beside its bytes: measured on plain readings of a hundred bytes.
_RECORD_OVERHEAD = 300


class JournalSource:
    """`after` is called when a read was handed over: the broker writes what came of it."""

    def __init__(self, journal: JournalReader, moments: Moments) -> None:
        self._journal = journal
        self.moments = moments
        self._tasks: set[asyncio.Task[None]] = set()
        self.after: Callable[[], None] | None = None

    def read(
        self,
        tp: TopicPartition,
        offset: int,
        *,
        bytes_max: int,
        done: Callable[[Reading], None],
    ) -> None:
        task = asyncio.get_running_loop().create_task(
            self._run(tp, offset, bytes_max, done), name="replay"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(
        self, tp: TopicPartition, offset: int, bytes_max: int, done: Callable[[Reading], None]
    ) -> None:
        done(await self._read(tp, offset, bytes_max))
        if self.after is not None:
            self.after()

    async def _read(self, tp: TopicPartition, offset: int, bytes_max: int) -> Reading:
        try:
            end = self._journal.bounds(tp).end
            if offset >= end:
                return Reading(
                    [], failed=True
                )  # passed early, by its stream's choice, and not on disk yet
            batches = await self._journal.read(tp, offset, bytes_max=bytes_max)
            records: list[StoredRecord] = []
            for batch in batches:
                header, found = decode_batch(batch)
                stamp = Stamp(header.producer_id, header.producer_epoch, header.base_sequence)
                records += [
                    self.moments.redated(each, stamp) if each.headers and expires(each) else each
                    for each in found
                ]
        except OffsetOutOfRange:
            return Reading([], start=self._journal.bounds(tp).start)
        except Missing:
            return Reading([], start=1 << 62)
        except (Corrupt, Unavailable) as error:
            _log.warning(
                "cannot read the log for a subscriber", partition=str(tp), reason=str(error)
            )
            return Reading([], failed=True)
        if not records:
            return Reading([], start=end)  # what was durable from here on cannot be read
        size = sum(map(len, batches)) + _RECORD_OVERHEAD * len(records)
        return Reading(records, size)

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
