"""Offsets reserved ahead, so that a record may be acknowledged before its commit without its offset ever being given twice.

A stream whose owner chose `interval` or `memory` is answered at once. Its records may have been read by a subscriber, or
sent up, when the power goes; were their offsets given again, two records would share an address for life. So early
offsets come only from a range that a durable note has reserved:

    note of kind 100      MessagePack: stream -> [[partition, first, end], ...]; a later entry replaces an earlier one
      first               offsets below it are on disk, were sent up, or are told in a gap
      end                 offsets below it may have been given

The note stands behind the records of its commit, so a whole note means whole records before it. Each segment's first
frame repeats the table (`Appender`), so the newest segment that holds a frame tells all. An orderly stop writes
`first = end = next offset`. Where recovery finds a partition that ends before its reserved `end`, the stop was not orderly:
the next offset jumps to `end`, and what lies between is declared lost, "at most", reason `volatile`. Until a commit follows
the jump nothing on disk changes, so recovering again tells the same.
Knows nothing of who may be answered early.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from ...errors import Corrupt
from ...record import TopicPartition
from .frames import FrameHeader, notes
from .scan import Stretch, walk

NOTE_RESERVED = 100
# Kinds from here on are the journal's own, and not shown to those who read notes.
NOTE_OWN_MIN = 100
# An empty note, alone in the last commit of an orderly stop: the frame before it is then followed by one, so that damage to
# it cannot be taken for a torn end (scan.py).
NOTE_END = 101


class Reserved(NamedTuple):
    """See the module's theory: `first <= end`."""

    first: int
    end: int


Reservations = dict[TopicPartition, Reserved]


def encode_reservations(table: Mapping[TopicPartition, Reserved]) -> bytes:
    streams: dict[str, list[tuple[int, int, int]]] = {}
    for partition, (first, end) in table.items():
        streams.setdefault(partition.topic, []).append((partition.partition, first, end))
    return msgspec.msgpack.encode(streams)


def decode_reservations(payload: bytes) -> Reservations:
    """Raises Corrupt."""
    try:
        streams = msgspec.msgpack.decode(payload, type=dict[str, list[tuple[int, int, int]]])
    except msgspec.MsgspecError as error:
        raise Corrupt(f"not a table of reservations: {error}") from error
    return {
        TopicPartition(stream, partition): Reserved(first, end)
        for stream, rows in streams.items()
        for partition, first, end in rows
    }


def noted(buffer: bytes, *, salt: int, sequence: int, since: int) -> Reservations:
    """The table after the whole frames of one segment's bytes, of commits from `since` on."""
    table: Reservations = {}
    for header in walk(buffer, salt=salt, sequence=sequence):
        if isinstance(header, Stretch) or header.commit < since:
            continue
        table |= reserved_in(buffer, header)
    return table


def reserved_in(buffer: bytes, header: FrameHeader) -> Reservations:
    """What one whole frame reserves."""
    table: Reservations = {}
    for note in notes(buffer, header.position, header):
        if note.kind == NOTE_RESERVED:
            with contextlib.suppress(Corrupt):  # whole as written: of another version
                table |= decode_reservations(note.payload)
    return table
