"""The edge's clock: above the floor, steady between `settle`s, and honest about what it knows."""

from __future__ import annotations

from headwater.core.belief import Trust
from headwater.core.clock import ManualClock
from headwater.core.timekeeper import RELEASED_MS, UNDISCIPLINED, Discipline, Timekeeper

NOW = RELEASED_MS + 10**10
KERNEL = Discipline(True, 12, "kernel")


class Board:
    """A machine whose wall clock and whose NTP the test moves."""

    def __init__(self, wall_ms: int) -> None:
        self.clock = ManualClock(wall_ms, boot_ms=5_000)
        self.discipline = UNDISCIPLINED
        self.keeper = Timekeeper(self.clock, boot="0badcafe", look=lambda: self.discipline)

    def ntp(self, wall_ms: int) -> None:
        self.clock.step_wall(wall_ms - self.clock.wall_ms())
        self.discipline = KERNEL

    def look(self) -> bool:
        return self.keeper.observe() and self.keeper.settle()


def test_a_board_without_a_clock_never_says_1970() -> None:
    board = Board(0)
    assert board.keeper.wall_ms() == RELEASED_MS
    assert board.keeper.trust is Trust.FLOOR
    board.clock.advance(60)
    assert board.keeper.wall_ms() == RELEASED_MS + 60_000
    board.look()
    assert board.keeper.wall_ms() == RELEASED_MS + 60_000, "looking again moves nothing"


def test_time_goes_on_from_what_the_log_has_seen() -> None:
    board = Board(RELEASED_MS + 5)
    assert board.keeper.trust is Trust.NONE
    board.keeper.raise_floor(seen_ms=NOW)
    assert (board.keeper.wall_ms(), board.keeper.trust) == (NOW, Trust.FLOOR)
    assert board.keeper.floor_ms == RELEASED_MS, "a clock that nobody set proves nothing"


def test_a_plausible_clock_is_used_but_not_trusted() -> None:
    board = Board(NOW)
    assert (board.keeper.wall_ms(), board.keeper.trusted) == (NOW, False)


def test_synchronisation_is_taken_up_at_settle_and_not_before() -> None:
    board = Board(0)
    board.ntp(NOW)
    assert board.keeper.observe()
    assert board.keeper.wall_ms() == RELEASED_MS
    assert board.keeper.mark.trust is Trust.FLOOR
    assert board.keeper.settle(), "it jumped"
    assert (board.keeper.wall_ms(), board.keeper.trusted) == (NOW, True)
    assert board.keeper.reading().error_ms == 12


def test_a_step_back_of_a_synchronised_clock_is_followed() -> None:
    board = Board(0)
    board.ntp(NOW)
    board.look()
    board.clock.step_wall(-3_600_000)
    assert board.look()
    assert board.keeper.wall_ms() == NOW - 3_600_000
    assert board.keeper.steps == 2


def test_a_clock_that_is_slewed_or_read_twice_changes_nothing() -> None:
    board = Board(NOW)
    board.clock.step_wall(4)
    assert not board.keeper.observe()
    board.clock.step_wall(10)
    assert board.keeper.observe()


def test_a_synchronised_time_below_what_is_known_is_refused() -> None:
    board = Board(NOW)
    board.keeper.raise_floor(seen_ms=NOW, known_ms=NOW)
    board.ntp(NOW - 10**9)
    board.look()
    assert board.keeper.refused == KERNEL
    assert not board.keeper.trusted
    assert board.keeper.wall_ms() >= NOW
    board.ntp(NOW + 5)
    board.look()
    assert board.keeper.refused is None
    assert (board.keeper.wall_ms(), board.keeper.trusted) == (NOW + 5, True)


def test_the_right_time_comes_back_after_an_unsynchronised_clock_ran_ahead() -> None:
    board = Board(0)
    board.keeper.raise_floor(seen_ms=NOW + 10**12, known_ms=NOW - 10)
    assert board.keeper.wall_ms() == NOW + 10**12
    board.ntp(NOW)
    board.look()
    assert (board.keeper.wall_ms(), board.keeper.trusted) == (NOW, True)


def test_a_clock_once_set_stays_known_when_its_source_falls_silent() -> None:
    board = Board(0)
    board.ntp(NOW)
    board.look()
    board.discipline = UNDISCIPLINED
    board.clock.advance(10_000)
    board.clock.step_wall(-(10**9))  # somebody's date command: we know better
    board.look()
    assert (board.keeper.wall_ms(), board.keeper.trusted) == (NOW + 10_000_000, True)
    assert board.keeper.reading().error_ms == 12 + 1_000, "100 ppm of what went by"


def test_who_knows_the_time_may_tell_it() -> None:
    board = Board(0)
    assert not board.keeper.learn(RELEASED_MS - 10**9, error_ms=50, source="server")
    assert board.keeper.learn(NOW, error_ms=50, source="server")
    assert board.keeper.settle()
    assert (board.keeper.wall_ms(), board.keeper.trusted) == (NOW, True)
    assert board.keeper.reading().source == "server"


def test_time_asleep_counts() -> None:
    board = Board(NOW)
    board.clock.sleep_ms(3_600_000)
    assert not board.keeper.observe()
    assert board.keeper.wall_ms() == NOW + 3_600_000
