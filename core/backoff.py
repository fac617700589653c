"""Full-jitter exponential back-off (AWS Architecture Blog, 2015): no thundering herd after a restart."""

from __future__ import annotations

import random


class Backoff:
    """`next()` is the next pause in seconds; `reset()` after success. Randomness is passed in."""

    def __init__(self, rng: random.Random, *, first_s: float = 0.1, cap_s: float = 30.0) -> None:
        self._rng = rng
        self._first_s = first_s
        self._cap_s = cap_s
        self._attempts = 0

    @property
    def attempts(self) -> int:
        return self._attempts

    def next(self) -> float:
        ceiling = min(self._cap_s, self._first_s * 2.0 ** min(self._attempts, 30))
        self._attempts += 1
        # never exactly zero: a zero pause in a loop is a busy loop
        return max(self._first_s / 10, self._rng.random() * ceiling)

    def reset(self) -> None:
        self._attempts = 0
