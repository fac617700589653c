"""How far a table has come, as Delta transaction identifiers: made and parsed here and nowhere else.

    headwater/<cluster id>/<topic>/<partition>                next Kafka offset to read
    headwater/edge/<edge>/<log>/<stream>/<partition>          next edge offset: a record below it is a duplicate

The cluster's id is in the name, so a cluster that was created anew starts at its own beginning instead of being
skipped up to the old one's offsets. The edge's log id likewise: a wiped edge starts again at 0.
Names cannot hold a slash (core.record.check_name), but a foreign cluster's id or a forged header may: it is quoted.
"""

from __future__ import annotations

import urllib.parse
from typing import NamedTuple

from ...core.record import TopicPartition

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


def edge_app_id(place: EdgePartition) -> str:
    return (
        f"{_PREFIX}/{_EDGE}/{_quote(place.edge)}/{_quote(place.log)}/"
        f"{_quote(place.stream)}/{place.partition}"
    )


def parse_kafka(app_id: str) -> tuple[str, TopicPartition] | None:
    """(cluster id, partition), or None where the identifier is not one of ours for Kafka."""
    parts = app_id.split("/")
    if len(parts) != 4 or parts[0] != _PREFIX or not parts[3].isdecimal():
        return None
    topic = urllib.parse.unquote(parts[2])
    return urllib.parse.unquote(parts[1]), TopicPartition(topic, int(parts[3]))


def parse_edge(app_id: str) -> EdgePartition | None:
    parts = app_id.split("/")
    if len(parts) != 6 or parts[:2] != [_PREFIX, _EDGE] or not parts[5].isdecimal():
        return None
    edge, log, stream = map(urllib.parse.unquote, parts[2:5])
    return EdgePartition(edge, log, stream, int(parts[5]))


def _quote(text: str) -> str:
    return urllib.parse.quote(text, safe="")
