"""Streams: first match wins, keys are rendered, mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.core import config
from headwater.core.errors import Misconfigured
from headwater.core.journal.files.settings import WhenFull as JournalWhenFull
from headwater.core.record import TopicPartition
from headwater.core.units import Duration
from headwater.edge.rules import retention_rules
from headwater.edge.settings import EdgeSettings
from headwater.edge.streams import Stream, StreamSettings, StreamTable, WhenFull


@pytest.mark.parametrize(
    ("key", "topic", "expected"),
    [
        ("{topic}", "a/b", "a/b"),
        ("{1}", "a/b", "a"),
        ("{2}-{1}", "a/b", "b-a"),
        ("{3}", "a/b", ""),
        ("{client}", "a/b", "gw"),
        ("site/{client}/{2}", "a/b", "site/gw/b"),
        ("constant", "a/b", "constant"),
        ("{2}", "a//b", ""),
        ("{1}", "/a", ""),
    ],
)
def test_keys_are_rendered_from_topic_levels_and_client(
    key: str, topic: str, expected: str
) -> None:
    stream = Stream(StreamSettings(name="s", key=key))
    assert stream.key(topic, "gw") == expected


@pytest.mark.parametrize(
    "wrong",
    [
        StreamSettings(name="with space"),
        StreamSettings(name="_gaps"),
        StreamSettings(name="s", filters=("a/#/b",)),
        StreamSettings(name="s", filters=("$share/g/a",)),
        StreamSettings(name="s", key="{0}"),
        StreamSettings(name="s", key="{²}"),
        StreamSettings(name="s", key="{device}"),
        StreamSettings(name="s", key="{topic"),
        StreamSettings(name="s", partitions=0),
        StreamSettings(name="s", partitions=1025),
        StreamSettings(name="s", priority=10),
    ],
    ids=str,
)
def test_a_stream_that_cannot_be_is_misconfigured(wrong: StreamSettings) -> None:
    with pytest.raises(Misconfigured, match=wrong.name):
        StreamTable((wrong,))


def test_the_first_stream_whose_filter_matches_takes_it_and_the_default_the_rest() -> None:
    table = StreamTable(
        (
            StreamSettings(name="hot", filters=("+/temperature", "alarm/#")),
            StreamSettings(name="all-of-a", filters=("a/#",)),
            StreamSettings(name="rest", partitions=2),
        ),
        default="rest",
    )
    names = [table.match(topic).name for topic in ("a/temperature", "a/x", "alarm", "z")]
    assert names == ["hot", "all-of-a", "hot", "rest"]


def test_the_same_name_twice_is_misconfigured() -> None:
    with pytest.raises(Misconfigured, match="'s' is declared twice"):
        StreamTable((StreamSettings(name="s"), StreamSettings(name="s")))


def test_a_stream_that_nothing_could_reach_is_refused() -> None:
    with pytest.raises(Misconfigured, match="filters"):
        StreamTable((StreamSettings(name="s"),))
    StreamTable((StreamSettings(name="s"),), default="s")


@given(st.text(min_size=1, max_size=30), st.integers(1, 16))
def test_what_shares_a_key_shares_a_partition_and_every_partition_is_legal(
    topic: str, partitions: int
) -> None:
    stream = Stream(StreamSettings(name="s", partitions=partitions))
    (name, partition), key, headers = stream.place(topic, "c")
    assert name == "s"
    assert 0 <= partition < partitions
    assert key == topic.encode(errors="surrogatepass") if topic.isprintable() else True
    assert headers == ()
    assert stream.place(topic, "another")[0] == TopicPartition("s", partition)


def test_streams_are_read_from_toml_and_become_the_journals_rules(tmp_path: Path) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text(
        """
        [edge]
        name = "gw-7"
        uplink = "kafka://10.0.0.1:9092,[::1]:9093"

        [edge.mqtt_limits]
        packet_bytes_max = "64KiB"
        burst_bytes_max = "64KiB"

        [[edge.streams]]
        name = "readings"
        filters = ["sensors/#"]
        key = "{2}"
        partitions = 4
        when_full = "drop-oldest"
        retention = { bytes = "64MiB", age = "7d" }
        """
    )
    settings = config.load(
        EdgeSettings, section="edge", file=file, environ={}, flags={"mqtt": "127.0.0.1:1883"}
    ).value
    table = settings.check()
    assert settings.bootstrap == (("10.0.0.1", 9092), ("::1", 9093))
    assert settings.mqtt_limits.packet_bytes_max == 65536
    rule = retention_rules(table)["readings"]
    assert rule.bytes_max == 64 * 2**20
    assert rule.age_max == Duration(7 * 86400)
    assert rule.when_full is JournalWhenFull.DROP_OLDEST
    assert retention_rules(table)["default"].when_full is JournalWhenFull.REFUSE
    assert table.streams["readings"].settings.when_full is WhenFull.DROP_OLDEST


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("uplink", "10.0.0.1:9092"),
        ("uplink", "kafka://host"),
        ("mqtt", "127.0.0.1:²"),
        ("mqtt", "1883"),
        ("http", "127.0.0.1:70000"),
        ("name", "no spaces"),
        ("mqtt_limits.packet_bytes_max", "2MiB"),
        ("mqtt_limits.receive_maximum", "70000"),
    ],
)
def test_settings_that_contradict_are_misconfigured(key: str, value: str) -> None:
    settings = config.load(
        EdgeSettings, section="edge", file=None, environ={}, flags={key: value}
    ).value
    with pytest.raises(Misconfigured, match=key.rpartition(".")[2]):
        settings.check()
