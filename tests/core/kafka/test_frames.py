"""Frames: the vectors byte for byte; whole, byte by byte, cut short, and with lengths that lie."""

from __future__ import annotations

import itertools
import json
import struct
from pathlib import Path
from typing import TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.core.errors import Refused
from headwater.core.kafka import frames, messages
from headwater.core.kafka.errors import ErrorCode
from headwater.core.kafka.messages import (
    ApiVersionsRequest,
    HeartbeatRequest,
    HeartbeatResponse,
    ProduceResponse,
)
from headwater.core.kafka.messages.produce import PartitionProduceResponse, TopicProduceResponse
from headwater.core.kafka.schema import Message, Request

VECTORS = Path(__file__).parents[2] / "vectors" / "kafka"


class Vector(TypedDict):
    name: str
    source: str
    kind: str
    version: int
    correlation_id: int
    client_id: str
    fields: dict[str, object]
    frame: str


def vectors(name: str) -> list[Vector]:
    found: list[Vector] = json.loads((VECTORS / name).read_text())
    return found


def message_of(vector: Vector) -> Message:
    kind: type[Message] = getattr(messages, vector["kind"])
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vector["fields"].items()
    }
    return kind(**values)


@pytest.mark.parametrize("vector", vectors("frames.json"), ids=lambda vector: vector["name"])
def test_a_request_is_framed_as_the_vector_says(vector: Vector) -> None:
    frame = bytes.fromhex(vector["frame"])
    message = message_of(vector)
    assert isinstance(message, Request)
    encoded = frames.encode_request(
        message,
        vector["version"],
        correlation_id=vector["correlation_id"],
        client_id=vector["client_id"],
    )
    assert encoded == frame
    header, decoded = frames.decode_request(frame[4:])
    assert decoded == message
    assert header == (message.KEY, vector["version"], vector["correlation_id"], vector["client_id"])


@pytest.mark.parametrize("vector", vectors("responses.json"), ids=lambda vector: vector["name"])
def test_a_response_is_framed_as_the_vector_says(vector: Vector) -> None:
    frame = bytes.fromhex(vector["frame"])
    message = message_of(vector)
    version, number = vector["version"], vector["correlation_id"]
    assert frames.encode_response(message, version, correlation_id=number) == frame
    request = messages.REQUESTS[message.KEY]
    assert frames.correlation_id(frame[4:]) == number
    assert frames.decode_response(request, version, frame[4:]) == message


@pytest.mark.parametrize("vector", vectors("frames.json"), ids=lambda vector: vector["name"])
def test_a_request_cut_short_anywhere_is_refused(vector: Vector) -> None:
    frame = bytes.fromhex(vector["frame"])[4:]
    for size in range(len(frame)):
        with pytest.raises(Refused):
            frames.decode_request(frame[:size])


@pytest.mark.parametrize("vector", vectors("frames.json"), ids=lambda vector: vector["name"])
def test_bytes_behind_a_request_are_let_pass(vector: Vector) -> None:
    frame = bytes.fromhex(vector["frame"])[4:]
    assert frames.decode_request(frame + b"\1\0\0") == frames.decode_request(frame)


@pytest.mark.parametrize("vector", vectors("responses.json"), ids=lambda vector: vector["name"])
def test_a_response_cut_short_anywhere_is_refused(vector: Vector) -> None:
    frame = bytes.fromhex(vector["frame"])[4:]
    request = messages.REQUESTS[message_of(vector).KEY]
    for size in range(len(frame)):
        with pytest.raises(Refused):
            frames.decode_response(request, vector["version"], frame[:size])


def test_a_response_without_a_correlation_id_is_refused() -> None:
    for size in range(4):
        with pytest.raises(Refused):
            frames.correlation_id(b"\0" * size)


FRAMES = [b"", b"one", b"x" * 300]
STREAM = b"".join(struct.pack(">i", len(frame)) + frame for frame in FRAMES)


