"""Damage at start that may hide where partitions end: their next offsets jump past whatever the bytes could have held.

Rule: an offset is never given twice, so what may have been given is passed over, and told as lost. Each damage jumps once:
what was *accounted for* stands in the state, ends included, and is told again without another jump.
Where the tables and batches around the damage show a partition's end, nothing jumps; its losses are exact.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence

from ...record import TopicPartition
from . import names
from .holes import RECORD_BYTES_MIN, Hole, records_max, stood_before, unseen_after
from .index import SegmentMap
from .scan import Scan, Stretch
from .segment import load_footer
from .settings import FileJournalSettings
from .shelf import Loss, Shelf, missing_in
from .state import Accounted, State

Ends = dict[TopicPartition, int]


class Jumps:
    """Moves `ends`. `floor`: where partitions without history begin from now on, in case they had one."""

    def __init__(self, shelf: Shelf, settings: FileJournalSettings, state: State) -> None:
        self.floor = 0
        self.hidden = 0  # damaged bytes that may hold newer reservations, not accounted for yet
        self.accounted: list[Accounted] = list(state.accounted)
        self._shelf = shelf
        self._settings = settings
        self._known_floor = state.floor

    def missing(self, hole: Hole, ends: Ends) -> str | None:
        """Segments that are not there. Returns the damage where it lost nothing that could be told."""
        shelf = self._shelf
        damage = f"{hole}: not there, and not known to be retired"
        told = {known.damage for known in self.accounted}
        if damage in told or all(_unreadable(s) in told for s in hole.numbers()):
            return None  # it stands and could not be read at an earlier start either
        index = bisect_left(shelf.sequences, hole.first)
        losses = shelf.lost_at(index, damage) if hole.after is not None else []
        if (unseen := unseen_after(shelf, hole, ends)) is not None:
            jump = records_max(hole, self._settings)
            self.floor = max(self.floor, self._known_floor) + jump
            stood = stood_before(shelf, hole.first)
            for partition in unseen:
                # the state may know of a later end than the segments that are left
                first = stood.get(partition, min(self._known_floor, ends[partition]))
                losses.append(self._jump(partition, jump, ends, damage, first))
        if not losses:
            return damage
        self._account(damage, losses)
        return None

    def knows(self, sequence: int) -> bool:
        """Whether anything of it is accounted for."""
        return any(known.damage.startswith(names.segment(sequence)) for known in self.accounted)

    def open_segment(self, sequence: int, result: Scan, before: Ends, ends: Ends) -> None:
        """Holes in the open segment are exact where batches follow; elsewhere an end may lie in the damage."""
        damage, lost = _described(sequence, result.damage)
        if self._is_accounted(damage, lost):
            return
        self.hidden += lost
        # which moves `before` to what the frames show
        losses = missing_in(result.map, before, damage, floor=self._known_floor)
        for partition in _hidden_in(result.map, result.damage, ends):
            first = before.get(partition, 0)
            losses.append(self._jump(partition, _jump_of(lost), ends, damage, first))
        self._account(damage, losses)

    def left_open(self, ends: Ends) -> None:
        """The same in segments without a footer below the newest: hidden is the end of who does not show up later."""
        shelf = self._shelf
        active = shelf.active.map if shelf.active is not None else None
        later = set(active.partitions) if active is not None else set()
        for sequence in reversed(list(shelf.sequences)):
            stretches = shelf.hidden.get(sequence)
            if stretches is None and load_footer(shelf.segment(sequence)) is not None:
                return  # whose table tells all that was before it
            found = shelf.batches(sequence)
            if stretches is not None:
                self._left_open(sequence, found, stretches, later, ends)
            later.update(found.partitions)

    def _left_open(
        self,
        sequence: int,
        found: SegmentMap,
        stretches: Sequence[Stretch],
        later: Collection[TopicPartition],
        ends: Ends,
    ) -> None:
        damage, lost = _described(sequence, stretches)
        if self._is_accounted(damage, lost):
            return
        if not later:  # else the table that each segment begins with shows what was reserved
            self.hidden += lost
        hidden = [p for p in _hidden_in(found, stretches, ends) if p not in later]
        jump = _jump_of(lost)
        self._account(damage, [self._jump(p, jump, ends, damage, ends[p]) for p in hidden])

    def unreadable(self, sequences: Sequence[int], ends: Ends) -> None:
        """The newest segments told nothing: each may have held a whole segment's worth of any partition."""
        for sequence in sequences:
            damage = _unreadable(sequence)
            jump = int(self._settings.segment_bytes) // RECORD_BYTES_MIN
            self.floor += jump
            if damage in {known.damage for known in self.accounted}:
                continue
            losses, stood = [], stood_before(self._shelf, sequence)
            for partition, end in list(ends.items()):
                first = stood.get(partition, min(self._known_floor, end))
                losses.append(self._jump(partition, jump, ends, damage, first))
            self._account(damage, losses)

    def _jump(
        self, partition: TopicPartition, jump: int, ends: Ends, damage: str, first: int
    ) -> Loss:
        ends[partition] += jump
        return Loss(partition, first, ends[partition] - 1, f"{damage}; these at most")

    def _is_accounted(self, damage: str, lost: int) -> bool:
        self.floor = max(self.floor, _jump_of(lost))
        return damage in {known.damage for known in self.accounted}

    def _account(self, damage: str, losses: list[Loss]) -> None:
        kept = [(x.partition.topic, x.partition.partition, x.first, x.last) for x in losses]
        self.accounted.append(Accounted(damage, kept))


def _unreadable(sequence: int) -> str:
    return f"{names.segment(sequence)}: unreadable"


def _described(sequence: int, stretches: Sequence[Stretch]) -> tuple[str, int]:
    where = ", ".join(f"{stretch.first}-{stretch.end}" for stretch in stretches)
    lost = sum(stretch.end - stretch.first for stretch in stretches)
    return f"{names.segment(sequence)}: bytes {where} are damaged", lost


def _jump_of(lost_bytes: int) -> int:
    return lost_bytes // RECORD_BYTES_MIN + 1


def _hidden_in(found: SegmentMap, stretches: Sequence[Stretch], ends: Ends) -> list[TopicPartition]:
    """Those that show no batch behind the last damage."""
    last = stretches[-1].end
    hidden = []
    for partition in ends:
        row = found.rows.get(partition)
        if row is None or found.position[found.members[row][-1]] < last:
            hidden.append(partition)
    return hidden
