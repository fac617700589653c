"""Access rules: filters as sets against their definition, both kinds of file, substitution that cannot be abused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.core.errors import Misconfigured
from headwater.edge.broker.access.aclfile import parse_rules
from headwater.edge.broker.access.topicsets import contains, covers, meets, to_filter
from headwater.edge.mqtt.topics import matches

LEVELS = ["a", "b", "$x", ""]
TOPICS = [
    topic
    for n in (1, 2, 3)
    for each in itertools.product(LEVELS, repeat=n)
    if (topic := "/".join(each))
]
FILTERS = [
    "/".join([*start, *end])
    for n in (0, 1, 2)
    for start in itertools.product(["a", "b", "$x", "+"], repeat=n)
    for end in (["a"], ["+"], ["#"])
]


def test_a_filter_contains_what_it_matches() -> None:
    for text, topic in itertools.product(FILTERS, TOPICS):
        assert contains(to_filter(text), topic.split("/")) == matches(text, topic), (text, topic)


@given(st.sampled_from(FILTERS), st.sampled_from(FILTERS))
def test_filters_meet_where_a_topic_falls_under_both_and_cover_where_none_is_left_out(
    one: str, other: str
) -> None:
    under_one = {topic for topic in TOPICS if matches(one, topic)}
    under_other = {topic for topic in TOPICS if matches(other, topic)}
    assert meets(to_filter(one), to_filter(other)) == bool(under_one & under_other)
    if covers(to_filter(one), to_filter(other)):
        assert under_other <= under_one
    elif "$" not in one + other and not one.endswith("+"):
        # the topics above are too few to show every difference that ends in one level more
        assert under_other - under_one or other.endswith("#")


OURS = """
[[rules]]
user = "kitchen"
read = ["commands/%u/#"]
write = ["sensors/%u/+"]

[[rules]]
read = ["news/#"]
readwrite = ["state/%c"]
deny = ["news/secret/#"]

[[rules]]
client = "boiler-*"
write = ["heat/%c/t"]

[[rules]]
user = ""
write = ["hello"]
"""


def test_ours_in_toml() -> None:
    rules = parse_rules(OURS, source="access.toml")
    kitchen = rules.rights("kitchen", "k1")
    assert kitchen.may_write("sensors/kitchen/t")
    assert not kitchen.may_write("sensors/cellar/t")
    assert not kitchen.may_read("sensors/kitchen/t")
    assert kitchen.may_read("commands/kitchen/on")
    assert kitchen.may_read("state/k1")
    assert kitchen.may_write("state/k1")
    assert not kitchen.may_write("state/k2")
    assert kitchen.may_read("news/today")
    assert not kitchen.may_read("news/secret/plans")
    assert not kitchen.may_write("hello")
    boiler = rules.rights("other", "boiler-7")
    assert boiler.may_write("heat/boiler-7/t")
    assert not boiler.may_write("heat/boiler-8/t")
    nameless = rules.rights(None, "c")
    assert nameless.may_write("hello")
    assert not nameless.may_write("sensors//t")


def test_a_subscription_needs_something_to_read_under_its_filter() -> None:
    rights = parse_rules(OURS, source="access.toml").rights("kitchen", "k1")
    assert rights.may_subscribe("#")  # broader than what may be read: delivery leaves out the rest
    assert rights.may_subscribe("news/+")
    assert rights.may_subscribe("commands/kitchen")
    assert rights.may_subscribe("$share/g/news/#")
    assert not rights.may_subscribe("sensors/kitchen/t")
    assert not rights.may_subscribe("news/secret/plans")
    assert not rights.may_subscribe("$SYS/#")


MOSQUITTO = """
# those without a name
topic read public/#
topic hello

user kitchen
topic write sensors/kitchen/#
topic deny sensors/kitchen/secret

pattern read commands/%u/#
pattern readwrite state/%c
user cellar
topic readwrite with space/#
"""


def test_mosquittos_file_as_it_stands() -> None:
    rules = parse_rules(MOSQUITTO, source="/etc/mosquitto/acl")
    nameless = rules.rights(None, "c")
    assert nameless.may_read("public/a")
    assert not nameless.may_write("public/a")
    assert nameless.may_write("hello")
    kitchen = rules.rights("kitchen", "k1")
    assert kitchen.may_write("sensors/kitchen/t")
    assert not kitchen.may_write("sensors/kitchen/secret")
    assert not kitchen.may_read("public/a")
    assert kitchen.may_read("commands/kitchen/x")
    assert kitchen.may_write("state/k1")
    cellar = rules.rights("cellar", "k1")
    assert cellar.may_write("with space/x")
    assert not cellar.may_read("commands/kitchen/x")


@pytest.mark.parametrize("name", ["+", "#", "a/b", "+/x", ""])
def test_a_name_never_becomes_a_wildcard_or_another_level(name: str) -> None:
    """CVE-2017-7650: a client called # would have read everything."""
    rules = parse_rules("pattern readwrite s/%c/%u\npattern write s/x%c", source="acl")
    for rights in (rules.rights(name, "c"), rules.rights("u", name), rules.rights(name, name)):
        assert not any(rights.may_read(topic) for topic in ("s/a/b", "s/c/u", "s/+/#", "s/a/b/u"))
        assert not rights.may_subscribe("s/a/b")
    # ... and where a rule takes by such a name, it takes everything
    denying = parse_rules("pattern readwrite #\npattern deny s/%c", source="acl")
    assert denying.rights("u", "c").may_read("s/other")
    if name:
        assert not denying.rights("u", name).may_read("anything")


def test_marks_in_names_are_not_filled_in_again() -> None:
    rights = parse_rules("pattern read %c-%u", source="acl").rights("admin", "%u")
    assert rights.may_read("%u-admin")
    assert not rights.may_read("admin-admin")


@pytest.mark.parametrize(
    ("text", "source", "told"),
    [
        ("topic read a/#/b", "acl", "acl:1"),
        ("\nuser", "acl", "acl:2: expected user"),
        ("topics a", "acl", "expected user, topic or pattern, not 'topics'"),
        ("user x\ntopic read a/%u", "acl", "stand in `pattern` lines"),
        ("[[rules]]\nuser = 'x'", "a.toml", "rules[0] says nothing"),
        ("[[rules]]\nreads = ['x']", "a.toml", "reads"),
        ("default = 'maybe'", "a.toml", "maybe"),
        ("[[rules]]\nread = ['a/#b']", "a.toml", "rules[0]"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(text: str, source: str, told: str) -> None:
    with pytest.raises(Misconfigured, match=None) as caught:
        parse_rules(text, source=source)
    assert told in str(caught.value)


def test_connections_of_a_user_share_their_rights_where_no_rule_names_the_client() -> None:
    rules = parse_rules("user a\ntopic read x\npattern read y/%u", source="acl")
    assert rules.rights("a", "1") is rules.rights("a", "2")
    assert rules.rights("a", "1") is not rules.rights("b", "1")
    other = parse_rules("user a\ntopic read x", source="acl")
    assert other.rights("b", "1") is other.rights("c", "2")


def test_an_allowing_default_leaves_the_denials() -> None:
    rights = parse_rules("default = 'allow'\n[[rules]]\ndeny = ['s/#']", source="x.toml").rights(
        None, "c"
    )
    assert rights.may_write("a")
    assert not rights.may_write("s/a")
    assert rights.may_subscribe("#")
    assert not rights.may_subscribe("s/+/x")
