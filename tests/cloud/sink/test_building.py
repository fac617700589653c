"""From fetched bytes to a commit: every record a row or a counted duplicate, whatever the batches are."""

from __future__ import annotations

import datetime
import io
import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.cloud.lake.lineage import KafkaSpan, kafka_spans, row_spans
from headwater.cloud.lake.positions import Positions
from headwater.cloud.sink import building
from headwater.cloud.sink.building import CHUNK_ROWS, Built, build
from headwater.cloud.sink.columns import Columns
from headwater.cloud.sink.ledger import Ledger
from headwater.cloud.sink.payloads import PayloadDecoder
from headwater.cloud.sink.settings import PayloadFormat
from headwater.cloud.sink.source import Aborted, Fetched, OutOfRange
from headwater.core.batch import Compression, encode_batch
from headwater.core.errors import Corrupt
from headwater.core.journal.reading import Bounds
from headwater.core.record import Headers, Record, TopicPartition

from .batches import recrc
from .log import NOON, addressed

TP = TopicPartition("telemetry", 0)
DAY_MS = 86_400_000


def built(
    *batches: bytes, offset: int = 0, aborted: tuple[Aborted, ...] = (), now_ms: int = NOON
) -> Built:
    return build(
        [Fetched(TP, offset, b"".join(batches), aborted)],
        ledger=Ledger("c", Positions({})),
        decoder=PayloadDecoder(Columns(columns_max=200), payload_format=PayloadFormat.AUTO),
        now_ms=now_ms,
        zstd_level=3,
    )


def table(made: Built) -> pa.Table:
    parts = [pq.read_table(io.BytesIO(data), partitioning=None) for _, data in made.files]
    return pa.concat_tables(parts, promote_options="default").sort_by("offset")


def column(made: Built, name: str) -> list[object]:
    found: list[object] = table(made)[name].to_pylist()
    return found


def span(made: Built) -> KafkaSpan:
    [found] = kafka_spans(made.files[0][0])
    assert found.adds_up
    return found


def plain(value: bytes, *, timestamp: int = NOON, key: bytes | None = b"k") -> Record:
    return Record(timestamp, key, value)


def control_batch(base_offset: int, producer_id: int) -> bytes:
    batch = encode_batch(
        [Record(NOON, b"\x00\x00\x00\x00", b"\x00\x00\x00\x00\x00\x00")],
        base_offset=base_offset,
        producer_id=producer_id,
        producer_epoch=0,
    )
    return with_attributes(batch, 0x30)


def transactional(batch: bytes) -> bytes:
    return with_attributes(batch, 0x10)


def with_attributes(batch: bytes, attributes: int) -> bytes:
    out = bytearray(batch)
    struct.pack_into(">h", out, 21, attributes)
    return recrc(bytes(out))


def test_a_row_says_where_and_when_its_record_came_from() -> None:
    record = addressed(b"5", 3, partition=2, key=b"dev/9", extra=(("mqtt.topic", b"a/b"),))
    found = table(built(encode_batch([record]))).to_pylist()[0]
    noon = datetime.datetime.fromtimestamp(NOON / 1000, datetime.UTC)
    assert {name: found[name] for name in ("device", "topic", "edge", "stream", "log")} == {
        "device": "dev/9",
        "topic": "a/b",
        "edge": "edge-1",
        "stream": "telemetry",
        "log": "0123456789abcdef",
    }
    assert (found["partition"], found["offset"]) == (2, 3)
    assert (found["arrival"], found["ts"], found["ts_source"]) == (noon, noon, "arrival")


def test_a_record_without_an_address_has_kafka_s_own() -> None:
    found = table(built(encode_batch([plain(b"5")], base_offset=17), offset=17)).to_pylist()[0]
    assert (found["edge"], found["log"], found["stream"]) == ("", "", "telemetry")
    assert (found["partition"], found["offset"]) == (0, 17)
    assert (found["device"], found["topic"]) == ("k", "k")


@pytest.mark.parametrize(
    "forged",
    [b"no-slash", b"a/b/c/d", b"a/b/0/-1", b"/s/0/5", b"a/b/0/5/6", b"\xff/b/0/5", b"", None],
)
def test_a_forged_address_is_kept_as_a_header_and_kafka_s_own_is_used(forged: bytes | None) -> None:
    records = [
        Record(NOON, b"k", b"1", (("hw.address", forged), ("hw.log", b"x"))),
        addressed(b"2", 0),
    ]
    made = built(encode_batch(records))
    assert made.rows == 2
    found = {row["edge"]: row for row in table(made).to_pylist()}
    assert found[""]["offset"] == 0
    assert "hw.address" in found[""]["headers"]
    assert found["edge-1"]["headers"] is None


