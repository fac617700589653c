"""What is in doubt, in few bytes, and not more of it than all sessions together may hold."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from headwater.edge.broker import doubts
from headwater.edge.broker.doubts import Allowance, Doubts
from headwater.edge.broker.uncertain import ENTRY_BYTES, Uncertain
from headwater.edge.mqtt.packets import Publish


def publish(number: int, *, dup: bool = False) -> Publish:
    return Publish(topic="t", payload=b"%d" % number, qos=1, packet_id=number % 65_535 + 1, dup=dup)


def taken(session: Doubts, numbers: range) -> None:
    """Each in a commit of its own, written behind the one before."""
    for number in numbers:
        session.took_publish(publish(number))
        session.seal(number + 1, float(number))
        session.written(number + 1, 4 * (number + 1))


def repeated(session: Doubts, numbers: range) -> list[int]:
    return [n for n in numbers if session.repeated(publish(n, dup=True)) == n + 1]


def test_a_publish_in_doubt_costs_few_bytes_whether_its_client_is_there_or_not() -> None:
    sessions = [Doubts(1000) for _ in range(20)]
    for each in sessions:  # a page of what a session costs anyway
        taken(each, range(1))
    tracemalloc.start()
    try:
        for each in sessions:
            taken(each, range(1, 1000))
            each.carry(1001, 1000.0)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (
        grown / (20 * 999) < 60
    )  # 39 and what bytearrays keep for their growth; as objects it was 215


def test_with_too_many_in_all_each_session_keeps_its_latest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doubts, "ENTRIES_MAX", 500)
    allowance = Allowance()
    quiet, busy = Doubts(1000, allowance), Doubts(1000, allowance)
    taken(quiet, range(300))
    taken(busy, range(300))
    for each in (quiet, busy):
        each.carry(1001, 0.0)
    assert repeated(quiet, range(300)) == list(range(300)), (
        "it publishes nothing: nothing of it goes"
    )
    assert len(repeated(busy, range(300))) < 300
    assert repeated(busy, range(300 - doubts.CROWDED, 300)) == list(range(268, 300))
    quiet.ended()
    busy.ended()
    assert allowance.entries == 0


def test_what_is_carried_waits_for_its_repetition_behind_a_window_of_new_ones() -> None:
    session = Doubts(10)
    taken(session, range(10))
    session.carry(11, 0.0)
    taken(session, range(100, 110))
    assert repeated(session, range(10)) == list(range(10))


@pytest.mark.parametrize("seed", range(30))
def test_an_identifier_is_found_where_it_is_one_and_nowhere_else(seed: int) -> None:
    rng = random.Random(seed)
    rows = Uncertain()
    known: list[tuple[int, bytes]] = []
    for commit in range(1, 60):
        packed = b""
        for _ in range(rng.randint(0, 4)):
            entry = bytes(
                rng.choice((0, 0, 1, 2)) for _ in range(ENTRY_BYTES)
            )  # much that looks alike
            packed += entry
            known.append((commit, entry))
        if packed:
            rows.add(commit, packed, first_time=True, sealed_at=0.0)
        if rows and rng.random() < 0.1:
            oldest = rows.group(0)
            known = known[oldest.entries :]
            rows.drop(1)
    assert rows.count == len(known)
    for high in range(3):
        for low in range(3):
            entry_id = bytes((high, low))
            expected = [(c, e[2:]) for c, e in reversed(known) if e[:2] == entry_id]
            assert list(rows.newest_with(high << 8 | low, len(known))) == expected
