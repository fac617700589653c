"""One range of an edge partition on its way up: what to send next, what is known to be there, what to do after an answer.

Sans-I/O. It knows no socket, no journal and no clock: `now` is passed in, records come through a `Supply`, and what it
needs from the world it names by `need()`; whoever drives it (steward.py, or the simulation in the tests) does that and
reports back.

    stage    needs        left by
    ASK      DESCRIBE     described(): the broker knows our era -> OPEN; it does not and something may be stored -> LOOK
    LOOK     READ_BACK    looked(): own addresses in the cloud's tail tell where to go on -> OPEN or ERA
    OPEN     -            take(): batches go out, in order, up to the window; any answer but success -> SETTLE
    SETTLE   -            the last batch in flight is answered or lost -> ASK, or DECLARE for a single refused record
    DECLARE  DECLARE      declared(): the loss is durable as a gap record -> ERA behind it
    ERA      (PRODUCER,) (READ_BACK,) SAVE   saved(): the new era is durable -> OPEN

There is one way back from every failure: settle, ask, resume where the broker stands. Of other ranges of its partition
(ranges.py) a flow knows where the next one begins, its own `end`.

Watermarks: `acked` is moved by acks=all answers and by read-back alone; `position` (one past what the broker is known to
hold) by these and by described(); `acked <= position`, and batches in flight begin at `position`. Where they differ, what
the leader showed is read back before anything else is sent: another leader may take over that has none of it, and a broker
that does not know a producer takes what comes without missing what should have come before.

Window: five batches, but one until the broker has acknowledged something of this era since the last doubt, and again one
after `PROVEN_S` of silence. Kafka accepts *any* first sequence from a producer it does not know, so with two batches in
flight the second could be stored without the first.
"""

from __future__ import annotations

from collections import deque

import msgspec

from ...core.backoff import Backoff
from .cursor import EPOCH_MAX, Era, PartitionCursor
from .evidence import Described, Found, Notice, Refusal
from .patience import KEEP_ATTEMPTS, LATE_COPIES_S, PROVEN_S, STUCK_MAX
from .sizing import Sizing
from .stages import Need, Stage
from .supply import Cut, Supply
from .verdicts import Verdict, verdict

_NO_OFFSET = 2**63 - 1


