"""Repair: the true time lies within the bounds whenever the fixes were honest; and the named cases, one by one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.core.anchor import Anchor, AnchorReason, trust_name
from headwater.core.belief import Mark, Trust
from headwater.core.timeline import RepairedTime, Timeline, TimeQuality

EPOCH = 1_795_000_000_000
HOUR = 3_600_000


def anchor(
    boot: str, boot_ms: int, offset_ms: int, trust: Trust = Trust.SYNCHRONISED, error_ms: int = 10
) -> Anchor:
    return Anchor(
        edge="e",
        log="l",
        boot=boot,
        boot_ms=boot_ms,
        wall_ms=boot_ms + offset_ms,
        trust=trust_name(trust),
        error_ms=error_ms,
        source="kernel",
        reason=AnchorReason.TICK,
    )


def mark(boot: str, offset_ms: int, trust: Trust = Trust.FLOOR) -> Mark:
    return Mark(boot, trust, offset_ms)


A, B, C, D = "0000000a", "0000000b", "0000000c", "0000000d"


def test_a_record_from_before_synchronisation_is_moved_by_the_whole_error() -> None:
    timeline = Timeline([anchor(A, 0, 5, Trust.FLOOR), anchor(A, HOUR, EPOCH)])
    found = timeline.repair(1000 + 5, mark(A, 5))
    slack = 10 + 360  # 100 ppm of an hour
    assert found.ts_ms == EPOCH + 1000
    assert found.quality is TimeQuality.REPAIRED
    assert (found.lo_ms, found.hi_ms) == (EPOCH + 1000 - slack, EPOCH + 1000 + slack)


def test_a_step_spreads_over_the_time_in_which_it_came_about() -> None:
    """Two hours without NTP, then 400 ms at once: half of it in the middle."""
    timeline = Timeline([anchor(A, 0, EPOCH), anchor(A, 2 * HOUR, EPOCH + 400)])
    synchronised = mark(A, EPOCH, Trust.SYNCHRONISED)
    assert timeline.repair(EPOCH + HOUR, synchronised).ts_ms == EPOCH + HOUR + 200
    assert timeline.repair(EPOCH, synchronised).ts_ms == EPOCH
    late = timeline.repair(EPOCH + 2 * HOUR - 1, synchronised)
    assert abs(late.ts_ms - (EPOCH + 2 * HOUR + 399)) <= 1
    assert late.quality is TimeQuality.SYNCHRONISED


def test_a_step_back_makes_no_conflict_of_honest_fixes() -> None:
    timeline = Timeline([anchor(A, 0, EPOCH, error_ms=500), anchor(A, 100, EPOCH - 600)])
    found = timeline.repair(EPOCH + 50, mark(A, EPOCH, Trust.SYNCHRONISED))
    assert found.quality is TimeQuality.CONFLICT, "600 ms in 100 ms is more than 500 + 10 allow"
    assert (found.lo_ms or 0) <= EPOCH - 610 + 50
    assert (found.hi_ms or 0) >= EPOCH + 500 + 50


def test_a_boot_that_never_knew_lies_between_its_neighbours() -> None:
    timeline = Timeline(
        [
            anchor(A, HOUR, EPOCH),
            anchor(B, 0, 7, Trust.FLOOR),
            anchor(B, HOUR, 7, Trust.FLOOR),
            anchor(C, 0, 9, Trust.NONE),
            anchor(C, 2 * HOUR, 9, Trust.NONE),
            anchor(D, 500, EPOCH + 10 * HOUR),
        ]
    )
    in_b = timeline.repair(1000 + 7, mark(B, 7))
    assert in_b.quality is TimeQuality.BOUNDED
    assert in_b.lo_ms == EPOCH + HOUR - 10 + 999
    slack = 720 + 360  # 100 ppm of two hours, and of one but a second
    assert in_b.hi_ms == EPOCH + 10 * HOUR + 11 - 2 * HOUR - (HOUR - 1000) + slack
    in_c = timeline.repair(1000 + 9, mark(C, 9, Trust.NONE))
    assert in_c.lo_ms == EPOCH + HOUR - 10 + HOUR - 360 + 999
    assert in_c.hi_ms == EPOCH + 10 * HOUR + 11 - (2 * HOUR - 1000) + 720
    assert in_c.ts_ms == in_c.lo_ms, "what it believed, 1970, is brought within"


def test_a_record_later_than_its_boots_last_anchor_ends_before_the_next_boot() -> None:
    timeline = Timeline([anchor(B, 10, 7, Trust.FLOOR), anchor(D, 0, EPOCH)])
    found = timeline.repair(5000 + 7, mark(B, 7))
    assert (found.lo_ms, found.hi_ms) == (None, EPOCH + 10)


def test_what_nothing_is_known_of_stays_as_it_was_believed() -> None:
    believed = RepairedTime(123, None, None, TimeQuality.BELIEVED)
    assert Timeline([]).repair(123, mark(A, 5)) == believed
    assert Timeline([anchor(B, 0, EPOCH)]).repair(123, mark(A, 5)) == believed
    assert Timeline([anchor(B, 0, EPOCH)]).repair(123, None) == believed
    assert Timeline([anchor(A, 0, 5, Trust.NONE)]).repair(123, mark(A, 5)) == believed


class History(list[Anchor]):
    """Boots of one edge as they really were: what the anchors say is true within what they admit."""

    def __init__(self) -> None:
        self.truth: list[tuple[str, int, int]] = []  # (boot, boot ms, true wall ms) of records


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Each boot has its own drift; fixes err by at most what they admit; boots follow one another."""
    history = History()
    wall = EPOCH
    for number in range(draw(st.integers(1, 5))):
        boot = f"{number:08x}"
        ppm = draw(st.integers(-100, 100))
        start, at = wall, 0
        for _ in range(draw(st.integers(1, 6))):
            at += draw(st.integers(1, 30 * HOUR))
            true = start + at + at * ppm // 1_000_000
            history.truth.append((boot, at, true))
            if draw(st.booleans()):
                error = draw(st.integers(2, 2000))
                off = draw(st.integers(-error + 2, error - 2))
                trust = draw(st.sampled_from(Trust))
                believed = true + off if trust is Trust.SYNCHRONISED else draw(st.integers(0, true))
                history.append(anchor(boot, at, believed - at, trust, error))
        wall = start + at + abs(at * ppm // 1_000_000) + draw(st.integers(0, 30 * HOUR))
    return history


@settings(max_examples=400)
@given(history=histories(), offset=st.integers(0, 2 * EPOCH), trust=st.sampled_from(Trust))
def test_the_true_time_lies_within_the_bounds(history: History, offset: int, trust: Trust) -> None:
    timeline = Timeline(history)
    for boot, boot_ms, true in history.truth:
        found = timeline.repair(boot_ms + offset, Mark(boot, trust, offset))
        assert found.quality is not TimeQuality.CONFLICT
        # some milliseconds: this test rounds each drift by itself
        assert found.lo_ms is None or found.lo_ms - 6 <= true
        assert found.hi_ms is None or true <= found.hi_ms + 6
        if found.lo_ms is not None:
            assert found.lo_ms <= found.ts_ms
        if found.hi_ms is not None:
            assert found.ts_ms <= found.hi_ms
