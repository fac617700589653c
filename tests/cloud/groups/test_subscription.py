"""Whose offsets are in use: the head of a consumer's subscription, as clients of several ages write it."""

from __future__ import annotations

import pytest

from headwater.cloud.groups.subscription import subscribes


def metadata(version: int, *topics: bytes, rest: bytes = b"\xff\xff\xff\xff") -> bytes:
    out = version.to_bytes(2, "big") + len(topics).to_bytes(4, "big")
    return out + b"".join(len(topic).to_bytes(2, "big") + topic for topic in topics) + rest


@pytest.mark.parametrize("version", [0, 1, 3])
def test_a_member_subscribes_to_the_topics_it_names(version: int) -> None:
    joined = metadata(version, b"a", b"bc")
    assert subscribes(joined, "a")
    assert subscribes(joined, "bc")
    assert not subscribes(joined, "b")


def test_no_topics_are_no_subscription() -> None:
    assert not subscribes(metadata(0), "a")


def test_what_cannot_be_read_may_be_anything() -> None:
    whole = metadata(1, b"abc", rest=b"")
    for size in range(len(whole)):
        assert subscribes(whole[:size], "z"), size
    assert not subscribes(whole, "z")
    assert subscribes(b"\x00\x01\x00\x00\x00\x01\xff\xfe", "z"), "a length below zero"