def test_other_headers_are_kept_as_text() -> None:
    record = Record(NOON, b"k", b"1", (("unit", b"C"), ("bin", b"\xff"), ("unit", None)))
    [headers] = column(built(encode_batch([record])), "headers")
    assert headers == '[["unit","C"],["bin",{"base64":"/w=="}],["unit",null]]'


@pytest.mark.parametrize("mark", [(), (("mqtt.qos", b"0"),), (("mqtt.retain", b"1"),)])
def test_qos_and_retain_are_no_headers_of_interest(mark: Headers) -> None:
    said: Headers = (*mark, ("unit", b"C"))
    records = [
        Record(NOON, b"k", b"1", (*mark, ("hw.address", b"e/s/0/5"))),
        Record(NOON, b"k", b"2", (("hw.address", b"e/s/0/6"),)),
        Record(NOON, b"k", b"3", (*said, ("hw.address", b"e/s/0/7"))),
    ]
    made = built(encode_batch(records))
    assert column(made, "offset") == [5, 6, 7]
    assert column(made, "headers") == [None, None, '[["unit","C"]]']


def test_a_null_key_and_a_key_that_is_no_text() -> None:
    made = built(encode_batch([plain(b"1", key=None), plain(b"2", key=b"\xff!")]))
    assert column(made, "device") == [None, "\\xff!"]


def test_only_records_from_the_position_on_are_taken_from_the_first_batch() -> None:
    batch = encode_batch([plain(b"%d" % n) for n in range(10)])
    made = built(batch, offset=7)
    assert column(made, "offset") == [7, 8, 9]
    assert (span(made).first, span(made).next, span(made).rows) == (7, 10, 3)


def test_holes_that_compaction_left_are_accounted_for() -> None:
    made = built(
        encode_batch([plain(b"1")], base_offset=2), encode_batch([plain(b"2")], base_offset=9)
    )
    assert (span(made).rows, span(made).absent, span(made).next) == (2, 8, 10)


def test_control_and_aborted_batches_are_no_rows_but_are_accounted_for() -> None:
    ours = encode_batch([plain(b"1")], base_offset=0)
    aborted = transactional(
        encode_batch([plain(b"2")] * 3, base_offset=1, producer_id=9, producer_epoch=0)
    )
    marker = control_batch(4, 9)
    committed = transactional(
        encode_batch([plain(b"3")], base_offset=5, producer_id=9, producer_epoch=0)
    )
    made = built(ours, aborted, marker, committed, control_batch(6, 9), aborted=(Aborted(9, 1),))
    assert column(made, "offset") == [0, 5]
    assert (span(made).rows, span(made).absent, span(made).next) == (2, 5, 7)


def test_a_commit_without_rows_still_has_a_file_for_its_lineage() -> None:
    made = built(control_batch(0, 9))
    assert made.rows == 0
    [(add, _)] = made.files
    assert add.rows == 0
    assert (span(made).absent, row_spans(add)) == (1, [])
    assert [txn.version for txn in made.txns] == [1]


def test_a_batch_that_cannot_be_taken_apart_is_dead_letters_with_its_bytes() -> None:
    whole = encode_batch([plain(b"abc"), plain(b"def")])
    broken = recrc(whole[:61] + b"\x7f" + whole[62:])
    made = built(broken, encode_batch([addressed(b"1", 0)], base_offset=2))
    assert made.rows == 3
    assert made.dead == 2
    rows = [row for row in table(made).to_pylist() if row["error"]]
    assert [row["payload_raw"] for row in rows] == [broken, None]
    assert all(row["error"].startswith("broken batch: ") for row in rows)
    assert span(made).rows == 3


def test_a_broken_batch_is_no_more_rows_than_a_chunk_whatever_its_header_says() -> None:
    whole = encode_batch([plain(b"abc")])
    count = 50_000_000
    lying = whole[:23] + struct.pack(">i", count - 1) + whole[27:57] + struct.pack(">i", count)
    made = built(recrc(lying + whole[61:]))
    assert made.rows == made.dead == CHUNK_ROWS
    assert (span(made).next, span(made).absent) == (count, count - CHUNK_ROWS)


