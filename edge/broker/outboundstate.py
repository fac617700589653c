"""An outbound side as it is kept: plain structs, MessagePack-able, each whole in itself.

A position says of one partition where the session is: the stretches still to be read, and `next`, the log's end when
the state was taken. What was appended from `next` on is unknown to it, so after a start all of it is one more stretch, held
against the subscriptions record by record. Every partition that the session's filters may match has a position, so
that one without is one that began later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import msgspec

from ...core.errors import Missing
from ...core.journal.reading import Bounds
from ...core.record import TopicPartition
from ..mqtt.topics import SHARED_PREFIX, overlap
from .backlog import Backlog, Cursor, Stretch
from .retained import Owed

if TYPE_CHECKING:
    from .departures import Departures


# Of all partitions of one state: 25 bytes each at most, so that with ten thousand partitions the note stays below a
# record's limit of 1 MiB. A note that is refused would hold every delivery at QoS 2 that waits for it.
STRETCHES_NOTED_MAX = 8192
# What subscriptions were not sent yet of what is retained, for the same reason: filters, topics and 16 bytes a partition.
OWED_NOTED_BYTES = 128 * 1024


class FlightState(msgspec.Struct, frozen=True, array_like=True):
    """`stream` empty: a message without a record (it is not sent again; at QoS 2 its identifier is released)."""

    packet_id: int
    stream: str
    partition: int
    offset: int
    qos: int
    retain: bool
    released: bool
    identifiers: tuple[int, ...]
    size: int
    group: str = ""


class Place(msgspec.Struct, frozen=True, array_like=True):
    """`stretches`: (start, end, messages, exact) each."""

    stream: str
    partition: int
    next: int
    stretches: list[tuple[int, int, int, bool]] = []


class ShareState(msgspec.Struct, frozen=True, array_like=True):
    """A shared group. `stamp` orders the copies that its members keep; `out`: (stream, partition, offset, client, qos)."""

    name: str
    stamp: int
    positions: list[Place]
    out: list[tuple[str, int, int, str, int]] = []


class OutboundState(msgspec.Struct, frozen=True, array_like=True):
    last_id: int = 0
    flights: list[FlightState] = []
    positions: list[Place] = []
    floors: list[tuple[str, str, int, int]] = []  # filter, stream, partition, offset
    shares: list[ShareState] = []
    owed: dict[str, Owed] = {}  # by filter: what is retained and not sent yet


def pack(state: OutboundState) -> bytes:
    return msgspec.msgpack.encode(state)


def unpack(data: bytes) -> OutboundState | None:
    """None where nothing was noted. Raises msgspec.MsgspecError."""
    return msgspec.msgpack.decode(data, type=OutboundState) if data else None


def owed_noted(owed: dict[str, Owed]) -> dict[str, Owed]:
    """As much of it as one note bears."""
    noted: dict[str, Owed] = {}
    room = OWED_NOTED_BYTES
    for topic_filter, each in owed.items():
        room -= 4 * (len(topic_filter) + len(each.after)) + sum(
            len(stream) + 16 for stream, _, _ in each.ends
        )
        if room >= 0:
            noted[topic_filter] = Owed(each.after, each.ends)
    return noted


def positions_of(backlog: Backlog, departures: Departures, filters: Collection[str]) -> list[Place]:
    """Where everything stands. What is queued in memory counts as still to be read."""
    cursors = backlog.spread()
    each_max = max(1, STRETCHES_NOTED_MAX // max(1, len(cursors)))
    places: dict[TopicPartition, Place] = {}
    for tp in (*cursors, *_candidates(departures, filters)):
        if tp in places:
            continue
        bounds = _bounds(departures, tp)
        if bounds is None:
            continue
        cursor = cursors.get(tp)
        stretches = [] if cursor is None else _united(list(cursor.stretches), each_max)
        places[tp] = Place(
            tp.topic,
            tp.partition,
            bounds.end,
            [(s.start, s.end, s.count, s.exact) for s in stretches],
        )
    return list(places.values())


def _united(stretches: list[Stretch], most: int) -> list[Stretch]:
    """The last ones as one where there are too many: what lies between two matches nothing, so it costs reading alone.
    Beside an exact one may lie what was taken: those stay as they are."""
    if len(stretches) <= most or any(stretch.exact for stretch in stretches):
        return stretches
    last = stretches[most - 1 :]
    count = sum(stretch.count for stretch in last)
    return [*stretches[: most - 1], Stretch(last[0].start, last[-1].end, count)]


def restore_positions(
    backlog: Backlog, departures: Departures, filters: Collection[str], places: Iterable[Place]
) -> None:
    known = {TopicPartition(place.stream, place.partition): place for place in places}
    for tp in dict.fromkeys((*known, *_candidates(departures, filters))):
        bounds = _bounds(departures, tp)
        if bounds is None:
            continue
        place = known.get(tp)
        begin = bounds.start if place is None else place.next
        cursor = Cursor(
            Stretch(start, end, count, exact=exact)
            for start, end, count, exact in ([] if place is None else place.stretches)
        )
        if begin < bounds.end:
            cursor.stretches.append(Stretch(begin, bounds.end, bounds.end - begin))
        if cursor.stretches:
            backlog.cursors[tp] = cursor


def _candidates(departures: Departures, filters: Collection[str]) -> list[TopicPartition]:
    """Partitions that hold, or may come to hold, what the filters match (shared ones aside: a group has its own state)."""
    plain = [each for each in filters if not each.startswith(SHARED_PREFIX)]
    if not plain:
        return []
    wanted = {
        stream
        for stream, routed in departures.streams.items()
        if not routed or any(overlap(each, other) for each in plain for other in routed)
    }
    return [tp for tp in departures.ends.partitions() if tp.topic in wanted]


def _bounds(departures: Departures, tp: TopicPartition) -> Bounds | None:
    try:
        return departures.ends.bounds(tp)
    except Missing:
        return None
