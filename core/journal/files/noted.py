"""Reading notes back, and how far: the side of recovery that belongs to whoever wrote them.

A note's commit says where in the order of commits it stands. Segments whose footer counts no notes are not read. What lies
in pinned segments (`FileJournal.need_notes_from`) is there even where retention has moved a partition's start beyond it.
"""

from __future__ import annotations

from collections.abc import Iterator

from .frames import Note, notes
from .reservations import NOTE_OWN_MIN
from .scan import Stretch, read_through, walk
from .shelf import SegmentLost, Shelf


def notes_since(shelf: Shelf, since: int, durable_commit: int) -> Iterator[Note]:
    """Durable notes of commit `since` and later, in order."""
    with shelf.lock:
        wanted = [*shelf.sequences]
        if shelf.active is not None:
            wanted.append(shelf.active.sequence)
    for sequence in wanted:
        try:
            yield from _notes_of(shelf, sequence, since, durable_commit)
        except SegmentLost:
            continue


def _notes_of(shelf: Shelf, sequence: int, since: int, durable_commit: int) -> list[Note]:
    with shelf.lock:
        segment = shelf.segment(sequence)
        footer = segment.footer
        if footer is not None:
            totals = footer.totals
            if totals.notes == 0 or totals.last_commit < since:
                return []
        shelf.batches(sequence)  # so that `end` is known
        buffer = read_through(segment.file, segment.end or 0)
        found: list[Note] = []
        for header in walk(buffer, salt=segment.salt, sequence=sequence):
            if not isinstance(header, Stretch) and since <= header.commit <= durable_commit:
                found += [
                    note
                    for note in notes(buffer, header.position, header)
                    if note.kind < NOTE_OWN_MIN  # the journal's own
                ]
        return found


def commit_before_segments(shelf: Shelf, count: int) -> int:
    """The first commit of the `count`-th last sealed segment, or of the oldest; 0 where none is sealed."""
    with shelf.lock:
        for sequence in shelf.sequences[-count:]:
            try:
                return shelf.footer(sequence).totals.first_commit
            except SegmentLost:
                continue
    return 0


def segments_since(shelf: Shelf, commit: int) -> int:
    """How many segments hold this commit or later ones, the open one among them."""
    count = 1
    with shelf.lock:
        for sequence in reversed(shelf.sequences):
            try:
                if shelf.footer(sequence).totals.last_commit < commit:
                    break
            except SegmentLost:
                continue
            count += 1
    return count