class PartitionFlow:
    """See the module's theory. `cursor` is durable before the flow is made."""

    def __init__(
        self,
        cursor: PartitionCursor,
        supply: Supply,
        *,
        backoff: Backoff,
        fresh: bool,
        window: int = 5,
        records_max: int = 10_000,
        late_copies_s: float = LATE_COPIES_S,
    ) -> None:
        self.cursor = cursor
        self.supply = supply
        self.stage = Stage.ASK
        self.log_end = cursor.acked
        self.retry_at = 0.0
        self.stale_leader = False
        self.last_error = ""
        self.notices: list[Notice] = []
        self.refusal: Refusal | None = None
        self.end: int | None = None
        self.is_held = False  # until late copies are over
        self.strangers: list[int] = []  # ranges found by reading back, to be taken in
        self._position = cursor.acked
        self._unacked: deque[Cut] = deque()
        self._flying = 0
        self._backoff = backoff
        self._window = window
        self._sizing = Sizing(records_max)
        self._plain = False
        # May something we sent be stored without our knowing? After a restart: yes. Fresh: nothing was ever sent.
        self._doubt = not fresh
        self._proven_at: float | None = None
        # Offsets below this may be in a copy that still lands; unknown after a restart.
        self.late_copies_s = late_copies_s
        self._late_until = 0 if fresh else _NO_OFFSET
        self._lost_at: float | None = None
        self._learnt_at = 0.0
        self._attempts = 0
        self._stuck = 0
        self._contradicted = -1  # a position that reading back did not confirm
        self._wants_producer = False
        self._new_identity = cursor.suspect
        self._awaited: Described | None = None  # must be seen below the high watermark
        self._era_origin: int | None = None
        self._era: Era | None = None
        supply.restart(cursor.acked)

    # -- what an observer may ask ------------------------------------------------------------------------------------

    @property
    def acked(self) -> int:
        return self.cursor.acked

    @property
    def position(self) -> int:
        return self._position

    @property
    def flying(self) -> int:
        return self._flying

    @property
    def unacked_bytes(self) -> int:
        return sum(len(cut.payload) for cut in self._unacked)

    @property
    def finished(self) -> bool:
        """It has an end, and all of it is in the cloud for good, or was given up by the journal."""
        if self.end is None or self.acked >= self.end:
            return self.end is not None
        settled = self.stage is Stage.OPEN and self.acked == self._position
        return settled and self.drained and self.supply.wanted >= self.end

    def observe(self, journal_end: int) -> None:
        """How far the journal is durable."""
        self.log_end = max(self.cursor.origin, self._within(journal_end))

    def end_at(self, end: int | None) -> None:
        """Another range begins there, from now on, or (None) no longer."""
        self.end = end
        self.log_end = self._within(self.log_end)
        self.supply.end_at(end)

    def absorb(self, origin: int) -> None:
        """The range before this one is finished, and began there: they are one."""
        self.cursor = msgspec.structs.replace(self.cursor, origin=origin)

    def _within(self, offset: int) -> int:
        return offset if self.end is None else min(offset, self.end)

    @property
    def drained(self) -> bool:
        """Everything durable at the edge is with the broker, as far as known."""
        return (
            not self._unacked and self.supply.first is None and self.supply.wanted >= self.log_end
        )

    def need(self, now: float) -> Need:
        if now < self.retry_at:
            return Need.NOTHING
        if self._lost_at is None:
            self._lost_at = now  # of an earlier process, at the latest now
        if self._outdated(now):
            self._doubt = True
            self.stage = Stage.ASK
        match self.stage:
            case Stage.ASK:
                return Need.DESCRIBE
            case Stage.LOOK:
                return Need.READ_BACK
            case Stage.DECLARE:
                return Need.DECLARE
            case Stage.OPEN:
                return self._need_open()
            case Stage.ERA:
                return self._need_era()
            case Stage.SETTLE:
                return Need.NOTHING

    def _need_open(self) -> Need:
        if self.acked < self._position:
            return Need.READ_BACK  # sent on only when what the leader showed is replicated
        ahead = self.supply.first
        if not self._unacked and ahead is not None and ahead > self._position:
            self._begin_era(ahead)  # the journal jumps: retention or damage, declared there
            return self._need_era()
        return Need.NOTHING

    def _need_era(self) -> Need:
        if self.acked < self._position:
            return Need.READ_BACK  # the old era ends only when all of it is confirmed
        if self._late():
            # a copy of the old era could land before the new one fences it: wait that out, and ask again
            self.retry_at = (self._lost_at or 0.0) + self.late_copies_s
            self.stage, self._era_origin, self._doubt = Stage.ASK, None, True
            self.is_held = True
            return Need.NOTHING
        return Need.PRODUCER if self._wants_producer else Need.SAVE

    # -- sending -----------------------------------------------------------------------------------------------------

    def sendable(self, now: float) -> bool:
        if self.stage is not Stage.OPEN or now < self.retry_at or self.acked < self._position:
            return False
        if self._outdated(now):
            return False
        if self._flying >= self._room(now):
            return False
        if self._flying < len(self._unacked):
            return True
        ahead = self.supply.first
        return ahead is not None and ahead == self._tail() and self.supply.ripe(now)

    def take(self, now: float) -> Cut | None:
        """The next batch to put on the wire to the leader, after all taken before it."""
        if not self.sendable(now):
            return None
        if self._flying < len(self._unacked):
            cut = self._unacked[self._flying]
        else:
            cut = self.supply.cut(
                self.cursor.era,
                label=self.cursor.origin,
                records_max=self._sizing.records,
                plain=self._plain,
            )
            assert cut.first == self._tail(), "a cut that does not follow would break the era"
            self._unacked.append(cut)
        cut.flying, cut.code = True, None
        self._flying += 1
        return cut

    def _late(self) -> bool:
        """May a copy of a request still land that holds something not yet acknowledged?"""
        over_at = (self._lost_at or 0.0) + self.late_copies_s
        return self.acked < self._late_until and self._learnt_at < over_at

    def _outdated(self, now: float) -> bool:
        """Late copies are over: ask once more, and what is learnt now is final."""
        if self.stage is not Stage.OPEN or self._flying or self._lost_at is None:
            return False
        return self._late() and now >= self._lost_at + self.late_copies_s

    def _tail(self) -> int:
        return self._unacked[-1].next_offset if self._unacked else self._position

    def _room(self, now: float) -> int:
        proven = self._proven_at is not None and now - self._proven_at < PROVEN_S
        return self._window if proven else 1

    # -- answers -----------------------------------------------------------------------------------------------------

    def answered(
        self, cut: Cut, code: int, base_offset: int, now: float, *, message: str = ""
    ) -> None:
        """The broker's answer to `cut`. `base_offset` is the cloud's, -1 where it did not say."""
        if not cut.flying:
            return
        cut.flying = False
        self._flying -= 1
        if verdict(code) is Verdict.DONE:
            self._confirm(cut.next_offset, base_offset + cut.count if base_offset >= 0 else None)
            self._proven_at = now
            self._attempts = self._stuck = 0
            self._backoff.reset()
            self.last_error = ""
            self._sizing.accepted(cut)
        else:
            cut.code, cut.message = code, message
            self._doubt = True
            self.stage = Stage.SETTLE
        if self.stage is Stage.SETTLE and not self._flying:
            self._settled(now)

    def lost(self, now: float) -> None:
        """The connection is gone: what was in flight may or may not be stored."""
        if not self._flying:
            return
        for cut in self._unacked:
            if cut.flying:
                cut.flying = False
                self._late_until = max(self._late_until, cut.next_offset)
        self._lost_at = now
        self._flying = 0
        self._doubt = True
        self.stage = Stage.SETTLE
        self._settled(now)

    def _confirm(self, next_offset: int, floor: int | None = None) -> None:
        """All below `next_offset` is stored and replicated."""
        while self._unacked and self._unacked[0].next_offset <= next_offset:
            cut = self._unacked.popleft()
            if cut.flying:  # acknowledged by a later one's answer
                cut.flying = False
                self._flying -= 1
        self._position = max(self._position, next_offset)
        self.cursor = self.cursor.moved(max(self.acked, next_offset), floor)

    def _settled(self, now: float) -> None:
        """Nothing is in flight; the first batch that was answered with an error says why."""
        self.stage = Stage.ASK
        failed = next((cut for cut in self._unacked if cut.code is not None), None)
        self._attempts += 1
        if failed is None or failed.code is None:
            self._release()
            return
        code, kind = failed.code, verdict(failed.code)
        self.last_error = failed.message or f"kafka error {code}"
        head = failed is self._unacked[0]
        match kind:
            case Verdict.REFUSED if head:
                self._refused(failed, code)
                return
            case Verdict.PLAIN:
                self._plain = True
                self._recut()
            case Verdict.IDENTITY:
                self._new_identity = True
            case Verdict.SEQUENCE if head:
                self._stuck += 1
            case Verdict.LEADER:
                self.stale_leader = True
            case Verdict.BLOCKED:
                self.notices.append(Notice("uplink blocked", self.last_error))
        self.retry_at = now + self._backoff.next()
        self._release()

    def _refused(self, cut: Cut, code: int) -> None:
        if cut.count > 1:
            self._sizing.refused(cut, code)
            self._recut()
            return
        if self._late():
            self._doubt = self.is_held = True
            self.retry_at = (self._lost_at or 0.0) + self.late_copies_s
            return  # the era that follows would have to wait; declare the loss once, not twice
        self.refusal = Refusal(cut.first, cut.first, code, self.last_error)
        self.stage = Stage.DECLARE

    def _release(self) -> None:
        if self._attempts >= KEEP_ATTEMPTS:
            self._recut()

    def _recut(self) -> None:
        """Give back the bytes; the same offsets are read and cut again. Safe within an era, see the package's theory."""
        self._unacked.clear()
        self.supply.restart(self._position)

    # -- asking the broker -------------------------------------------------------------------------------------------

    def failed(self, now: float, message: str) -> None:
        """What was needed could not be had; try again after a pause."""
        self.last_error = message
        self.retry_at = now + self._backoff.next()

    def described(self, found: Described | None, asked_at: float) -> None:
        """The leader's answer about our producer id, as of then or later; None where it does not know it."""
        if self.stage is not Stage.ASK:
            return
        era = self.cursor.era
        self._proven_at = None
        self._learnt_at = asked_at
        if self._new_identity or self._stuck >= STUCK_MAX or (found and found.epoch > era.epoch):
            self._leave_era(found)
        elif found is None or (found.epoch == era.epoch and found.last_sequence < 0):
            if self._doubt or self.acked < self._position:
                self._position = self.acked
                self._awaited = None
                self.stage = Stage.LOOK
            else:
                self._resume(self._position)
        elif found.epoch < era.epoch:
            self._resume(era.origin)  # nothing of this era is stored: its first batch will be
        else:
            shown = era.next_offset(found.last_sequence, near=self._position)
            self._resume(self._within(shown))

    def _leave_era(self, found: Described | None) -> None:
        """This era cannot go on; what of it, or of a later one, is stored must be seen before the next."""
        era = self.cursor.era
        self._awaited = None
        if found is not None and found.epoch > era.epoch:
            # an older cursor came back (a damaged file), or this device's disk was cloned
            self.notices.append(Notice("uplink identity used by another", f"{found}, here {era}"))
            self._new_identity = True
            self._awaited = found
        elif found is not None and found.epoch == era.epoch:
            shown = self._within(era.next_offset(found.last_sequence, near=self._position))
            self._awaited = found if shown > self.acked else None
        self.stage = Stage.LOOK

    def _resume(self, position: int) -> None:
        if position > self.log_end:
            detail = f"cloud holds up to {position}, the journal ends at {self.log_end}"
            self.notices.append(Notice("uplink journal lost acknowledged records", detail))
            self._position = self.log_end
            self.cursor = self.cursor.moved(self.log_end)
            self._recut()
            self._begin_era(self.log_end)
            return
        if position < self.acked:
            detail = f"acknowledged up to {self.acked}, the cloud holds up to {position}"
            self.notices.append(Notice("uplink cloud lost acknowledged records", detail))
            self.cursor = self.cursor.moved(position)
        while self._unacked and self._unacked[0].next_offset <= position:
            self._unacked.popleft()
        if position > self._position:
            self._stuck = 0
        self._position = position
        if self._unacked and self._unacked[0].first != position:
            self._unacked.clear()  # a copy of another cut came through
        for cut in self._unacked:
            cut.code = None
        if not self._unacked and self.supply.first != position:
            self.supply.restart(position)
        self._doubt = self.is_held = False
        self.stage = Stage.OPEN

    # -- reading back ------------------------------------------------------------------------------------------------

    def looked(self, found: Found, now: float) -> None:
        """Own addresses between `floor` and the high watermark."""
        if found.remade:  # the floor was another log's
            self.cursor = self.cursor.moved(self.acked, 0)
        if self.stage is Stage.LOOK and self._awaited not in {None, found.last}:
            self.stage = Stage.ASK
            self.failed(now, "what the leader showed is not replicated yet")
        elif self.stage is Stage.LOOK:
            self._looked_in_doubt(found)
        else:
            self._looked_to_confirm(found, now)

    def _looked_in_doubt(self, found: Found) -> None:
        seen = found.reach(self.cursor.origin, self.acked)
        if found.truncated and seen is None:
            detail = f"from {self.acked} on may be sent twice; their addresses tell"
            self.notices.append(Notice("uplink cannot tell what the cloud had", detail))
        position = self.acked if seen is None else self._within(seen)
        floor = None if seen is None else found.cloud_offset
        if strangers := found.strangers(position, self.end):
            # only a newer cursor than ours can have opened them: nothing is sent before all is durable again
            self.notices.append(Notice("uplink cursor was an older copy", f"ranges at {strangers}"))
            self.strangers, self._new_identity = strangers, True
            self.end_at(strangers[0])
        stuck, identity = self._stuck >= STUCK_MAX, self._new_identity
        if identity:
            # the floor stays where it is, below what is awaited, until the new era is acknowledged
            position, floor = min(position, self.log_end), None
        self.cursor = self.cursor.moved(position, floor)
        self._resume(position)
        if self.stage is Stage.OPEN and (stuck or identity):
            self._wants_producer = identity
            self._begin_era(position)

    def _looked_to_confirm(self, found: Found, now: float) -> None:
        seen = found.reach(self.cursor.origin, self.acked)
        if seen is not None and self._within(seen) == self._position:
            self._confirm(self._position, found.cloud_offset)
        elif found.truncated and seen is None:
            self._confirm(self._position)  # stored, and by now so old that the cloud retired it
        elif self.stage in {Stage.OPEN, Stage.ERA} and not self._flying:
            if seen is not None and self._contradicted == self._position < seen:
                self._new_identity = True  # a range that we do not know goes on where our era ends
            self.stage, self._era_origin, self._contradicted = Stage.ASK, None, self._position
            self.failed(now, "what the leader showed is not what is replicated")

    # -- eras --------------------------------------------------------------------------------------------------------

    def _begin_era(self, origin: int) -> None:
        self._era_origin = origin
        self.stage = Stage.ERA
        self._wants_producer = self._wants_producer or self.cursor.era.epoch >= EPOCH_MAX
        self._era = None

    def declared(self) -> None:
        """The refused record's gap is durable."""
        if self.stage is Stage.DECLARE and self.refusal is not None:
            self._begin_era(self.refusal.last + 1)
            self.refusal = None

    def producer(self, producer_id: int, epoch: int) -> None:
        """A producer id that nobody used before."""
        if self.stage is Stage.ERA and self._era_origin is not None:
            self._era = Era(producer_id, epoch, self._era_origin)
            self._wants_producer = False

    def next_cursor(self) -> PartitionCursor:
        """What SAVE must make durable: the cursor with the era that is about to begin."""
        if self.stage is not Stage.ERA or self._era_origin is None:
            return self.cursor
        old = self.cursor
        era = self._era or Era(old.era.producer_id, old.era.epoch + 1, self._era_origin)
        return msgspec.structs.replace(old, era=era, acked=era.origin, suspect=False)

    def saved(self, cursor: PartitionCursor) -> None:
        """`next_cursor()` is durable, and no earlier one can come back but by damage."""
        if self.stage is not Stage.ERA or cursor != self.next_cursor():
            return
        self.cursor = cursor
        self._position = cursor.acked
        self._era_origin = self._era = None
        self._new_identity = self._doubt = False
        self._attempts = self._stuck = 0
        self._proven_at = None
        if self.supply.first != cursor.acked or self._unacked:
            self._recut()
        self.stage = Stage.OPEN
