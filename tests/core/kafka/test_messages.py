"""Every message in every version: what is written is read back, and nothing else is."""

from __future__ import annotations

import random
from typing import Annotated

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.core.errors import Refused
from headwater.core.kafka.messages import REQUESTS, MetadataRequest, ProduceRequest, ProduceResponse
from headwater.core.kafka.messages.produce import PartitionProduceData, TopicProduceData
from headwater.core.kafka.primitives import boolean, int32, nullable_since, string, tagged
from headwater.core.kafka.schema import Message, Request, Response

from .strategies import every_message, every_version, full, name_of, structs

each_version = pytest.mark.parametrize(("kind", "version"), every_version(), ids=name_of)
few = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@each_version
@few
@given(data=st.data())
def test_a_message_reads_back_as_it_was_written(
    kind: type[Message], version: int, data: st.DataObject
) -> None:
    message = data.draw(structs(kind, version))
    encoded = message.encode(version)
    assert kind.decode(encoded, version) == message
    assert kind.decode(memoryview(encoded), version) == message


@each_version
def test_a_message_cut_short_anywhere_is_refused(kind: type[Message], version: int) -> None:
    encoded = full(kind, version).encode(version)
    assert kind.decode(encoded, version).encode(version) == encoded
    for size in range(len(encoded)):
        with pytest.raises(Refused):
            kind.decode(encoded[:size], version)


@each_version
def test_bytes_after_a_message_are_refused(kind: type[Message], version: int) -> None:
    with pytest.raises(Refused, match="followed by"):
        kind.decode(full(kind, version).encode(version) + b"\0", version)


@each_version
def test_damaged_bytes_are_refused_or_read_but_never_anything_else(
    kind: type[Message], version: int
) -> None:
    encoded = full(kind, version).encode(version)
    rng = random.Random(f"{kind.__name__} {version}")
    for _ in range(60):
        damaged = bytearray(encoded)
        for _ in range(rng.randint(1, 4)):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        try:
            kind.decode(damaged, version)
        except Refused:
            continue


@pytest.mark.parametrize("kind", every_message(), ids=name_of)
def test_a_version_that_is_not_implemented_is_refused(kind: type[Message]) -> None:
    oldest, newest = kind.VERSIONS
    for version in (oldest - 1, newest + 1):
        with pytest.raises(Refused, match="not implemented"):
            kind().encode(version)
        with pytest.raises(Refused, match="not implemented"):
            kind.decode(b"", version)


def test_request_and_response_agree_on_key_and_versions() -> None:
    for key, request in REQUESTS.items():
        response = request.RESPONSE
        assert (key, response.VERSIONS) == (request.KEY, request.VERSIONS)
        assert (key, request.FLEXIBLE) == (response.KEY, response.FLEXIBLE)


def test_an_array_that_claims_more_than_is_there_is_refused_before_it_is_built() -> None:
    huge = b"\x7f\xff\xff\xff"
    with pytest.raises(Refused, match="2147483647"):
        MetadataRequest.decode(huge, 1)
    compact = b"\xff\xff\xff\xff\x0f"
    with pytest.raises(Refused, match="4294967294"):
        MetadataRequest.decode(compact, 9)


def test_a_varint_of_more_than_32_bits_is_refused() -> None:
    for varint in (b"\xff\xff\xff\xff\x1f", b"\x80\x80\x80\x80\x80\x01"):
        with pytest.raises(Refused, match="32 bits"):
            MetadataRequest.decode(varint, 9)


def test_null_where_the_version_has_none_is_refused() -> None:
    with pytest.raises(Refused, match="null"):
        MetadataRequest.decode(b"\xff\xff\xff\xff", 0)
    assert MetadataRequest.decode(b"\xff\xff\xff\xff", 1).topics is None


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(Refused, match="UTF-8"):
        MetadataRequest.decode(b"\0\0\0\x01\0\x01\xff", 1)


def test_a_value_that_does_not_fit_its_field_is_refused() -> None:
    with pytest.raises(Refused, match="does not fit"):
        ProduceRequest(acks=2**15).encode(3)
    with pytest.raises(Refused, match="does not fit"):
        ProduceRequest(transactional_id="x" * 2**15).encode(3)


def test_records_are_handed_out_without_a_copy() -> None:
    request = ProduceRequest(
        topic_data=(
            TopicProduceData(
                name="t", partition_data=(PartitionProduceData(index=0, records=b"batch"),)
            ),
        )
    )
    frame = bytearray(request.encode(9))
    records = ProduceRequest.decode(frame, 9).topic_data[0].partition_data[0].records
    assert isinstance(records, memoryview)
    frame[frame.index(b"batch")] = ord("B")
    assert bytes(records) == b"Batch"


def test_record_batches_are_not_copied_on_writing() -> None:
    records = bytes(1000)
    request = ProduceRequest(
        topic_data=(
            TopicProduceData(
                name="t", partition_data=(PartitionProduceData(index=0, records=records),)
            ),
        )
    )
    assert any(part is records for part in request.parts(9))


class _Answer(Response, frozen=True, kw_only=True):
    KEY = 1000
    VERSIONS = (0, 2)
    FLEXIBLE = 1


class _Leader(msgspec.Struct, frozen=True, kw_only=True):
    node: int32 = -1


class _Question(Request[_Answer], frozen=True, kw_only=True):
    KEY = 1000
    VERSIONS = (0, 2)
    FLEXIBLE = 1
    RESPONSE = _Answer

    name: Annotated[string | None, nullable_since(1)] = ""
    leader: Annotated[_Leader, tagged(2, since=2)] = _Leader()
    flag: Annotated[boolean, tagged(300, since=1)] = False


def test_tagged_fields_travel_only_when_they_say_something() -> None:
    assert _Question(name="a").encode(1) == b"\x02a\0"
    assert _Question(name="a", flag=True).encode(1) == b"\x02a\x01\xac\x02\x01\x01"
    both = _Question(name=None, leader=_Leader(node=5), flag=True)
    assert both.encode(2) == b"\0\x02\x02\x05\0\0\0\x05\0\xac\x02\x01\x01"
    assert _Question.decode(both.encode(2), 2) == both
    assert _Question.decode(both.encode(1), 1) == _Question(name=None, flag=True)


def test_tagged_fields_that_nobody_knows_are_skipped() -> None:
    assert _Question.decode(b"\x02a\x02\x07\x03xyz\xac\x02\x01\x01", 1) == _Question(
        name="a", flag=True
    )


def test_a_tagged_field_whose_size_lies_is_refused() -> None:
    for encoded in (
        b"\x02a\x01\xac\x02\x02\x01\0",
        b"\x02a\x01\xac\x02\x00",
        b"\x02a\x01\x07\x09xyz",
    ):
        with pytest.raises(Refused):
            _Question.decode(encoded, 1)


def test_null_before_its_version_cannot_be_written() -> None:
    with pytest.raises((Refused, AttributeError)):
        _Question(name=None).encode(0)


def test_a_response_may_have_a_tail() -> None:
    encoded = ProduceResponse().encode(9) + b"\0"
    assert ProduceRequest.decode_response(encoded, 9) == ProduceResponse()
