"""What a running edge does again and again: limits, the tails of memory streams, a sign of life for systemd.

Each is a task of the daemon and ends with it; none keeps anything that must survive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from ..core.errors import HeadwaterError
from ..core.gap import GAPS_PARTITION, GapReason
from ..core.journal.files.sharing import DiskShare
from ..core.journal.files.shelf import Loss
from ..core.notify import ServiceManager
from .room import Room
from .rules import gap_reason, retention_rules
from .volatile import TURN_S, Tails, all_unsent, without_sent

if TYPE_CHECKING:
    from .daemon import Edge

_log = structlog.get_logger("edge")

# How often retention looks whether the journal is full; the interval setting is for the ordinary round.
FULL_CHECK_S = 1.0
# A round that fails has written the log's state already: on a card that keeps refusing, ever more seldom.
POSTPONED_MAX_S = 10.0


async def keep_retention(edge: Edge) -> None:
    """Enforce limits in rounds, and at once where the log is full; declare damage met while reading."""
    settings = edge.settings
    rules = retention_rules(settings.check())
    disk, clock, _ = edge.outside
    room = Room(edge.journal, edge.committer)
    share = DiskShare(edge.journal)
    is_short = False
    due = postponed_s = not_before = 0.0

    def declare(losses: Sequence[Loss]) -> None:
        for loss in really_lost(edge, losses):
            edge.gaps.declare([loss], gap_reason(rules, loss))

    while True:
        now = clock.monotonic()
        losses = edge.journal.take_losses()
        if losses:
            declare_damage(edge, losses)
        if settings is not edge.settings:  # reloaded
            settings = edge.settings
            rules = retention_rules(settings.check())
        is_due = now >= due or is_short or edge.journal.full is not None
        if is_due and now >= not_before:
            due = now + float(edge.settings.retention_interval)
            try:
                await edge.committer.enforce_retention(
                    clock.wall_ms(),
                    rules=rules,
                    sent=None if edge.uplink is None else edge.uplink.progress,
                    declare=declare,
                    free_bytes=share.room(disk.free_bytes(edge.journal.directory), now),
                )
            except HeadwaterError as error:
                if not postponed_s:  # said once, not every second of a card that is gone
                    _log.warning("retention postponed", reason=str(error))
                edge.journal.why_kept = f"and nothing can be given up: {error}"
                edge.journal.update_full()
                postponed_s = min(2 * postponed_s or FULL_CHECK_S, POSTPONED_MAX_S)
                not_before = now + postponed_s
            else:
                postponed_s = 0.0
        is_short = await room.short(FULL_CHECK_S)


async def keep_volatile(edge: Edge) -> None:
    gather_s = edge.settings.uplink_options.linger_longest
    tails = Tails(edge.journal, edge.outside.clock, gather_s=gather_s)
    while True:
        await asyncio.sleep(TURN_S)
        if (uplink := edge.uplink) is not None:
            uplink.notify()
        if tails.turn(*(((), all_unsent) if uplink is None else (uplink.progress, uplink.unsent))):
            edge.committer.request()


async def watchdog(edge: Edge, manager: ServiceManager) -> None:
    """Tell systemd we live while the loop turns and the log moves, is idle, or says why it does not."""
    assert manager.watchdog_s is not None
    seen = -1
    while True:
        durable = edge.committer.durable
        idle = not edge.journal.pending_bytes or edge.committer.resting
        if durable != seen or idle or edge.committer.stalled is not None:
            manager.alive()
        seen = durable
        await asyncio.sleep(manager.watchdog_s)


def declare_damage(edge: Edge, losses: Sequence[Loss]) -> None:
    """And what only gap records knew that were among it."""
    edge.gaps.declare(losses, GapReason.DAMAGE)
    if told := _told_only_by(edge, losses):
        rules = retention_rules(edge.settings.check())
        for loss in really_lost(edge, told):
            edge.gaps.declare([loss], gap_reason(rules, loss))


def _told_only_by(edge: Edge, losses: Sequence[Loss]) -> list[Loss]:
    """Gap records that were lost before they were sent may have been the only account of what retention gave up: that is
    what lies between what was sent of a partition and where it starts now. Damage is told again at each start by itself.
    Without an uplink nobody knows what somebody has fetched: then only the loss in `_gaps` is told."""
    if edge.uplink is None:
        return []
    sent = edge.uplink.progress
    account = [loss.last for loss in losses if loss.partition == GAPS_PARTITION]
    if max(account, default=-1) < sent.get(GAPS_PARTITION, 0):
        return []
    detail = "given up before; the gap record that told it was damaged"
    return [
        Loss(writer.partition, sent.get(writer.partition, 0), writer.start - 1, detail)
        for writer in edge.journal.writers()
        if writer.partition != GAPS_PARTITION and writer.start > sent.get(writer.partition, 0)
    ]


def really_lost(edge: Edge, losses: Sequence[Loss]) -> Sequence[Loss]:
    """A live lane may have sent what lies above what was sent without a break."""
    return losses if edge.uplink is None else without_sent(losses, edge.uplink.unsent)
