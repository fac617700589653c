"""Routes are remembered, bounded, and forgotten oldest first; busy topics stay."""

from __future__ import annotations

import pytest

from headwater.edge.broker.routing import ROUTE_TOPIC_BYTES_MAX, Routes, TopicRefused
from headwater.edge.mqtt.reasons import Violation
from headwater.edge.streams import StreamTable

from .harness import MemoryJournal

LIMIT = 8


def routes() -> Routes:
    return Routes(StreamTable(()), MemoryJournal(), "", LIMIT)


def held(cache: Routes) -> int:
    return len(cache.young) + len(cache._old)


def test_never_more_than_twice_the_limit_are_held_whatever_is_published() -> None:
    cache = routes()
    for number in range(1000):
        cache.find(b"t/%d" % number)
        assert held(cache) <= 2 * LIMIT


def test_a_busy_topic_keeps_its_route_while_others_come_and_go() -> None:
    cache = routes()
    busy = cache.find(b"busy")
    for number in range(1000):
        cache.find(b"t/%d" % number)
        if number % 4 == 0:
            assert cache.find(b"busy") is busy


def test_a_very_long_topic_is_routed_and_not_remembered() -> None:
    cache = routes()
    topic = b"x" * (ROUTE_TOPIC_BYTES_MAX + 1)
    assert cache.find(topic).key == topic
    assert held(cache) == 0


@pytest.mark.parametrize("topic", [b"", b"a/#", b"\xff", b"a\0b"])
def test_what_is_no_topic_name_is_a_violation_and_not_remembered(topic: bytes) -> None:
    cache = routes()
    with pytest.raises(Violation):
        cache.find(topic)
    assert held(cache) == 0


def test_the_servers_own_topics_are_refused() -> None:
    with pytest.raises(TopicRefused):
        routes().find(b"$SYS/x")
