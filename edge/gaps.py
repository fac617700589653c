"""Losses, written down: records of the stream `_gaps` in the same journal, for retention, damage and refusal alike.

Rule: where the loss is ours to decide (retention, a record that the cloud refuses) the gap record is durable before
the loss is carried out. Damage is declared as soon as it was found.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from ..core.clock import Clock
from ..core.gap import GAPS_PARTITION, Gap, GapReason
from ..core.record import TopicPartition
from .broker.journal import Committer, Journal

_log = structlog.get_logger("edge.gaps")


class IdentifiedJournal(Journal, Protocol):
    @property
    def log_id(self) -> str: ...


class GapLedger:
    def __init__(
        self, journal: IdentifiedJournal, committer: Committer, *, edge: str, clock: Clock
    ) -> None:
        self._journal = journal
        self._committer = committer
        self._edge = edge
        self._clock = clock
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self.declared = 0
        committer.add_listener(self._on_durable)

    def declare(
        self, tp: TopicPartition, first: int, last: int, reason: GapReason, detail: str
    ) -> int:
        """Append the gap record; durable with the commit whose number is returned."""
        gap = Gap(
            edge=self._edge,
            log=self._journal.log_id,
            stream=tp.topic,
            partition=tp.partition,
            first=first,
            last=last,
            reason=reason,
            detail=detail,
        )
        timestamp, key, value, headers = gap.record(self._clock.wall_ms())
        self._journal.writer(GAPS_PARTITION).append(timestamp, key, value, headers)
        commit = self._journal.open_commit
        self._committer.request()
        self.declared += 1
        _log.warning(
            "gap declared",
            stream=tp.topic,
            partition=tp.partition,
            first=first,
            last=last,
            reason=str(reason),
            detail=detail,
        )
        return commit

    async def durable(self, commit: int) -> None:
        if self._committer.durable < commit:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((commit, future))
            await future

    async def refused(self, tp: TopicPartition, first: int, last: int, detail: str) -> None:
        """The uplink's question: the cloud will never take these; returns when the loss is written down."""
        await self.durable(self.declare(tp, first, last, GapReason.REFUSED, detail))

    def _on_durable(self, commit: int) -> None:
        waiting, self._waiting = self._waiting, []
        for wanted, future in waiting:
            if wanted > commit:
                self._waiting.append((wanted, future))
            elif not future.done():
                future.set_result(None)
