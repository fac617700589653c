"""How far a table has come, as Delta transaction identifiers: made and parsed here and nowhere else.

    headwater/<cluster id>/<topic>/<partition>                next Kafka offset to read
    headwater/<cluster id>~<n>/<topic>/<partition>            the same where the topic was made anew for the n-th time
    headwater/<cluster id>/<topic id>                         that n, 0 for the topic that was met first
    headwater/edge/<edge>/<log>/<stream>/<partition>          next edge offset: a record below it is a duplicate
    headwater/edge/…/<partition>@<first>                      the same of what is covered from `first` on (coverage.py)

What a table covers of an edge partition is the union of [first, version), where `first` is 0 without an @. An interval
that another one has reached is *absorbed*: what it says is said by the other, and checkpoints leave it out.

The cluster's id is in the name, so a cluster that was created anew starts at its own beginning instead of being
skipped up to the old one's offsets; a topic that was deleted and made anew counts as another cluster's, which its id
tells. The edge's log id likewise: a wiped edge starts again at 0.
Names cannot hold a slash (core.record.check_name), but a foreign cluster's id or a forged header may: it is quoted.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from typing import NamedTuple

from ...core.record import TopicPartition
from .coverage import Coverage

_PREFIX = "headwater"
_EDGE = "edge"


class EdgePartition(NamedTuple):
    """Where offsets were given out: one partition of one journal of one edge. Without an edge: Kafka's own."""

    edge: str
    log: str
    stream: str
    partition: int

    def __str__(self) -> str:
        edge = self.edge or "(no edge)"
        return f"{edge}/{self.stream}/{self.partition}" + (f" log {self.log}" if self.log else "")


def kafka_app_id(cluster: str, partition: TopicPartition) -> str:
    return f"{_PREFIX}/{_quote(cluster)}/{_quote(partition.topic)}/{partition.partition}"


def edge_app_id(place: EdgePartition, first: int = 0) -> str:
    return (
        f"{_PREFIX}/{_EDGE}/{_quote(place.edge)}/{_quote(place.log)}/"
        f"{_quote(place.stream)}/{place.partition}" + (f"@{first}" if first else "")
    )


def parse_kafka(app_id: str) -> tuple[str, TopicPartition] | None:
    """(cluster id, partition), or None where the identifier is not one of ours for Kafka."""
    parts = app_id.split("/")
    if len(parts) != 4 or parts[0] != _PREFIX or not parts[3].isdecimal():
        return None
    topic = urllib.parse.unquote(parts[2])
    return urllib.parse.unquote(parts[1]), TopicPartition(topic, int(parts[3]))


def topic_app_id(cluster: str, topic_id: str) -> str:
    return f"{_PREFIX}/{_quote(cluster)}/{topic_id}"


def parse_topic(app_id: str) -> tuple[str, str] | None:
    """(cluster id, topic id), or None where the identifier is none of a topic's incarnation."""
    parts = app_id.split("/")
    if len(parts) != 3 or parts[0] != _PREFIX:
        return None
    return urllib.parse.unquote(parts[1]), parts[2]


def incarnated(cluster: str, ordinal: int) -> str:
    """The cluster as it is called where a topic of it was made anew for the `ordinal`-th time."""
    return f"{cluster}~{ordinal}" if ordinal else cluster


def parse_edge(app_id: str) -> EdgePartition | None:
    """Of whichever interval."""
    parsed = parse_interval(app_id)
    return None if parsed is None else parsed[0]


def parse_interval(app_id: str) -> tuple[EdgePartition, int] | None:
    """(edge partition, where the interval begins), or None where the identifier is not one of ours for an edge."""
    parts = app_id.split("/")
    if len(parts) != 6 or parts[:2] != [_PREFIX, _EDGE]:
        return None
    partition, at, first = parts[5].partition("@")
    if not partition.isdecimal() or (at and not first.isdecimal()):
        return None
    edge, log, stream = map(urllib.parse.unquote, parts[2:5])
    return EdgePartition(edge, log, stream, int(partition)), int(first or 0)


class Positions:
    """Positions of a table, by application, with the intervals of those partitions that have several found at once."""

    def __init__(self, positions: Mapping[str, int]) -> None:
        self._positions = positions
        self._beyond: dict[str, list[str]] = {}
        for app_id in positions:
            if "@" in app_id and parse_interval(app_id):  # in names an @ is quoted
                self._beyond.setdefault(app_id.partition("@")[0], []).append(app_id)

    def position(self, app_id: str) -> int | None:
        return self._positions.get(app_id)

    def coverage(self, place: EdgePartition) -> Coverage:
        base = edge_app_id(place)
        found = Coverage([(0, self._positions.get(base, 0))])
        for app_id in self._beyond.get(base, ()):
            found.add(int(app_id.partition("@")[2]), self._positions[app_id])
        return found

    def absorbed(self) -> set[str]:
        """Identifiers that say nothing which another one does not say."""
        gone = set()
        for app_ids in self._beyond.values():
            for app_id in app_ids:
                parsed = parse_interval(app_id)
                assert parsed is not None
                place, first = parsed
                if first not in (begin for begin, _ in self.coverage(place)):
                    gone.add(app_id)
        return gone


def _quote(text: str) -> str:
    return urllib.parse.quote(text, safe="")
