"""Shaping: rate, budget, window, priorities; the day and its survival."""

from __future__ import annotations

import pytest

from headwater.core.clock import ManualClock
from headwater.core.errors import Misconfigured, Refused
from headwater.core.units import ByteSize
from headwater.edge.uplink.daybook import Daybook
from headwater.edge.uplink.limits import LinkClass, ShapingSettings, WithoutClock, Zone
from headwater.edge.uplink.shaping import Reading, Shaper, Waits
from headwater.edge.uplink.windows import DAY_S, Windows

MIDNIGHT_MS = 19_000 * DAY_S * 1000
HOUR_S = 3600.0


class Known:
    """A clock that may be believed or not."""

    def __init__(self, clock: ManualClock) -> None:
        self.trusted = False
        self.floor_ms = 0
        self.wall_ms = clock.wall_ms


def _clock(hour: float = 12.0) -> ManualClock:
    return ManualClock(MIDNIGHT_MS + int(hour * 3_600_000))


def _why(shaper: Shaper, priority: int, now: float) -> Waits | None:
    hold = shaper.hold(priority, now)
    return hold.why if hold else None


def _advance(clock: ManualClock, seconds: float) -> float:
    clock.advance(seconds)
    return clock.monotonic()


# -- windows


@pytest.mark.parametrize(
    ("text", "hour", "is_open", "changes_in_h"),
    [
        ("", 3, True, None),
        ("01:00-05:00", 3, True, 2),
        ("01:00-05:00", 5, False, 20),
        ("01:00-05:00", 1, True, 4),
        ("22:00-02:00", 23, True, 3),
        ("22:00-02:00", 1, True, 1),
        ("22:00-02:00", 2, False, 20),
        ("00:00-24:00", 2, True, None),
        ("01:00-02:00,02:00-03:00", 1, True, 2),
        ("1:00-2:00, 13:00-14:00", 13, True, 1),
    ],
)
def test_a_window_is_open_until(
    text: str, hour: int, is_open: bool, changes_in_h: int | None
) -> None:
    windows = Windows.parse(text)
    assert windows.is_open(hour * 3600) is is_open
    changes = windows.changes_in(hour * 3600)
    assert changes == (None if changes_in_h is None else changes_in_h * 3600)


@pytest.mark.parametrize("text", ["1-5", "25:00-26:00", "01:00-01:00", "01:00", "24:30-25:00", ","])
def test_a_window_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured):
        ShapingSettings(window=text)


def test_low_priorities_wait_for_the_window_and_are_told_until_when() -> None:
    clock = _clock(0.5)
    shaper = Shaper(ShapingSettings(window="01:00-05:00", zone=Zone.UTC), clock=clock)
    hold = shaper.hold(3, 0.0)
    assert hold is not None
    assert hold.why is Waits.WINDOW
    assert hold.until == pytest.approx(1800)
    assert shaper.hold(4, 0.0) is None
    assert shaper.hold(3, _advance(clock, 1800)) is None
    assert _why(shaper, 3, _advance(clock, 4 * HOUR_S)) is Waits.WINDOW


def test_the_zone_says_whose_time_of_day() -> None:
    settings = ShapingSettings(window="01:00-05:00", zone=Zone.LOCAL)
    shaper = Shaper(settings, clock=_clock(23), offset_s=lambda _: 3 * 3600)
    assert shaper.hold(0, 0.0) is None


def test_without_a_clock_the_window_is_as_the_owner_says() -> None:
    for without, why in ((WithoutClock.CLOSED, Waits.WINDOW), (WithoutClock.OPEN, None)):
        settings = ShapingSettings(window="01:00-05:00", without_clock=without, zone=Zone.UTC)
        clock = _clock(3)
        known = Known(clock)
        shaper = Shaper(settings, clock=clock, known=known)
        assert _why(shaper, 0, 0.0) is why
        known.trusted = True
        assert _why(shaper, 0, _advance(clock, 2)) is None


# -- rate


def test_the_rate_holds_over_time_though_a_batch_overdraws() -> None:
    clock = _clock()
    shaper = Shaper(ShapingSettings(rate=ByteSize(1000), burst=ByteSize(4096)), clock=clock)
    sent, now = 0, 0.0
    while now < 100:
        hold = shaper.hold(5, now)
        if hold is None:
            shaper.sent(3000, now)
            sent += 3000
        else:
            assert hold.why is Waits.RATE
            now = hold.until
    assert 100_000 - 3000 <= sent <= 100_000 + 4096 + 3000


def test_what_the_kernel_counted_takes_the_place_of_what_was_charged() -> None:
    clock = _clock()
    shaper = Shaper(ShapingSettings(rate=ByteSize(1000), burst=ByteSize(4096)), clock=clock)
    shaper.sent(4000, 0.0)
    shaper.observe(Reading(sent=1000, received=100, queued=9000), 0.0)
    hold = shaper.hold(5, 0.0)
    assert hold is not None, "6,000 more than was charged"
    assert hold.until == pytest.approx(5.904)
    shaper.observe(Reading(sent=10_000, received=100, queued=0), 0.0)
    assert shaper.hold(5, 0.0) == hold, "the same bytes, now out of the queue"


