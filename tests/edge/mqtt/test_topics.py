"""Which filter matches which topic: the specification's own examples, then the trie against the definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.edge.broker.sessions import Session
from headwater.edge.broker.subscriptions import Subscriptions
from headwater.edge.mqtt.packets import SubscriptionOptions
from headwater.edge.mqtt.reasons import Violation
from headwater.edge.mqtt.topics import check_topic_filter, check_topic_name, matches

from ..broker.harness import Bench


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("#", "anything/at/all", True),
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+", "finance", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/uptime", False),
        ("+/monitor/Clients", "$SYS/monitor/Clients", False),
        ("$SYS/#", "$SYS/uptime", True),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
        ("ACCOUNTS", "Accounts", False),
        ("a//b", "a/b", False),
        ("a/+/b", "a//b", True),
    ],
)
def test_the_examples_of_section_4_7(topic_filter: str, topic: str, expected: bool) -> None:
    assert matches(topic_filter, topic) is expected
    subscriptions = Subscriptions()
    subscriptions.add(session("c"), SubscriptionOptions(topic_filter), 0)
    assert bool(subscriptions.matching(topic)) is expected


@pytest.mark.parametrize(
    "topic_filter",
    [
        "",
        "a#",
        "#/a",
        "a/#/b",
        "a+",
        "+a/b",
        "a/b+",
        "$share/g",
        "$share//a",
        "$share/+/a",
        "$share/g/",
    ],
)
def test_an_illegal_filter_is_refused(topic_filter: str) -> None:
    with pytest.raises(Violation):
        check_topic_filter(topic_filter)


@pytest.mark.parametrize("topic", ["", "a/#", "+", "a\0"])
def test_an_illegal_name_is_refused(topic: str) -> None:
    with pytest.raises(Violation):
        check_topic_name(topic)


LEVEL = st.sampled_from(["a", "b", "", "$x"])
TOPICS = st.lists(LEVEL, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = (
    st.tuples(st.lists(LEVEL | st.just("+"), max_size=4), st.sampled_from([[], ["#"]]))
    .map(lambda parts: "/".join(parts[0] + parts[1]))
    .filter(bool)
)


@given(st.lists(FILTERS, max_size=12), st.lists(FILTERS, max_size=6), TOPICS)
def test_the_trie_agrees_with_the_definition(
    added: list[str], removed: list[str], topic: str
) -> None:
    subscriptions = Subscriptions()
    one = session("c")
    for topic_filter in added:
        subscriptions.add(one, SubscriptionOptions(topic_filter), 0)
    for topic_filter in removed:
        held = topic_filter in one.filters
        assert subscriptions.remove(one, topic_filter) is held
    left = set(added) - set(removed)
    assert set(one.filters) == left
    assert subscriptions.count == len(left)
    found = {subscription.options.filter for subscription in subscriptions.matching(topic)}
    assert found == {topic_filter for topic_filter in left if matches(topic_filter, topic)}


@given(st.lists(FILTERS, max_size=12))
def test_the_trie_is_empty_again_when_all_have_left(added: list[str]) -> None:
    subscriptions = Subscriptions()
    one = session("c")
    for topic_filter in added:
        subscriptions.add(one, SubscriptionOptions(topic_filter), 0)
    subscriptions.remove_session(one)
    assert subscriptions.count == 0
    assert subscriptions._root.empty


def test_a_session_with_overlapping_filters_is_found_once_with_the_highest_qos() -> None:
    subscriptions = Subscriptions()
    one = session("c")
    subscriptions.add(one, SubscriptionOptions("a/#", 1), 7)
    subscriptions.add(one, SubscriptionOptions("a/+", 2), 9)
    (target,) = subscriptions.targets("a/b")
    assert target.qos == 2
    assert sorted(target.identifiers) == [7, 9]  # [MQTT-3.3.4-3]


BENCH = Bench()


def session(client_id: str) -> Session:
    return Session(client_id, BENCH.broker.departures)
