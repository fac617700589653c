"""Who sends next: by weight in bytes, and at once for who comes back with live data."""

from __future__ import annotations

from collections import Counter
from typing import cast

from headwater.edge.uplink.lane import Lane
from headwater.edge.uplink.turns import Turns


class Stub:
    def __init__(self, name: str, *, is_live: bool, weight: int = 5) -> None:
        self.name = name
        self.is_live = is_live
        self.weight = weight


def _lane(name: str, *, is_live: bool = False, weight: int = 5) -> Lane:
    return cast("Lane", Stub(name, is_live=is_live, weight=weight))


def _serve(turns: Turns, sizes: dict[Lane, int], rounds: int) -> Counter[Lane]:
    """One batch a request."""
    sent: Counter[Lane] = Counter()
    for _ in range(rounds):
        lane = next(turns.round())
        turns.charge(lane, sizes[lane])
        sent[lane] += sizes[lane]
    return sent


def test_live_and_backlog_share_by_weight_in_bytes() -> None:
    live, backlog = _lane("live", is_live=True), _lane("backlog")
    turns = Turns(live=70, backlog=30)
    for lane in (live, backlog):
        assert turns.offer(lane)
        assert not turns.offer(lane)
    sent = _serve(turns, {live: 1_000, backlog: 50_000}, 20_000)
    assert 0.68 < sent[live] / sent.total() < 0.72


def test_live_data_that_come_back_go_first_and_have_saved_nothing_up() -> None:
    live, backlog = _lane("live", is_live=True), _lane("backlog")
    turns = Turns(live=70, backlog=30)
    turns.offer(backlog)
    _serve(turns, {backlog: 50_000}, 1_000)
    turns.offer(live)
    assert next(turns.round()) is live
    sent = _serve(turns, {live: 50_000, backlog: 50_000}, 100)
    assert 0.65 < sent[live] / sent.total() < 0.75


def test_alone_either_takes_all() -> None:
    backlog = _lane("backlog")
    turns = Turns(live=70, backlog=30)
    turns.offer(backlog)
    assert _serve(turns, {backlog: 10}, 5)[backlog] == 50
    turns.leave(backlog)
    assert not turns
    assert list(turns.round()) == []


def test_streams_share_by_priority() -> None:
    high, low = _lane("high", weight=9), _lane("low", weight=3)
    turns = Turns(live=70, backlog=30)
    turns.offer(low)
    turns.offer(high)
    sent = _serve(turns, {high: 1_000, low: 1_000}, 1_200)
    assert sent[high] == 3 * sent[low]


def test_a_round_names_each_lane_once_and_none_that_left_meanwhile() -> None:
    lanes = [_lane(str(n), is_live=n % 2 == 0) for n in range(6)]
    turns = Turns(live=70, backlog=30)
    for lane in lanes:
        turns.offer(lane)
    seen = []
    for lane in turns.round():
        seen.append(lane)
        turns.leave(lanes[5])
    assert sorted(map(lanes.index, seen)) == [0, 1, 2, 3, 4]


def test_a_live_lane_that_became_history_is_served_as_history() -> None:
    lane, live = _lane("was live", is_live=True), _lane("live", is_live=True)
    turns = Turns(live=70, backlog=30)
    turns.offer(lane)
    lane.is_live = False
    turns.offer(lane)
    turns.offer(live)
    sent = _serve(turns, {lane: 1_000, live: 1_000}, 1_000)
    assert 0.68 < sent[live] / sent.total() < 0.72