def test_a_broker_that_asks_for_silence_gets_it() -> None:
    shaper = Shaper(ShapingSettings(), clock=_clock())
    shaper.throttled(0, 0.0)
    assert shaper.hold(9, 0.0) is None
    shaper.throttled(1500, 0.0)
    assert shaper.hold(10, 1.4) == (Waits.THROTTLED, 1.5)
    assert shaper.hold(0, 1.5) is None


# -- budgets


def test_a_budget_is_spent_and_the_rest_kept_for_alarms_until_midnight() -> None:
    settings = ShapingSettings(budget_metered=ByteSize(1000), zone=Zone.UTC)
    clock = _clock(23)
    shaper = Shaper(settings, clock=clock)
    shaper.carried_by(LinkClass.METERED, "wwan0")
    shaper.observe(Reading(sent=700, received=99), 0.0)
    assert shaper.hold(0, 0.0) is None
    shaper.sent(1, 0.0)
    assert _why(shaper, 6, 0.0) is Waits.RESERVE
    assert shaper.hold(7, 0.0) is None
    shaper.observe(Reading(sent=900, received=100), 0.0)
    hold = shaper.hold(9, 0.0)
    assert hold is not None
    assert (hold.why, hold.until) == (Waits.BUDGET, HOUR_S)
    assert shaper.hold(0, _advance(clock, HOUR_S)) is None
    assert shaper.daybook.spent(LinkClass.METERED) == 0


def test_each_link_class_has_its_own_budget() -> None:
    shaper = Shaper(ShapingSettings(budget_metered=ByteSize(100)), clock=_clock())
    shaper.observe(Reading(sent=5000, received=0), 0.0)
    shaper.carried_by(LinkClass.METERED, "ppp0")
    assert shaper.hold(0, 0.0) is None
    shaper.observe(Reading(sent=5101, received=0), 0.0)
    assert _why(shaper, 0, 0.0) is Waits.BUDGET
    shaper.carried_by(LinkClass.WIFI, "wlan0")
    assert shaper.hold(0, 0.0) is None
    budgets = {budget.link: budget for budget in shaper.status(0.0).budgets}
    assert budgets[LinkClass.METERED].left == 0
    assert budgets[LinkClass.ETHERNET].spent == 5000


def test_a_restart_neither_resets_the_day_nor_forgets_what_a_power_cut_hid() -> None:
    limits = {LinkClass.METERED: 1_000_000}
    book = Daybook(limits)
    book.turn(19_000, 0.0)
    spent = 0
    for _ in range(500):
        book.spend(LinkClass.METERED, 1500)
        spent += 1500
        if book.is_due:
            data = book.encode()
        after = Daybook.read(limits, data)  # a power cut here
        after.turn(19_000, 0.0)
        assert spent <= after.spent(LinkClass.METERED) <= spent + 16_384
    exact = Daybook.read(limits, book.encode(exact=True))
    assert exact.spent(LinkClass.METERED) == spent
    exact.turn(19_001, 0.0)
    assert exact.spent(LinkClass.METERED) == 0


def test_entries_are_few() -> None:
    book = Daybook({LinkClass.METERED: 10_000_000})
    entries = 0
    for _ in range(10_000):
        book.spend(LinkClass.METERED, 1000)
        if book.is_due:
            book.encode()
            entries += 1
    assert entries <= 210


def test_a_day_that_nobody_knows_is_24_hours_of_running() -> None:
    limits = {LinkClass.METERED: 100}
    book = Daybook(limits)
    book.turn(None, 0.0)
    book.spend(LinkClass.METERED, 90)
    assert not book.turn(None, DAY_S - 1.0)
    again = Daybook.read(limits, book.encode(exact=True))  # restarted: the monotonic clock too
    assert not again.turn(None, 5.0)
    assert again.spent(LinkClass.METERED) == 90
    assert not again.turn(19_000, 5.5), "a day that becomes known is the one under way"
    assert again.spent(LinkClass.METERED) == 90
    assert again.turn(19_001, 6.0)


def test_a_clock_set_back_does_not_make_money() -> None:
    book = Daybook({LinkClass.METERED: 100})
    book.turn(19_005, 0.0)
    book.spend(LinkClass.METERED, 90)
    assert not book.turn(19_000, 1.0)
    assert book.spent(LinkClass.METERED) == 90
    assert book.turn(19_001, 2.0)


def test_a_damaged_daybook_is_refused() -> None:
    with pytest.raises(Refused):
        Daybook.read({LinkClass.WIFI: 0}, b"\0\0\0")