def test_what_is_too_much_for_one_commit_is_left_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(building, "COMMIT_BYTES_MAX", 5_000_000)
    monkeypatch.setattr(building, "CHUNK_BYTES", 2_000_000)
    bombs = [
        encode_batch([plain(bytes(1_000_000))], base_offset=n, compression=Compression.ZSTD)
        for n in range(12)
    ]
    other = TopicPartition("telemetry", 1)
    left: list[Fetched | OutOfRange] = [
        Fetched(TP, 0, b"".join(bombs[:7])),
        Fetched(other, 5, encode_batch([plain(b"x")], base_offset=5)),
        Fetched(TP, 7, b"".join(bombs[7:])),
        OutOfRange(TP, 12, Bounds(20, 30)),
    ]
    rows, spans = [], []
    while left:
        made = building.build(
            left,
            ledger=Ledger("c", Positions({})),
            decoder=PayloadDecoder(Columns(columns_max=200), payload_format=PayloadFormat.TEXT),
            now_ms=NOON,
            zstd_level=3,
        )
        rows.append(made.rows)
        spans += made.kafka
        left = made.rest
    assert rows == [5, 6, 2]
    assert [(s.partition, s.first, s.next, s.lost) for s in spans] == [
        (0, 0, 5, 0), (0, 5, 10, 0), (1, 5, 6, 0), (0, 10, 20, 8),
    ]  # fmt: skip


def test_a_batch_with_a_wrong_crc_is_no_data() -> None:
    whole = encode_batch([plain(b"abc")])
    with pytest.raises(Corrupt, match="CRC"):
        built(whole[:-1] + b"\x01")


def test_the_same_bytes_give_the_same_name_and_others_another() -> None:
    batch = encode_batch([plain(b'{"t":1}')])
    assert built(batch).files[0][0].path == built(batch).files[0][0].path
    assert (
        built(encode_batch([plain(b'{"t":2}')])).files[0][0].path != built(batch).files[0][0].path
    )


def test_rows_are_sorted_by_device_text_then_time() -> None:
    records = [
        plain(b'{"ts":%d}' % (NOON - n), key=key)
        for n, key in enumerate([b"b", b"a", b"c", b"a", b"b"])
    ]
    made = built(encode_batch(records))
    found = pq.read_table(io.BytesIO(made.files[0][1]), partitioning=None)
    pairs = list(zip(found["device"].to_pylist(), found["ts"].to_pylist(), strict=True))
    assert pairs == sorted(pairs)
    assert len(pairs) == 5


class TestDays:
    def test_records_around_midnight_lie_in_two_files_with_their_own_lineage(self) -> None:
        records = [addressed(b"1", n, timestamp=NOON + n * DAY_MS // 4) for n in range(4)]
        made = built(encode_batch(records), now_ms=NOON + DAY_MS)
        days = [add.partition_values["day"] for add, _ in made.files]
        assert days == ["2026-11-22", "2026-11-23"]
        spans = [row_spans(add) for add, _ in made.files]
        assert [found[0].ranges for found in spans if found] == [[(0, 1)], [(2, 3)]]
        assert len(kafka_spans(made.files[0][0])) == 1
        assert kafka_spans(made.files[1][0]) == []

    @pytest.mark.parametrize("clock", [0, 1000, 4_070_908_800_000, -1, -(2**62), 2**62])
    def test_a_clock_that_believes_in_1970_or_2099_makes_no_day_of_its_own(
        self, clock: int
    ) -> None:
        records = [plain(b"1", timestamp=clock), plain(b"2")]
        made = built(encode_batch([records[0]]), encode_batch([records[1]], base_offset=1))
        assert [add.partition_values["day"] for add, _ in made.files] == ["2026-11-22"]
        assert made.rows == 2

    def test_a_fleet_of_wrong_clocks_makes_a_bounded_number_of_files(self) -> None:
        records = [plain(b"1", timestamp=NOON - n * DAY_MS) for n in range(200)]
        made = built(encode_batch(records))
        assert len(made.files) == 8
        assert made.rows == 200


def test_statistics_bound_what_is_inside() -> None:
    records = [plain(b'{"ts":%d.25}' % (NOON - n), key=b"d%d" % n) for n in range(3)]
    [(add, _)] = built(encode_batch(records)).files
    assert add.stats is not None
    assert '"minValues":{"device":"d0","ts":"2026-11-22T11:59:59.998Z"' in add.stats
    assert '"maxValues":{"device":"d2","ts":"2026-11-22T12:00:00.001Z"' in add.stats
