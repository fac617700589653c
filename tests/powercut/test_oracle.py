"""The judge must be able to condemn: each broken promise is shown to be noticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headwater.core.gap import Gap, GapReason
from headwater.core.journal.files import Loss
from headwater.core.record import TopicPartition

from .oracle import Judge
from .publishers import Message
from .view import PROBE, Policy, View

CUT = 100
KEPT = TopicPartition("kept", 0)


def messages(count: int, *, topic: str = "kept/a", acked: int = 50) -> dict[str, Message]:
    found = [Message("c1", n, topic, f"c1/{n} text", n, acked) for n in range(1, count + 1)]
    return {each.name: each for each in found}


def shown(*numbers: int, start: int = 0, partition: TopicPartition = KEPT) -> View:
    records = [(start + index, f"c1/{n} text".encode()) for index, n in enumerate(numbers)]
    view = View()
    view.records[partition] = records
    view.bounds[partition] = (start, start + len(numbers))
    return view


def broken(view: View, sent: dict[str, Message], policy: Policy | None = None) -> str:
    return "; ".join(Judge(sent, policy or Policy()).violations(view, CUT))


def gap(first: int, last: int, reason: GapReason, stream: str = "kept") -> Gap:
    return Gap(edge="e", log="l", stream=stream, partition=0, first=first, last=last, reason=reason)


def test_a_whole_log_breaks_nothing() -> None:
    assert not broken(shown(1, 2, 3), messages(3))


def test_what_was_not_acknowledged_before_the_cut_may_be_missing_or_there() -> None:
    sent = messages(3) | {"c1/4": Message("c1", 4, "kept/a", "c1/4 text", 60, CUT + 1)}
    assert not broken(shown(1, 2, 3), sent)
    assert not broken(shown(1, 2, 3, 4), sent)


def _lose_a_hole(view: View) -> None:
    view.records[KEPT].pop(1)


def _declare_damage(view: View) -> None:
    _lose_a_hole(view)
    view.losses.append(Loss(KEPT, 1, 1, "bytes are damaged"))


def _change(view: View) -> None:
    view.records[KEPT][1] = (1, b"c1/2 tex")


def _invent(view: View) -> None:
    view.records[KEPT][2] = (2, b"c1/9 text")


def _end_beyond(view: View) -> None:
    view.bounds[KEPT] = (0, 5)


def _double_elsewhere(view: View) -> None:
    other = TopicPartition("kept", 1)
    view.records[other], view.bounds[other] = [(0, b"c1/2 text")], (0, 1)


@pytest.mark.parametrize(
    ("harm", "accusation"),
    [
        (_lose_a_hole, "hole: kept/0 lacks 1 to 1"),
        (_lose_a_hole, "lost: c1/2"),
        (_declare_damage, "lost: c1/2"),
        (_change, "changed: "),
        (_invent, "invented: "),
        (_end_beyond, "lacks 3 to 4"),
        (_double_elsewhere, "twice: c1/2"),
    ],
)
def test_each_broken_promise_is_noticed(harm: Callable[[View], None], accusation: str) -> None:
    view = shown(1, 2, 3)
    harm(view)
    assert accusation in broken(view, messages(3)).replace(str(KEPT), "kept/0")


def test_a_declared_loss_of_what_was_never_acknowledged_is_allowed() -> None:
    view = shown(1, 2, 3)
    _declare_damage(view)
    assert not broken(view, messages(3, acked=-1))


def test_a_lost_tail_is_noticed() -> None:
    assert "lost: c1/3" in broken(shown(1, 2), messages(3))


def test_disorder_within_a_client_is_noticed() -> None:
    assert "out of order: c1/2" in broken(shown(1, 3, 2), messages(3))


def test_what_was_sent_after_the_cut_cannot_be_there() -> None:
    sent = messages(3)
    sent["c1/3"].sent, sent["c1/3"].acked = CUT + 1, -1
    assert "invented" in broken(shown(1, 2, 3), sent)


def test_an_offset_that_is_another_message_in_another_state_is_noticed() -> None:
    judge = Judge(messages(3, acked=-1), Policy())
    assert not judge.violations(shown(1, 2), CUT)
    assert any("offset reused" in each for each in judge.violations(shown(1, 3), CUT))


def test_retirement_against_the_policy_is_noticed() -> None:
    assert "against its policy" in broken(shown(2, 3, start=1), messages(3))


def test_a_bounded_stream_may_retire_but_keeps_its_bytes() -> None:
    view = shown(2, 3, start=1)
    assert not broken(view, messages(3), Policy(bounded={"kept": 200}))
    assert "over-retired" in broken(view, messages(3), Policy(bounded={"kept": 2000}))


def test_a_stream_that_gives_way_declares_it_first() -> None:
    policy = Policy(dropped=frozenset({"kept"}))
    view = shown(2, 3, start=1)
    assert "undeclared" in broken(view, messages(3), policy)
    view.gaps.append(gap(0, 0, GapReason.RETENTION))
    assert not broken(view, messages(3), policy)


def test_retention_excuses_only_the_oldest_and_only_as_many_as_it_took() -> None:
    policy = Policy(bounded={"kept": 1})
    assert "though c1/1 before it is kept" in broken(shown(1, 3), messages(3), policy)
    assert "2 of kept, where 1 were retired" in broken(shown(3, start=1), messages(3), policy)


def early(view: View) -> str:
    sent = messages(3)
    for each in sent.values():
        each.receipt = f"kept/0/{each.sequence - 1}"
    return broken(view, sent, Policy(early=frozenset({"kept"})))


def test_a_record_lies_where_its_receipt_says() -> None:
    sent = messages(3)
    sent["c1/2"].receipt = "kept/0/1"
    assert not broken(shown(1, 2, 3), sent)
    sent["c1/2"].receipt = "kept/0/7"
    assert "receipt: c1/2 says kept/0/7" in broken(shown(1, 2, 3), sent)


def test_an_early_tail_may_be_lost_if_it_is_told() -> None:
    view = shown(1, 2)
    assert "lost: c1/3 of kept, not told" in early(view)
    view.volatile.append(Loss(KEPT, 2, 65, "at most"))
    assert not early(view)
    view.volatile.clear()
    view.gaps.append(gap(2, 65, GapReason.VOLATILE))
    assert not early(view)


def test_what_is_told_lost_is_not_there_and_is_early() -> None:
    view = shown(1, 2, 3)
    view.volatile.append(Loss(KEPT, 2, 65, "at most"))
    assert "has 2, declared lost" in early(view)
    assert "is on disk by its owner's choice" in broken(view, messages(3))


def test_after_a_life_goes_on_only_what_was_acknowledged_keeps_its_offset() -> None:
    sent = messages(2) | messages(1) | {"c1/3": Message("c1", 3, "kept/a", "c1/3 text", 3)}
    judge = Judge(sent, Policy())
    assert not judge.violations(shown(1, 2, 3), CUT)
    other = {**sent, "c1/4": Message("c1", 4, "kept/a", "c1/4 text", 4)}
    assert not judge.lived_on(other, CUT).violations(shown(1, 2, 4), CUT)
    moved = judge.lived_on(other, CUT).violations(shown(1, 4, 2), CUT)
    assert any("offset reused" in each for each in moved)


def test_records_of_the_check_itself_are_nobodys() -> None:
    view = shown(1, 2)
    view.records[KEPT].append((2, PROBE.encode()))
    view.bounds[KEPT] = (0, 3)
    assert not broken(view, messages(2))


def test_a_will_is_said_once_where_it_must_have_been_and_never_where_it_was_withdrawn() -> None:
    sent = messages(2)
    for each in sent.values():
        each.is_will = True
    assert "unsaid: c1/2" in broken(shown(1), sent)
    assert "twice: c1/2" in broken(shown(1, 2, 2), sent)
    sent["c1/2"].acked, sent["c1/2"].withdrawn = -1, 60
    assert not broken(shown(1), sent)
    assert "withdrawn: " in broken(shown(1, 2), sent)
    sent["c1/2"].withdrawn = CUT + 1
    assert not broken(shown(1, 2), sent)


def test_a_record_of_another_topic_or_stream_is_noticed() -> None:
    sent = messages(3)
    assert "misplaced: c1/3" in broken(
        shown(1, 2, 3, partition=TopicPartition("other", 0)), sent
    ).replace("other/0", "")
    view = shown(1, 2)
    other = TopicPartition("kept", 1)
    view.records[other], view.bounds[other] = [(0, b"c1/3 text")], (0, 1)
    assert "misplaced: c1/3 of kept/a" in broken(view, sent)
