"""Filters as sets of topics: which match a topic, which meet, which lie within which. For access rules.

A filter here is a tuple of levels in which `PLUS` and `HASH` are the wildcards and every string is literal, also where it
holds `+` or `#`: a client identifier put in the place of %c can therefore never become a wildcard, and as a level of a
topic never holds `/`, one that does simply matches nothing.
"""

from __future__ import annotations

import enum


class Wild(enum.Enum):
    PLUS = "+"
    HASH = "#"


PLUS, HASH = Wild.PLUS, Wild.HASH

Level = str | Wild
Filter = tuple[Level, ...]

_WILD = {"+": PLUS, "#": HASH}


def to_filter(text: str) -> Filter:
    """Of a legal topic filter."""
    return tuple(_WILD.get(level, level) for level in text.split("/"))


def _begins_wild(filter_: Filter) -> bool:
    return filter_[0] is PLUS or filter_[0] is HASH


def _is_system(level: Level) -> bool:
    return isinstance(level, str) and level.startswith("$")


def contains(filter_: Filter, topic: list[str]) -> bool:
    """Whether the topic, as levels, falls under the filter ([MQTT-4.7.2-1] included)."""
    if _begins_wild(filter_) and topic[0].startswith("$"):
        return False
    count = len(topic)
    for index, level in enumerate(filter_):
        if level is HASH:
            return True
        if index == count or (level is not PLUS and level != topic[index]):
            return False
    return len(filter_) == count


def meets(one: Filter, other: Filter) -> bool:
    """Whether there is a topic that falls under both."""
    if (_begins_wild(one) and _is_system(other[0])) or (_begins_wild(other) and _is_system(one[0])):
        return False
    for index in range(max(len(one), len(other))):
        if index == len(one):  # "a" meets "a/#", because "a/#" takes the parent
            return other[index] is HASH
        if index == len(other):
            return one[index] is HASH
        a, b = one[index], other[index]
        if a is HASH or b is HASH:
            return True
        if a is not PLUS and b is not PLUS and a != b:
            return False
    return True


def covers(outer: Filter, inner: Filter) -> bool:
    """Whether every topic under `inner` falls under `outer` too."""
    if _begins_wild(outer) and _is_system(inner[0]):
        return False
    for index, level in enumerate(outer):
        if level is HASH:
            return True
        if index == len(inner) or inner[index] is HASH:
            return False
        if level is not PLUS and level != inner[index]:
            return False
    return len(outer) == len(inner)
