"""A last commit too large for one segment, of which a crash left a part: its segments go, for it was never acknowledged.

Within one segment recovery cuts such a part off (recovery.py, step 3). A commit that needs several begins a segment of its
own (appender.py), so all of its segments hold nothing else, and taking them away cuts off exactly that commit. Were they
kept, there would be records without the notes that say who sent them, and what a client repeats would be stored twice.

Only the newest commit can be such a one: the next begins when its last frame is durable. So the caller must know that no
segment stood behind those it names (retention may have retired the one with the last frame), and where anything about the
segments is damaged nothing is taken away. Of a commit that a failing disk spread over two, or that began behind a segment
that such a disk left without a footer, a part may stay.
"""

from __future__ import annotations

from collections.abc import Sequence

from .frames import LAST_OF_COMMIT, FrameHeader
from .scan import Scan, read_through, walk
from .shelf import SegmentLost, Shelf


def spread_over(shelf: Shelf, sealed: Sequence[int], scanned: Scan | None) -> list[int]:
    """Of the sealed segments, ascending, those that hold nothing but a part of the last commit. `scanned`: the open segment
    after them, without its own part of that commit; None where there is none."""
    if not sealed or (scanned is not None and (scanned.damage or scanned.ends_commit)):
        return []
    commit = _unfinished(shelf, sealed[-1])
    found: list[int] = []
    if commit:
        for sequence in reversed(sealed):
            try:
                totals = shelf.footer(sequence).totals
            except SegmentLost:
                break
            if (totals.first_commit, totals.last_commit) != (commit, commit):
                break
            found.insert(0, sequence)
    before = sealed[: len(sealed) - len(found)]
    if found and before and shelf.ends_by_next(before[-1]):
        return []
    return found


def _unfinished(shelf: Shelf, sequence: int) -> int:
    """The number of a sealed segment's last commit, where its last frame is elsewhere; else 0."""
    try:
        data_end = shelf.footer(sequence).totals.data_end
        segment = shelf.segment(sequence)
    except SegmentLost:
        return 0
    newest: FrameHeader | None = None
    buffer = read_through(segment.file, data_end)
    for item in walk(buffer, salt=segment.salt, sequence=sequence):
        if not isinstance(item, FrameHeader):
            return 0
        newest = item
    if newest is None or newest.end != data_end or newest.flags & LAST_OF_COMMIT:
        return 0
    return newest.commit
