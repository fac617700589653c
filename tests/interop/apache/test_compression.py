"""Each client's batches in each codec, read back by each of the others; and Apache's own eye on the log's bytes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from headwater.core.batch import Compression, decode_batch, encode_batch, parse_header
from headwater.core.record import Record

from .clients import CODECS, READERS, WRITERS, WRITES_ONLY, batches_of
from .cluster import Cluster
from .tools import Tools

# kafka-python warns of its own ways
pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore")]

RECORDS = 30
PRODUCERS_OWN = 1_700_000_000_000


def dump(tools: Tools, batches: list[bytes], directory: Path) -> tuple[list[str], list[str]]:
    """What kafka-dump-log says: of each batch, of each record. Raw bytes of a partition are a segment file."""
    segment = directory / "00000000000000000000.log"
    segment.write_bytes(b"".join(batches))
    done = tools("kafka-dump-log", "--deep-iteration", "--print-data-log", "--files", str(segment))
    of_batches = [line for line in done.lines if line.startswith("baseOffset:")]
    of_records = [line for line in done.lines if line.startswith("| offset:")]
    assert all(" isvalid: true" in line for line in of_batches), done.out
    return of_batches, of_records


def test_every_client_reads_what_every_client_wrote_in_every_codec(
    kafka: Cluster, tools: Tools, tmp_path: Path
) -> None:
    topic, expected = kafka.make_topic(), []
    for codec in CODECS:
        for name, write in WRITERS.items():
            if codec not in WRITES_ONLY.get(name, CODECS):
                continue
            values = [f"{name} {codec} {n} {'wasser' * 40}" for n in range(RECORDS)]
            write(kafka, topic, codec, values)
            expected += values
    batches = batches_of(kafka, topic)
    stored = [
        (parse_header(b).compression, r.value or b"") for b in batches for r in decode_batch(b)[1]
    ]
    assert [value.decode() for _, value in stored] == expected
    for used, value in stored:
        writer, asked = value.decode().split(" ")[:2]
        assert used is CODECS[asked], f"{writer} wrote {used.name} and was asked for {asked}"
    for name, read in READERS.items():
        assert read(kafka, topic, len(expected)) == expected, f"read by {name}"
    of_batches, of_records = dump(tools, batches, tmp_path)
    assert len(of_batches) == len(batches)
    payloads = [line.partition(" payload: ")[2] for line in of_records]
    assert payloads == expected, "read by kafka-dump-log"


@pytest.mark.parametrize("codec", [CODECS[name] for name in sorted(WRITES_ONLY["headwater"])])
def test_apache_finds_in_our_batches_what_we_put_in(
    tools: Tools, tmp_path: Path, codec: Compression
) -> None:
    records = [
        Record(PRODUCERS_OWN, b"key", b"value", (("one", b"1"), ("none", None))),
        Record(PRODUCERS_OWN + 86_400_000, None, b"later by a day"),
        Record(PRODUCERS_OWN - 5, b"", b"earlier than the first"),
        Record(PRODUCERS_OWN, b"no value", None),
        Record(PRODUCERS_OWN, b"long", b"x" * 100_000),
    ]
    producer = {"producer_id": 7, "producer_epoch": 1}
    near_the_end = 2**31 - 3
    first = encode_batch(records, compression=codec, base_sequence=near_the_end, **producer)
    second = encode_batch(records, compression=codec, base_offset=5, base_sequence=2, **producer)
    of_batches, of_records = dump(tools, [first, second], tmp_path)
    shape = re.compile(
        r"baseOffset: (\d+) lastOffset: (\d+) count: 5 baseSequence: (\d+) lastSequence: (\d+)"
        r" producerId: 7 producerEpoch: 1 .* isTransactional: false isControl: false"
        rf".* CreateTime: {PRODUCERS_OWN + 86_400_000} .* compresscodec: {codec.name.lower()} "
    )
    found = [shape.match(line) for line in of_batches]
    assert [match and match.groups() for match in found] == [
        ("0", "4", str(near_the_end), "1"),  # numbers begin again at 0
        ("5", "9", "2", "6"),
    ], of_batches
    head, later, earlier, empty, long = of_records[:5]
    assert f"CreateTime: {PRODUCERS_OWN} " in head
    assert "headerKeys: [one,none] key: key payload: value" in head
    assert f"CreateTime: {PRODUCERS_OWN + 86_400_000} keySize: -1 valueSize: 14" in later
    assert f"CreateTime: {PRODUCERS_OWN - 5} keySize: 0 " in earlier
    assert "valueSize: -1" in empty
    assert long.endswith("key: long payload: " + "x" * 100_000)
    assert of_records[9].startswith("| offset: 9 ")
