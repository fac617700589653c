"""Memory streams between journal and uplink: when the tail is let go, when it is written."""

from __future__ import annotations

import random
from pathlib import Path

from headwater.core.clock import ManualClock
from headwater.core.disk import SystemDisk
from headwater.core.journal.files import FileJournal, FileJournalSettings, Loss
from headwater.core.journal.files.early import EarlyRule
from headwater.core.record import TopicPartition
from headwater.core.units import KIB
from headwater.edge.uplink.ranges import unsent
from headwater.edge.volatile import AWAY_S, Tails, Unsent, all_unsent, without_sent

A = TopicPartition("a", 0)


def opened(path: Path) -> FileJournal:
    journal = FileJournal.open(
        str(path),
        disk=SystemDisk(),
        clock=ManualClock(),
        settings=FileJournalSettings(),
        rng=random.Random(1),
        early={"a": EarlyRule(1.0, 64 * KIB)},
    )
    for _ in range(11):
        journal.writer(A).append(1, None, b"v")
        commit(journal)
    return journal


def commit(journal: FileJournal) -> None:
    sealed = journal.seal()
    if sealed is not None:
        sealed.write()
        journal.complete(sealed)


def sent(*bounds: int) -> tuple[set[TopicPartition], Unsent]:
    """The cloud has [0, first of these); and, where a backlog is filling in, [second, third) of the live range."""
    held = [(0, bounds[0]), *([(bounds[1], bounds[2])] if bounds[1:] else [])]
    return {A}, lambda tp, first, last: unsent(held, first, last)


def test_what_was_sent_is_let_go_and_never_written(tmp_path: Path) -> None:
    journal, clock = opened(tmp_path), ManualClock()
    tails, writer = Tails(journal, clock), journal.volatile[A]
    for acked in (3, 7, 11):
        clock.advance(AWAY_S - 1)
        assert not tails.turn(*sent(acked))
        assert writer.tail_first == acked
    clock.advance(AWAY_S * 3)
    assert not tails.turn(*sent(11)), "nothing waits"
    assert journal.seal() is None
    journal.close()


def test_an_uplink_that_gathers_for_long_is_not_away(tmp_path: Path) -> None:
    journal, clock = opened(tmp_path), ManualClock()
    tails = Tails(journal, clock, gather_s=60.0)
    assert not tails.turn(*sent(3))
    clock.advance(60.0 + AWAY_S - 1)
    assert not tails.turn(*sent(3))
    clock.advance(2)
    assert tails.turn(*sent(3))
    journal.close()


def test_a_cloud_that_takes_nothing_for_long_sends_the_tail_to_flash(tmp_path: Path) -> None:
    journal, clock = opened(tmp_path), ManualClock()
    tails = Tails(journal, clock)
    assert not tails.turn(*sent(3))
    clock.advance(AWAY_S + 1)
    assert tails.turn(*sent(3))
    commit(journal)
    assert journal.volatile[A].tail_bytes == 0
    assert journal.appender.ends[A] == 11
    journal.close()


def test_live_records_leave_the_tail_while_a_backlog_below_them_fills_in(tmp_path: Path) -> None:
    journal, clock = opened(tmp_path), ManualClock()
    tails, writer = Tails(journal, clock), journal.volatile[A]
    writer.spill()
    commit(journal)  # the outage's: 11 records are on flash, none of them was sent
    for _ in range(9):
        writer.append(1, None, b"live")
    for acked in (14, 17, 20):
        clock.advance(AWAY_S - 1)
        assert not tails.turn(*sent(2, 11, acked)), "the link is there"
        assert writer.tail_first == acked
    assert writer.tail_bytes == 0
    journal.close()


def test_a_backlog_that_moves_does_not_hide_that_live_records_do_not(tmp_path: Path) -> None:
    journal, clock = opened(tmp_path), ManualClock()
    tails, writer = Tails(journal, clock), journal.volatile[A]
    assert not tails.turn(*sent(2, 5, 7))
    assert writer.tail_first == 2, "history in the tail is not there yet"
    clock.advance(AWAY_S + 1)
    assert tails.turn(*sent(4, 5, 7))
    journal.close()


def test_a_link_that_stays_away_is_not_waited_for_again_after_each_write(tmp_path: Path) -> None:
    journal, clock = opened(tmp_path), ManualClock()
    tails, writer = Tails(journal, clock), journal.volatile[A]
    assert not tails.turn(*sent(3))
    clock.advance(AWAY_S + 1)
    for _ in range(3):
        assert tails.turn(*sent(3))
        commit(journal)
        assert writer.tail_bytes == 0
        writer.append(1, None, b"more")
    journal.close()


def test_without_an_uplink_memory_goes_to_flash_at_its_interval(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    assert Tails(journal, ManualClock()).turn((), all_unsent)
    assert journal.patience_s == 1.0
    journal.close()


def test_what_the_cloud_has_is_not_declared_lost() -> None:
    losses = [Loss(A, 5, 20, "x"), Loss(TopicPartition("b", 0), 1, 2, "x")]
    sent = {A: 12, TopicPartition("b", 0): 9}
    assert without_sent(losses, lambda tp, a, b: unsent([(0, sent.get(tp, 0))], a, b)) == [
        Loss(A, 12, 20, "x")
    ]
