"""Against others' encoders and decoders: aiokafka, kafka-python; librdkafka's are in tests/core/kafka/test_interop.py."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.core.batch import Compression, decode_batch, encode_batch, validate_batch
from headwater.core.record import Record, StoredRecord

from .conftest import Leaf
from .strategies import batches

THEIRS = ["aiokafka.record.default_records", "kafka.record.default_records"]
# kafka-python needs further packages for the others.
CODECS = {
    "aiokafka": list(Compression),
    "kafka": [Compression.NONE, Compression.GZIP],
}
WRITTEN = [Compression.NONE, Compression.GZIP, Compression.ZSTD]
examples = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(params=THEIRS, ids=lambda name: name.partition(".")[0])
def theirs(request: pytest.FixtureRequest) -> Any:
    name: str = request.param
    return pytest.importorskip(name, reason=f"{name.partition('.')[0]} is not installed")


def codecs_of(theirs: Any) -> list[Compression]:
    return CODECS[theirs.__name__.partition(".")[0]]


def their_bytes(theirs: Any, records: list[Record], codec: Compression) -> bytes:
    builder = theirs.DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec.value,
        is_transactional=False,
        producer_id=7,
        producer_epoch=1,
        base_sequence=11,
        batch_size=2**30,
    )
    for offset, record in enumerate(records):
        builder.append(
            offset,
            timestamp=record.timestamp,
            key=record.key,
            value=record.value,
            headers=list(record.headers),
        )
    return bytes(builder.build())


def usable(records: list[Record]) -> list[Record]:
    """They take timestamps from 0 on, and no null in a header's place of a name."""
    return [record._replace(timestamp=abs(record.timestamp)) for record in records]


@examples
@given(records=batches.map(usable), data=st.data())
def test_what_they_write_is_read(
    leaf: Leaf, theirs: Any, records: list[Record], data: st.DataObject
) -> None:
    codec = data.draw(st.sampled_from(codecs_of(theirs)))
    header, read = decode_batch(their_bytes(theirs, records, codec))
    assert read == [StoredRecord(index, *record) for index, record in enumerate(records)]
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (7, 1, 11)


@examples
@given(
    records=batches.map(usable),
    data=st.data(),
)
def test_they_read_what_is_written(
    leaf: Leaf, theirs: Any, records: list[Record], data: st.DataObject
) -> None:
    both = [codec for codec in WRITTEN if codec in codecs_of(theirs)]
    codec = data.draw(st.sampled_from(both))
    batch = encode_batch(records, base_offset=40, compression=codec)
    read = theirs.DefaultRecordBatch(bytearray(batch))
    assert read.validate_crc()
    assert [
        (record.offset, record.timestamp, record.key, record.value, tuple(record.headers))
        for record in read
    ] == [(40 + index, *record) for index, record in enumerate(records)]


@examples
@given(records=batches.map(usable))
def test_uncompressed_the_bytes_are_the_same(
    leaf: Leaf, theirs: Any, records: list[Record]
) -> None:
    ours = encode_batch(records, producer_id=7, producer_epoch=1, base_sequence=11)
    written = their_bytes(theirs, records, Compression.NONE)
    # The leader epoch is the broker's to fill in; they write 0 or -1.
    assert ours[:12] + ours[16:] == written[:12] + written[16:]
    assert validate_batch(written)
