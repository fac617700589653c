"""Malformed input closes that one connection, with the right reason, counted; nobody else notices."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.edge.mqtt.packets import Connack, Disconnect, Packet, Publish, Version
from headwater.edge.mqtt.reasons import RETURN_CODES, Reason

from ..mqtt.vectors import Vector, load, versions_of
from .harness import Bench


@pytest.mark.parametrize(
    ("vector", "version"),
    [
        pytest.param(vector, version, id=f"{vector.id} v{version}")
        for vector in load("malformed.txt")
        for version in versions_of(vector)
    ],
)
def test_malformed_packet_closes_its_connection_with_its_reason(
    vector: Vector, version: Version
) -> None:
    bench = Bench()
    bystander = bench.connect("bystander")
    peer = bench.connect("c", version=version)
    peer.send_raw(vector.data)
    reason = Reason(int(vector.rest[0], 16))
    assert peer.transport.closed
    # 3.1.1 has no word for it: the connection just ends
    said: list[Packet] = [Disconnect(reason=reason)] if version is Version.V5 else []
    assert peer.take() == said
    assert bench.broker.tally.closed == {reason.name.lower(): 1}
    bystander.publish("a", b"still here")
    bench.sync()
    assert len(bystander.take()) == 1
    assert bench.broker.tally.crashes == 0


@pytest.mark.parametrize(
    "vector", [pytest.param(vector, id=vector.id) for vector in load("refused_connects.txt")]
)
def test_a_refused_connect_is_answered_in_its_version_and_closed(vector: Vector) -> None:
    bench = Bench()
    reason = Reason(int(vector.rest[0], 16))
    peer = bench.peer(Version.V311 if vector.versions == "4" else Version.V5)
    peer.send_raw(vector.data)
    assert peer.transport.closed
    if vector.versions == "-":
        assert peer.take_raw() == b""
    elif vector.versions == "4":
        assert peer.take_raw() == bytes((0x20, 2, 0, RETURN_CODES[reason]))
    else:
        assert peer.take() == [Connack(reason=reason)]
    assert bench.broker.sessions == {}
    assert bench.broker.tally.closed == {reason.name.lower(): 1}


@settings(max_examples=300)
@given(
    pieces=st.lists(
        st.binary(max_size=40)
        | st.sampled_from(
            [
                v.data
                for v in load("packets.txt") + load("malformed.txt") + load("refused_connects.txt")
            ]
        ),
        max_size=10,
    ),
    version=st.none() | st.sampled_from(Version),
)
def test_no_bytes_crash_a_connection_or_touch_another(
    pieces: list[bytes], version: Version | None
) -> None:
    bench = Bench()
    bystander = bench.connect("bystander")
    bystander.subscribe("quiet/corner")
    peer = bench.peer() if version is None else bench.connect("c", version=version)
    for piece in pieces:
        if not peer.transport.closed and peer.transport.reading:
            peer.send_raw(piece)
            bench.sync()
    bench.wait(60)
    assert bench.broker.tally.crashes == 0
    bystander.take()
    bystander.publish("quiet/corner", b"?", id=77)
    bench.sync()
    publish, _puback = bystander.take()
    assert isinstance(publish, Publish)
    assert publish.payload == b"?"
