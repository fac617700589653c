"""Losses, written down: records of the stream `_gaps` in the same journal, for retention, damage and refusal alike.

Rule: where the loss is ours to decide (retention, a record that the cloud refuses) the gap record is durable before
the loss is carried out. Damage is declared as soon as it was found.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from ..core.clock import Clock
from ..core.gap import GAPS_PARTITION, Gap, GapReason
from ..core.journal.files.committer import Committer
from ..core.journal.files.journal import FileJournal
from ..core.journal.files.shelf import Loss
from ..core.record import TopicPartition

_log = structlog.get_logger("edge.gaps")


class GapLedger:
    def __init__(
        self, journal: FileJournal, committer: Committer, *, edge: str, clock: Clock
    ) -> None:
        self._journal = journal
        self._committer = committer
        self._edge = edge
        self._clock = clock
        self.records_lost = 0

    def declare(self, losses: Sequence[Loss], reason: GapReason) -> int:
        """Append a gap record for each; durable with the commit whose number is returned."""
        for partition, first, last, detail in losses:
            gap = Gap(
                edge=self._edge,
                log=self._journal.log_id,
                stream=partition.topic,
                partition=partition.partition,
                first=first,
                last=last,
                reason=reason,
                detail=detail,
            )
            self._journal.append(GAPS_PARTITION, gap.record(self._clock.wall_ms()))
            self.records_lost += gap.count
            _log.warning(
                "records lost and declared",
                stream=gap.stream,
                partition=gap.partition,
                first=first,
                last=last,
                reason=str(reason),
                detail=detail,
            )
        self._committer.request()
        return self._journal.open_commit

    async def refused(self, partition: TopicPartition, first: int, last: int, detail: str) -> None:
        """The cloud will never take these. Returns when that is written down for good."""
        loss = Loss(partition, first, last, detail)
        await self._committer.wait_durable(self.declare([loss], GapReason.REFUSED))
