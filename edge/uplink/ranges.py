"""The ranges of one edge partition: live data goes up at once while history fills in behind, and each record still once.

A *range* is [origin, end) of the partition's offsets. Ranges are disjoint and leave nothing out: the first begins at 0,
each ends where the next begins, the last (the *live* one) has no end. Each has a flow of its own (partition.py): its own
producer identity, so its own sequence numbers, to the same cloud partition. Without a backlog there is one range, and all
of this costs nothing.

*The label.* A record that is sent in a range whose origin is not 0 carries that origin in the header `hw.range`. A record at
offset `o` labelled `L` is a statement: **all of [L, o] that the journal did not give up lies in the cloud partition, not
after this record.** It holds when the record is sent (a flow sends in order, on top of what is stored) and for ever after.
Whoever reads the cloud partition (reading back here, the sink's ledger there) needs nothing else: what is covered is the
union of [L, o] over all records seen, and a record is new exactly if its offset is not covered.

*Opening.* When the live range is far behind, or has to wait until late copies are over (a gap after a restart): at the
journal's durable end `e` nothing from `e` on was ever sent. The live range gets the end `e` at once, in memory; a range from
`e` on, under a producer id that was never used, is written into the cursor file; then it may be used. A live range that
has sent nothing since it was opened is not split again, and there is a limit to how many ranges there are, so a link
that comes and goes cannot make more of them. A backlog that an outage left waits for either no longer than it must:
it is split in the moment in which that is possible (lanes.py).

*Merging.* A range is finished when all below its end is in the cloud for good or was given up by the journal (and declared).
Then the next one takes over its origin, and so its label; its producer identity stays. That is what the label means:
everything below is there. It need not be durable first: who knows the range still finds it finished.

*Order of work.* The live range and the first one are sent, by weight; those between wait. So progress is contiguous from
below, which is what lets the journal's oldest segments go.

What may happen                and then
crash between writing and use  the range is there and empty; asking (nothing known, nothing found) opens it at its origin
writing failed, or did it?     the end is taken back; if it was written after all, the next save undoes it, and a crash
                               before that finds by label what was sent (a flow believes no position beyond its end)
an older cursor came back      it is *suspect* (cursor.py): each flow reads back before it sends, and not before a minute is
                               over, in which late copies land and what a leader took is replicated or undone. Labels
                               inside its range that it does not know are ranges that were opened since: they are taken
                               in (`adopt`), suspect themselves, and all of it is durable before anything is sent
... and nobody knows           the broker knows its era and it resumes there. It may send again what a range it forgot had
                               sent: lost is nothing, and what is covered the sink drops. Where it comes to the forgotten
                               range's origin and more is stored than its era shows, it goes on behind, as another era
both cursors lost              as a cluster never met, reading back from the oldest record held; ranges found are taken in
another cluster                has its own ranges in its own cursor
producer state expired         each flow reads back by itself; by their labels siblings' records do not confuse it
a gap inside a range           that range's flow begins a new era behind it; the others do not notice. After a restart that
                               waits a minute; live data need not, they get a range of their own
retention overtakes backlog    the first range has nothing left to read below its end: finished. Losses are only what was
                               not sent (`unsent`)
a record refused               its range stands until the loss is declared; the others do not notice
the journal came back shorter  than a range's origin: that range waits for it; the one before is bounded all the same
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .cursor import Era, PartitionCursor
from .partition import PartitionFlow

# The flow of a cursor; fresh: nothing of it was ever sent.
MakeFlow = Callable[[PartitionCursor, bool], PartitionFlow]
_NOBODY = -1


class PartitionRanges:
    """See the module's theory. Owns the flows of one edge partition, in the order of their origins."""

    def __init__(
        self,
        cursors: Sequence[PartitionCursor],
        make: MakeFlow,
        *,
        fresh: bool,
        most: int,
    ) -> None:
        self._make = make
        self._most = most
        self._opening: int | None = None
        self.flows = [make(cursor, fresh) for cursor in cursors]
        self._set_ends()

    def _set_ends(self) -> None:
        for flow, after in zip(self.flows, self.flows[1:], strict=False):
            if flow.end != after.cursor.origin:
                flow.end_at(after.cursor.origin)
        if self._opening is not None and self.live.end != self._opening:
            self.live.end_at(self._opening)  # a range was taken in while the next is being opened

    # -- seen from outside -------------------------------------------------------------------------------------------

    @property
    def live(self) -> PartitionFlow:
        return self.flows[-1]

    @property
    def progress(self) -> int:
        """All below is in the cloud for good, or was given up by the journal."""
        return self.flows[0].acked

    @property
    def acknowledged(self) -> list[tuple[int, int]]:
        """What is in the cloud for good, as [first, next)."""
        held = [(flow.cursor.origin, flow.acked) for flow in self.flows]
        return [(first, after) for first, after in held if after > first]

    def active(self, flow: PartitionFlow) -> bool:
        """Its turn to send has come: it is live, or the first of the backlog."""
        return flow is self.flows[-1] or flow is self.flows[0]

    def cursors(self) -> list[PartitionCursor]:
        """What must survive."""
        return [flow.cursor for flow in self.flows]

    def observe(self, journal_end: int) -> None:
        for flow in self.flows:
            flow.observe(journal_end)

    # -- opening -----------------------------------------------------------------------------------------------------

    def lags(self, behind_max: int) -> bool:
        """Is the live range so far behind, or behind and held up?"""
        live = self.live
        return live.log_end - live.acked > (0 if live.is_held else behind_max)

    @property
    def may_open(self) -> bool:
        """A live range that has sent nothing since it was opened stays the live one, and there may be so many ranges."""
        if self._opening is not None or len(self.flows) >= self._most:
            return False
        return len(self.flows) == 1 or self.live.acked > self.live.cursor.origin

    @property
    def is_opening(self) -> bool:
        """Between `begin_opening` and `open` or `give_up_opening`."""
        return self._opening is not None

    def splits(self, behind_max: int) -> bool:
        """Should a new one be opened, and may it?"""
        return self.may_open and self.lags(behind_max)

    def begin_opening(self, journal_end: int) -> None:
        """From now on the live range ends there. `open` or `give_up_opening` follows."""
        self._opening = max(journal_end, self.live.position)
        self.live.end_at(self._opening)

    def next_cursors(self, producer_id: int, floor: int) -> list[PartitionCursor]:
        """To be made durable before `open`; nothing of ours from the new range on may lie below cloud offset `floor`."""
        origin, old = self._opening, self.live.cursor
        assert origin is not None, "begin_opening comes first"
        era = Era(producer_id, 0, origin)
        new = PartitionCursor(old.partitions, old.target, era, origin, floor, origin)
        return [*self.cursors(), new]

    def open(self, cursor: PartitionCursor) -> PartitionFlow:
        """The last of `next_cursors` is durable."""
        assert cursor.origin == self._opening, "opened as it was begun"
        self._opening = None
        flow = self._make(cursor, True)
        self.flows.append(flow)
        return flow

    def give_up_opening(self) -> None:
        """It could not be made durable."""
        self._opening = None
        self.live.end_at(None)

    # -- merging, adopting -------------------------------------------------------------------------------------------

    def merge(self) -> list[PartitionFlow]:
        """Takes out what is finished, and returns it."""
        gone: list[PartitionFlow] = []
        for flow, after in zip(self.flows, self.flows[1:], strict=False):
            if flow.finished:
                after.absorb(flow.cursor.origin)
                gone.append(flow)
        if gone:
            self.flows = [flow for flow in self.flows if flow not in gone]
        return gone

    def adopt(self, flow: PartitionFlow) -> list[PartitionFlow]:
        """Takes in the ranges that `flow` met when it read back; they go into the cursor with the flow's next era."""
        place = self.flows.index(flow) + 1
        old, taken = flow.cursor, []
        for origin in flow.strangers:
            era = Era(_NOBODY, 0, origin)  # it gets a producer id before it sends
            # the floor is still the one that was read from: it moves when the new era is acknowledged
            cursor = PartitionCursor(
                old.partitions, old.target, era, origin, old.floor, origin, suspect=True
            )
            taken.append(self._make(cursor, False))
        flow.strangers = []
        self.flows[place:place] = taken
        self._set_ends()
        return taken


def unsent(acknowledged: Sequence[tuple[int, int]], first: int, last: int) -> list[tuple[int, int]]:
    """Of `first` to `last`, both included, what is in none of [first, next) that were acknowledged."""
    left: list[tuple[int, int]] = []
    at = first
    for begin, after in sorted(acknowledged):
        if begin > at:
            left.append((at, min(begin - 1, last)))
        at = max(at, after)
        if at > last:
            return [(a, b) for a, b in left if a <= b]
    return [(a, b) for a, b in [*left, (at, last)] if a <= b]
