"""The edge's own clock: the system's, held above a floor, changing only where it says so.

    wall = boot time + offset        the offset is the *belief*; it changes in `settle` alone

`observe` looks at the system's clock and at who set it, and proposes; `settle` takes the proposal up. Between the two lie
at most a second and the rest of the open commit, in which records are stamped under the old belief and say so: nothing is
lost by being late, for what repair needs is which belief was used, not whether it was right.

The floor: it cannot be earlier than this code, nor than what the log already holds. A clock below it (a board without
one starts at 1970, or at the date of its image) does not count; time goes on from the floor instead.
- A clock that *nobody* set must be above everything the log has seen.
- A clock that NTP set must be above the release and above every synchronised time of the log only: where an earlier
  unsynchronised clock ran ahead (a dead RTC battery says 2099), the right time must be able to come back.
- Where even a synchronised time was in the future, `floor_from_log = false` (edge.time) is the way out.
A synchronised clock below its floor is refused: NTP servers have served plausible dates of years past.

Knows nothing of files, logs or networks: a clock and a `look` that tells who set it are passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .belief import Mark, Trust
from .clock import Clock

# No copy of this code runs before it was written. 2026-01-01T00:00:00Z; moved with releases, never beyond one.
RELEASED_MS = 1_767_225_600_000
# Two clocks read one after the other differ by a few microseconds, by a few milliseconds where we were put aside.
STEP_MS = 10
_READ_ATTEMPTS = 3
# What a crystal may be off by where nothing disciplines it: 100 ppm is a cheap one, hot or cold.
DRIFT_PPM = 100


class Discipline(NamedTuple):
    """Who set the system's clock. `error_ms`: the most it may be off, by its own account."""

    synchronised: bool
    error_ms: int
    source: str


UNDISCIPLINED = Discipline(False, 0, "")


class Reading(NamedTuple):
    """One moment under the belief: what an anchor says."""

    mark: Mark
    boot_ms: int
    wall_ms: int
    error_ms: int
    source: str


class _Belief(NamedTuple):
    trust: Trust
    offset_ms: int
    source: str


class _Learnt(NamedTuple):
    """The time as somebody told us: `offset_ms` at `boot_ms`, off by at most `error_ms` then."""

    offset_ms: int
    boot_ms: int
    error_ms: int
    source: str


class Timekeeper:
    """Implements Clock and KnownTime. `boot`: the boot's identity, its first 8 hex digits. `since_ms`: where its time
    begins on the clock; not 0 where the machine's boot cannot be told from others."""

    def __init__(
        self,
        clock: Clock,
        *,
        boot: str,
        look: Callable[[], Discipline] = lambda: UNDISCIPLINED,
        floor_ms: int = RELEASED_MS,
        since_ms: int = 0,
    ) -> None:
        self._since_ms = since_ms
        self._clock = clock
        self._look = look
        self._boot = boot
        self._floor_ms = floor_ms  # for whoever claims to know
        self._seen_ms = floor_ms  # for a clock that nobody set
        self._learnt: _Learnt | None = None
        self._error_ms = 0
        self.refused: Discipline | None = None
        self.steps = 0
        self._belief = _Belief(Trust.NONE, 0, "")
        self._proposal = self._belief = self._judge()

    # -- the time ---------------------------------------------------------------------------------------------------

    def wall_ms(self) -> int:
        return self._clock.boot_ms() - self._since_ms + self._belief.offset_ms

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def boot_ms(self) -> int:
        return self._clock.boot_ms() - self._since_ms

    @property
    def trust(self) -> Trust:
        return self._belief.trust

    @property
    def trusted(self) -> bool:
        return self._belief.trust is Trust.SYNCHRONISED

    @property
    def floor_ms(self) -> int:
        """What nobody may go below, however well he claims to know."""
        return self._floor_ms

    @property
    def mark(self) -> Mark:
        return Mark(self._boot, self._belief.trust, self._belief.offset_ms)

    def reading(self) -> Reading:
        boot_ms = self.boot_ms()
        wall_ms = boot_ms + self._belief.offset_ms
        return Reading(self.mark, boot_ms, wall_ms, self._error_ms, self._belief.source)

    # -- what is known ----------------------------------------------------------------------------------------------

    def raise_floor(self, *, seen_ms: int = 0, known_ms: int = 0) -> None:
        """What the log holds: the latest time in it, and the latest that was synchronised. Before anything is stamped."""
        self._floor_ms = max(self._floor_ms, known_ms)
        self._seen_ms = max(self._seen_ms, seen_ms, self._floor_ms)
        self.observe()
        self.settle()

    def learn(self, wall_ms: int, *, error_ms: int, source: str) -> bool:
        """Somebody who knows tells the time (a GPS, a server whose certificate holds). False: below the floor, refused."""
        if wall_ms + error_ms < self._floor_ms:
            return False
        boot_ms = self.boot_ms()
        self._learnt = _Learnt(wall_ms - boot_ms, boot_ms, error_ms, source)
        self.observe()
        return True

    def observe(self) -> bool:
        """Look at the system's clock; True where the belief should change: then call `settle` between two commits."""
        found = self._judge()
        now = self._belief
        near = abs(found.offset_ms - now.offset_ms) < STEP_MS
        if found.trust is now.trust and found.source == now.source and near:
            found = now
        self._proposal = found
        return found is not now

    def settle(self) -> bool:
        """Take up what `observe` proposed; True where the wall time jumped."""
        old, self._belief = self._belief, self._proposal
        jumped = abs(old.offset_ms - self._belief.offset_ms) >= STEP_MS
        self.steps += jumped
        return jumped

    def _judge(self) -> _Belief:
        offset_ms, boot_ms = self._system()
        discipline = self._look()
        self.refused = None
        if discipline.synchronised:
            if boot_ms + offset_ms >= self._floor_ms:
                # remembered: it stays known, ever less exactly, when whoever set it falls silent
                self._learnt = _Learnt(offset_ms, boot_ms, discipline.error_ms, discipline.source)
            else:
                self.refused = discipline
        if (learnt := self._learnt) is not None:
            self._error_ms = learnt.error_ms + (boot_ms - learnt.boot_ms) * DRIFT_PPM // 1_000_000
            return _Belief(Trust.SYNCHRONISED, learnt.offset_ms, learnt.source)
        if boot_ms + offset_ms >= self._seen_ms:
            return _Belief(Trust.NONE, offset_ms, "")
        return _Belief(Trust.FLOOR, self._above_floor(boot_ms), "")

    def _above_floor(self, boot_ms: int) -> int:
        """The offset that begins at the floor, or goes on where one that did is still above it."""
        held = self._belief
        if held.trust is Trust.FLOOR and boot_ms + held.offset_ms >= self._seen_ms:
            return held.offset_ms
        return self._seen_ms - boot_ms

    def _system(self) -> tuple[int, int]:
        """(wall − boot, boot) of the system's clock, read close together."""
        best = None
        for _ in range(_READ_ATTEMPTS):
            before = self.boot_ms()
            wall_ms = self._clock.wall_ms()
            apart = self.boot_ms() - before
            if best is None or apart < best[0]:
                best = (apart, wall_ms - before, before)
            if apart <= 1:
                break
        assert best is not None
        return best[1], best[2]
