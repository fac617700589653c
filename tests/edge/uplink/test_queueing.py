"""The queue before the link, played with links of some rate and round trip: what stands in it stays below the latency."""

from __future__ import annotations

import pytest

from headwater.edge.uplink.queueing import BYTES_MIN, LinkQueue


class PlayedLink:
    """Carries `rate` bytes a second, acknowledges a round trip later, in whole packets."""

    def __init__(self, rate: float, round_trip_s: float) -> None:
        self.rate, self.round_trip_s = rate, round_trip_s
        self.handed = 0
        self.through: list[tuple[float, int]] = []  # (when acknowledged, bytes up to then)
        self.free_at = 0.0

    def hand(self, size: int, now: float) -> float:
        """When the last byte of it will be through."""
        at = max(now, self.free_at)
        for start in range(0, size, 1448):
            packet = min(1448, size - start)
            at += packet / self.rate
            self.handed += packet
            self.through.append((at + self.round_trip_s, self.handed))
        self.free_at = at
        return at

    def acked(self, now: float) -> int:
        return max((total for at, total in self.through if at <= now), default=0)


def _drain(queue: LinkQueue, link: PlayedLink, begin: float, seconds: float) -> list[float]:
    """A backlog without end is handed over for so long; the delay of each batch."""
    now, delays = begin, []
    while now < begin + seconds:
        acked = link.acked(now)
        queue.observe(acked, link.handed - acked, now)
        if queue.room:
            size = min(queue.room, queue.batch_bytes)
            queue.handed(size, now)
            delays.append(link.hand(size, now) - now)
        else:
            now += queue.room_in()
    return delays


@pytest.mark.parametrize("rate", [2_000.0, 8_000.0, 100_000.0, 12_500_000.0])
@pytest.mark.parametrize("round_trip_s", [0.001, 0.05, 0.6])
def test_a_batch_is_through_in_the_latency_and_the_link_is_kept_full(
    rate: float, round_trip_s: float
) -> None:
    queue, link = LinkQueue(2.0), PlayedLink(rate, round_trip_s)
    seconds = 60.0 if rate < 1e6 else 6.0
    delays = _drain(queue, link, 0.0, seconds)
    settled = delays[len(delays) // 4 :]
    assert max(settled) <= max(3.0, 1.5 * BYTES_MIN / rate)
    assert link.acked(seconds) >= 0.8 * rate * (seconds - 2 * round_trip_s - 2)


def test_a_link_that_becomes_slow_is_believed_soon() -> None:
    queue, link = LinkQueue(2.0), PlayedLink(200_000.0, 0.05)
    _drain(queue, link, 0.0, 10.0)
    link.rate = 8_000.0
    _drain(queue, link, 10.0, 120.0)
    assert max(_drain(queue, link, 130.0, 60.0)) < 3.5


def test_a_trickle_does_not_make_a_fast_link_look_slow() -> None:
    queue, link = LinkQueue(2.0), PlayedLink(1e7, 0.01)
    for second in range(100):
        acked = link.acked(float(second))
        queue.observe(acked, link.handed - acked, float(second))
        queue.handed(100, float(second))
        link.hand(100, float(second))
    delays = _drain(queue, link, 100.0, 2.0)
    assert link.handed > 5e6, "up to speed in no time"
    assert max(delays) < 3


def test_without_counts_nothing_is_held_back_for_long() -> None:
    queue = LinkQueue(2.0)
    for turn in range(100):
        queue.observe(turn * 100_000, 0, turn * 0.01)
        assert queue.room
        queue.handed(100_000, turn * 0.01)