def test_frames_come_out_whole_however_the_bytes_come_in() -> None:
    for step in range(1, len(STREAM) + 1):
        reader = frames.FrameReader(300)
        pieces = [STREAM[begin : begin + step] for begin in range(0, len(STREAM), step)]
        assert [frame for piece in pieces for frame in reader.receive(piece)] == FRAMES
        assert reader.held == 0


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=8).map(sorted))
def test_frames_come_out_whole_at_any_cut(cuts: list[int]) -> None:
    reader = frames.FrameReader(300)
    edges = [0, *cuts, len(STREAM)]
    pieces = [STREAM[one:two] for one, two in itertools.pairwise(edges)]
    assert [frame for piece in pieces for frame in reader.receive(piece)] == FRAMES


def test_a_tail_is_held_for_the_next_bytes() -> None:
    reader = frames.FrameReader(300)
    assert list(reader.receive(STREAM + b"\0\0\0\x02a")) == FRAMES
    assert reader.held == 5
    assert list(reader.receive(b"b")) == [b"ab"]


@pytest.mark.parametrize("size", [301, 2**31 - 1, -1, -(2**31)])
def test_a_length_above_the_limit_is_refused_before_the_frame_arrives(size: int) -> None:
    reader = frames.FrameReader(300)
    with pytest.raises(Refused, match="limit is 300"):
        list(reader.receive(struct.pack(">i", size)))


def test_an_api_or_version_that_is_not_implemented_leaves_its_header_to_answer() -> None:
    for key, version in ((18, 5), (18, 99), (0, 2), (71, 0), (-1, 0)):
        frame = struct.pack(">hhih", key, version, 42, -1)
        flexible = key == 18  # only there the header's tag buffer is expected
        with pytest.raises(frames.UnsupportedVersion) as caught:
            frames.decode_request(frame + (b"\0" if flexible else b""))
        assert caught.value.header == (key, version, 42, None)


def test_tagged_fields_in_a_header_are_skipped() -> None:
    encoded = frames.encode_request(HeartbeatRequest(), 4, correlation_id=1, client_id="")
    head, tags, body = encoded[4:14], b"\x01\x05\x02ab", encoded[15:]
    header, message = frames.decode_request(head + tags + body)
    assert (header.correlation_id, message) == (1, HeartbeatRequest())
    with pytest.raises(Refused, match="reaches past"):
        frames.RequestHeader.decode(head + b"\x01\x05\x7fab")


def test_a_client_id_whose_length_lies_is_refused() -> None:
    for size in (-2, 5):
        with pytest.raises(Refused):
            frames.RequestHeader.decode(struct.pack(">hhih", 12, 0, 1, size) + b"abc")
    with pytest.raises(Refused, match="UTF-8"):
        frames.RequestHeader.decode(struct.pack(">hhih", 12, 0, 1, 1) + b"\xff")


def test_the_pieces_of_a_response_are_its_bytes() -> None:
    answer = ProduceResponse(
        responses=(
            TopicProduceResponse(
                name="t", partition_responses=(PartitionProduceResponse(index=1),)
            ),
        )
    )
    for version in (3, 9):
        parts = frames.response_parts(answer, version, correlation_id=3)
        whole = frames.encode_response(answer, version, correlation_id=3)
        assert b"".join(parts) == whole
        assert struct.unpack_from(">i", whole)[0] == len(whole) - 4


def test_only_api_versions_keeps_the_old_response_header() -> None:
    assert not frames.is_response_header_flexible(ApiVersionsRequest, 4)
    assert frames.is_response_header_flexible(HeartbeatRequest, 4)
    assert not frames.is_response_header_flexible(HeartbeatRequest, 3)
    assert frames.encode_response(HeartbeatResponse(), 4, correlation_id=1)[8:9] == b"\0"


def test_error_codes_say_what_a_client_may_do() -> None:
    assert ErrorCode.of(6) is ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert ErrorCode.of(12345) is ErrorCode.UNKNOWN_SERVER_ERROR
    assert ErrorCode.NOT_LEADER_OR_FOLLOWER.stale_metadata
    assert ErrorCode.REQUEST_TIMED_OUT.retriable
    assert not ErrorCode.REQUEST_TIMED_OUT.stale_metadata
    assert not ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER.retriable
    assert not ErrorCode.NONE.retriable
    assert all(code.retriable for code in ErrorCode if code.stale_metadata)
