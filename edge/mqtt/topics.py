"""Topic names and topic filters (section 4.7 of both versions): what is legal, and which matches which.

A name has no wildcards. In a filter `+` stands for one whole level, `#` for any number of last levels, the parent
included. A filter that begins with a wildcard matches no name that begins with `$` ([MQTT-4.7.2-1]). Matching is by
code points, case-sensitive, nothing normalised ([MQTT-4.7.3-4]).
"""

from __future__ import annotations

from .primitives import decode_text
from .reasons import malformed, protocol_error

# [MQTT-4.7.3-3]: a UTF-8 string, so 65,535 bytes at most; the length prefix sees to that
SHARED_PREFIX = "$share/"
# First levels that belong to servers. Others that begin with $ are used by devices ($aws/…), and are topics like any.
_OURS = ("$SYS", "$share")
# But for this: where Mosquitto's bridges say at their neighbour, with a will, whether they are there.
_BRIDGES, _STATE = "$SYS/broker/connection/", "/state"


def check_topic_name(topic: str) -> str:
    """A name to publish to: at least one character ([MQTT-4.7.3-1]), no wildcard ([MQTT-3.3.2-2]).

    A wildcard can be parsed and is not allowed: a protocol error, as section 1.2 draws the line.
    """
    if not topic:
        raise malformed("a topic name must have at least one character")
    if "+" in topic or "#" in topic:
        raise protocol_error(f"topic name {topic[:80]!r} holds a wildcard")
    if "\0" in topic:
        raise malformed("a topic name must not hold U+0000")
    return topic


def is_ours(topic: str) -> bool:
    """A topic that clients may subscribe to and not publish to (section 4.7.2)."""
    if topic[0] != "$" or topic.partition("/")[0] not in _OURS:
        return False
    return not (topic.startswith(_BRIDGES) and topic.endswith(_STATE))


def decode_topic_name(raw: bytes) -> str:
    return check_topic_name(decode_text(raw))


def check_topic_filter(topic_filter: str) -> str:
    """A filter to subscribe to: wildcards stand alone in their level, `#` last ([MQTT-4.7.1-1], [MQTT-4.7.1-2])."""
    if not topic_filter:
        raise malformed("a topic filter must have at least one character")
    levels = topic_filter.split("/")
    for index, level in enumerate(levels):
        if "#" in level and (level != "#" or index != len(levels) - 1):
            raise malformed(f"topic filter {topic_filter[:80]!r}: # must be the whole last level")
        if "+" in level and level != "+":
            raise malformed(f"topic filter {topic_filter[:80]!r}: + must be a whole level")
    if "\0" in topic_filter:
        raise malformed("a topic filter must not hold U+0000")
    if levels[0] == "$share":
        _check_shared(topic_filter, levels)
    return topic_filter


def _check_shared(topic_filter: str, levels: list[str]) -> None:
    """`$share/{name}/{filter}`, the name without wildcards ([MQTT-4.8.2-1], [MQTT-4.8.2-2])."""
    if len(levels) < 3 or not levels[1] or "+" in levels[1] or "#" in levels[1]:
        raise malformed(f"shared subscription {topic_filter[:80]!r} needs a name without wildcards")
    if len(levels) == 3 and not levels[2]:
        raise malformed(f"shared subscription {topic_filter[:80]!r} has no topic filter")


def matches(topic_filter: str, topic: str) -> bool:
    """Whether `topic` falls under `filter`; both legal. The definition that `subscriptions` must agree with."""
    if topic[0] == "$" and topic_filter[0] in "+#":
        return False
    wanted = topic_filter.split("/")
    levels = topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index == len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


def overlap(one: str, other: str) -> bool:
    """Whether some topic falls under both filters; True in doubt."""
    left, right = one.split("/"), other.split("/")
    for a, b in zip(left, right, strict=False):
        if "#" in (a, b):
            return True
        if a != b and "+" not in (a, b):
            return False
    longer = left if len(left) > len(right) else right
    shorter = min(len(left), len(right))
    # "a/#" matches "a" as well
    return len(left) == len(right) or longer[shorter] == "#"
