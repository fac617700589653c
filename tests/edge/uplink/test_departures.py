"""When little leaves: soon after a silence, seldom in a trickle, together, and never later than was promised."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.edge.uplink.departures import Departures, Patience

PATIENCE = Patience(0.25, 2.0, 8192)
LITTLE = 100


def test_the_first_after_a_silence_waits_for_company_only() -> None:
    departures = Departures()
    assert departures.due(10.0, LITTLE, PATIENCE) == 10.25
    departures.leaves(LITTLE, 10.25, PATIENCE)
    assert departures.due(100.0, LITTLE, PATIENCE) == 100.25


def test_a_trickle_of_several_streams_leaves_at_one_moment() -> None:
    departures = Departures()
    departures.leaves(LITTLE, 10.0, PATIENCE)
    assert {departures.due(at, LITTLE, PATIENCE) for at in (10.1, 10.9, 11.7)} == {12.0}


def test_what_is_worth_a_request_does_not_wait_and_makes_nobody_wait() -> None:
    departures = Departures()
    departures.leaves(PATIENCE.enough_bytes, 10.0, PATIENCE)
    assert departures.due(10.1, LITTLE, PATIENCE) == 10.35
    departures.leaves(LITTLE, 10.0, PATIENCE)
    assert departures.due(10.1, PATIENCE.enough_bytes, PATIENCE) == 10.35


def test_live_data_go_along_while_a_backlog_fills_in() -> None:
    departures = Departures()
    departures.leaves(LITTLE, 10.0, PATIENCE)
    departures.full(10.1)
    assert departures.due(10.2, LITTLE, PATIENCE) == 10.45
    assert departures.due(12.0, LITTLE, PATIENCE) == 12.25
    departures.leaves(LITTLE, 12.25, PATIENCE)
    assert departures.due(12.5, LITTLE, PATIENCE) == 14.25, "it is over"


def test_an_urgent_stream_neither_waits_nor_makes_others_wait() -> None:
    departures, urgent = Departures(), Patience(0.25)
    departures.leaves(LITTLE, 10.0, PATIENCE)
    assert departures.due(10.1, LITTLE, urgent) == 10.35
    departures.leaves(LITTLE, 11.0, urgent)
    assert departures.due(11.1, LITTLE, PATIENCE) == 12.0


@settings(deadline=None)
@given(
    left=st.lists(st.floats(0, 100), max_size=20),
    since=st.floats(0, 100),
    size=st.integers(0, 10_000),
)
def test_nobody_waits_longer_than_the_pause(left: list[float], since: float, size: int) -> None:
    departures = Departures()
    for at in left:
        departures.leaves(LITTLE, at, PATIENCE)
    due = departures.due(since, size, PATIENCE)
    assert since + PATIENCE.linger_s <= due <= since + PATIENCE.pause_s
