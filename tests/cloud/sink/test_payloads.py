"""Payloads to columns: each trap of the field, each record one row."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.cloud.sink.chunk import Decoded
from headwater.cloud.sink.columns import Columns
from headwater.cloud.sink.payloads import PayloadDecoder
from headwater.cloud.sink.settings import PayloadFormat

NOW_US = 1_795_348_800_000_000
AUTO, JSON, TEXT, RAW = PayloadFormat


def decoder(form: PayloadFormat = AUTO, *, columns_max: int = 200) -> PayloadDecoder:
    return PayloadDecoder(Columns(columns_max=columns_max), payload_format=form)


def decode(*payloads: bytes | None, form: PayloadFormat = AUTO, columns_max: int = 200) -> Decoded:
    return with_decoder(decoder(form, columns_max=columns_max), *payloads)


def with_decoder(own: PayloadDecoder, *payloads: bytes | None) -> Decoded:
    arrivals = pa.array([NOW_US] * len(payloads), pa.int64())
    return own.decode(list(payloads), arrivals, now_us=NOW_US)


def cells(decoded: Decoded, name: str) -> list[object]:
    found: list[object] = decoded.columns[name].to_pylist()
    return found


def errors(decoded: Decoded) -> list[str | None]:
    found: list[str | None] = decoded.error.to_pylist()
    return found


def test_fields_become_columns_row_by_row() -> None:
    found = decode(b'{"t":20.5,"h":40}', b'{"h":41}', b'{"t":21}')
    assert cells(found, "t") == [20.5, None, 21.0]
    assert cells(found, "h") == [40.0, 41.0, None]
    assert errors(found) == [None, None, None]


def test_two_objects_in_one_payload_never_move_the_rows_below() -> None:
    found = decode(b'{"t":1}{"t":2}', b"", b'{"t":3}', b'{"t":\n4}', b'{"t":5')
    assert cells(found, "t") == [None, None, 3.0, 4.0, None]
    assert [why is not None for why in errors(found)] == [True, False, False, False, True]
    assert found.payload.to_pylist()[0] == '{"t":1}{"t":2}'


def test_half_a_surrogate_pair_stops_nothing_wherever_it_stands() -> None:
    half = rb"\ud800"
    found = decode(
        b'{"%b":1}' % half, b'{"t":1}', b'{"t":"%b"}' % half, b'{"a":{"b":{"c":{"%b":1}}}}' % half
    )
    assert cells(found, "_ud800") == [1.0, None, None, None]
    assert cells(found, "t__str") == [None, None, r"\ud800", None]
    assert errors(found) == [None] * 4
    crowded = decode(b'{"t":1,"u":"%b","%b":2}' % (half, half), columns_max=1)
    assert cells(crowded, "_extra") == [r'{"u":"\\ud800","\\ud800":2}']


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("known", [[], [b'{"a":[1]}'] * 200])
def test_at_every_depth_a_payload_is_a_row_or_a_dead_letter(
    opening: bytes, known: list[bytes]
) -> None:
    closing = {b"[": b"]", b'{"a":': b"}"}[opening]
    deep = [b'{"a":%b1%b}' % (opening * n, closing * n) for n in range(900, 1010)]
    found = decode(*known, *deep)
    dead = [why is not None for why in errors(found)[len(known) :]]
    assert dead == sorted(dead), "shallower ones are rows"
    assert dead[-1]


def test_a_string_where_numbers_were_goes_to_its_own_column() -> None:
    found = decode(b'{"t":1.75}', b'{"t":"21.5"}', b'{"t":true}', b'{"t":[1,2]}')
    assert cells(found, "t") == [1.75, None, None, None]
    assert cells(found, "t__str") == [None, "21.5", "true", "[1,2]"]


def test_a_number_where_strings_were_goes_to_its_own_column() -> None:
    found = decode(b'{"s":"on"}', b'{"s":5}')
    assert cells(found, "s") == ["on", None]
    assert cells(found, "s__str") == [None, "5"]


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 2**64, 10**30])
def test_an_integer_that_a_double_would_change_is_kept_as_text(number: int) -> None:
    own = decoder()
    for _ in range(2):  # by the slow way, then by the fast
        found = with_decoder(own, b'{"n":%d}' % number, b'{"n":1}')
        assert cells(found, "n") == [None, 1.0]
        assert cells(found, "n__str") == [str(number), None]


def test_an_integer_of_five_thousand_digits_is_kept_as_text() -> None:
    digits = "9" * 5000
    found = decode(b'{"n":%s}' % digits.encode())
    assert cells(found, "n__str") == [digits]
    assert errors(found) == [None]


def test_a_number_beyond_a_double_is_kept_as_text() -> None:
    found = decode(b'{"n":1e400}', b'{"n":-1e-400}')
    assert cells(found, "n__str") == ["1e400", None]
    assert cells(found, "n") == [None, -0.0]


def test_nan_and_infinity_are_doubles() -> None:
    found = decode(b'{"n":NaN,"m":1}', b'{"n":-Infinity}')
    first, second = cells(found, "n")
    assert str(first) == "nan"
    assert second == float("-inf")
    assert cells(found, "m") == [1.0, None]


def test_the_last_of_duplicate_keys_counts_in_both_ways() -> None:
    own = decoder()
    for _ in range(2):
        assert cells(with_decoder(own, b'{"a":1,"a":2}'), "a") == [2.0]


def test_nested_objects_are_flattened_three_deep_and_then_text() -> None:
    found = decode(b'{"a":{"b":{"c":{"d":1}}},"gps":{"lat":1,"lon":2}}')
    assert cells(found, "a_b_c") == ['{"d":1}']
    assert cells(found, "gps_lat") == [1.0]


def test_a_nested_object_where_a_number_was_has_its_own_columns() -> None:
    own = decoder()
    with_decoder(own, b'{"a":1}', b'{"a":{"b":2}}')
    found = with_decoder(own, b'{"a":1}', b'{"a":{"b":2}}', b'{"a":3}')
    assert cells(found, "a") == [1.0, None, 3.0]
    assert cells(found, "a_b") == [None, 2.0, None]


def test_two_paths_that_flatten_to_one_name_stay_apart() -> None:
    found = decode(b'{"a_b":1,"a":{"b":2}}')
    assert cells(found, "a_b") == [1.0]
    assert cells(found, "a_b_payload") == [2.0]


def test_deep_nesting_is_a_dead_letter_and_not_a_crash() -> None:
    found = decode(b'{"a":' + b"[" * 100_000, b'{"a":' * 50_000 + b"1" + b"}" * 50_000)
    assert errors(found) == ["broken json: nested too deeply"] * 2


def test_half_a_surrogate_pair_becomes_its_escape() -> None:
    found = decode(b'{"s":"x\\ud800y"}', b'{"\\udfff":1}')
    assert errors(found) == [None, None]
    assert cells(found, "s") == ["x\\ud800y", None]


def test_nul_in_a_string_survives() -> None:
    assert cells(decode(b'{"s":"a\\u0000b"}'), "s") == ["a\0b"]


def test_a_field_that_is_null_has_no_column_and_stays_fast() -> None:
    own = decoder()
    with_decoder(own, b'{"t":1,"battery":null}')
    found = with_decoder(own, b'{"t":2,"battery":null}', b'{"t":3,"battery":77}')
    assert cells(found, "t") == [2.0, 3.0]
    assert cells(found, "battery") == [None, 77.0]


@pytest.mark.parametrize(
    ("payload", "value"),
    [(b"21.5", 21.5), (b" 7\n", 7.0), (b"-1e3", -1000.0), (b"0", 0.0)],
)
def test_a_plain_number_is_the_column_value(payload: bytes, value: float) -> None:
    found = decode(payload)
    assert cells(found, "value") == [value]
    assert found.payload.to_pylist() == [payload.decode()]


@pytest.mark.parametrize(
    "payload",
    [
        b"ON",
        b"",
        b"007",
        b"+5",
        b"0x10",
        b"1,2",
        b'"text"',
        b"true",
        b"[1,2]",
        b"NaN",
        b"\xef\xbb\xbf{}",
    ],
)
def test_other_text_is_kept_and_is_no_error(payload: bytes) -> None:
    found = decode(payload)
    assert found.columns == {}
    assert errors(found) == [None]
    assert found.payload.to_pylist() == [payload.decode()]


def test_what_is_not_utf8_is_a_dead_letter_with_its_bytes() -> None:
    found = decode(b'{"t":1}', b"\xff\xfe", b'{"t":"\xff"}', b'{"t":2}')
    assert found.payload_raw.to_pylist() == [None, b"\xff\xfe", b'{"t":"\xff"}', None]
    assert found.payload.to_pylist() == ['{"t":1}', None, None, '{"t":2}']
    assert cells(found, "t") == [1.0, None, None, 2.0]
    assert [why is None for why in errors(found)] == [True, False, False, True]
    assert found.dead == 2


def test_a_tombstone_is_a_row_without_payload_in_every_format() -> None:
    for form in PayloadFormat:
        found = decode(None, form=form)
        assert found.payload.to_pylist() == [None]
        assert found.payload_raw.to_pylist() == [None]
        assert errors(found) == [None]


def test_format_json_takes_any_json_value_and_nothing_else() -> None:
    found = decode(b'"x"', b"[1]", b"true", b"5", b"", b"ON", form=JSON)
    assert [why is None for why in errors(found)] == [True, True, True, True, False, False]
    assert cells(found, "value") == [None, None, None, 5.0, None, None]


def test_format_text_decodes_nothing() -> None:
    found = decode(b'{"t":1}', b"\xff", form=TEXT)
    assert found.columns == {}
    assert found.payload.to_pylist() == ['{"t":1}', None]
    assert found.dead == 1


def test_format_raw_keeps_bytes_and_judges_nothing() -> None:
    found = decode(b'{"t":1}', b"\xff", form=RAW)
    assert found.payload_raw.to_pylist() == [b'{"t":1}', b"\xff"]
    assert errors(found) == [None, None]


def test_fields_beyond_the_columns_allowed_go_to_extra() -> None:
    payload = json.dumps({f"k{n}": n for n in range(10)}).encode()
    found = decode(payload, columns_max=4)
    assert [cells(found, f"k{n}") for n in range(4)] == [[0.0], [1.0], [2.0], [3.0]]
    extra = cells(found, "_extra")[0]
    assert isinstance(extra, str)
    assert json.loads(extra) == {f"k{n}": n for n in range(4, 10)}


def test_a_megabyte_of_a_key_makes_no_column() -> None:
    found = decode(b'{"%s":1,"t":2}' % (b"k" * 1_000_000))
    assert set(found.columns) == {"t", "_extra"}


class TestTime:
    def test_the_payload_s_time_wins_and_is_not_kept_twice(self) -> None:
        found = decode(b'{"ts":1795340000123,"t":1}', b'{"t":2}')
        assert found.ts.to_pylist() == [1_795_340_000_123_000, NOW_US]
        assert found.from_payload.to_pylist() == [True, False]
        assert set(found.columns) == {"t"}

    @pytest.mark.parametrize(
        "value",
        [
            "1795340000",
            "1795340000.0",
            "1795340000000",
            "1795340000000000",
            "1795340000000000000",
            '"2026-11-22T09:33:20Z"',
            '"2026-11-22 10:33:20+01:00"',
            '"2026-11-22T09:33:20"',
        ],
    )
    def test_units_and_iso_text_are_told_apart(self, value: str) -> None:
        for name in ("ts", "time", "timestamp"):
            own = decoder()
            for _ in range(2):
                found = with_decoder(own, f'{{"{name}":{value}}}'.encode())
                assert found.ts.to_pylist() == [1_795_340_000_000_000]

    @pytest.mark.parametrize("value", ["12", "-5", "0", "true", "4070908800000", '"noon"', "[1]"])
    def test_an_implausible_time_is_an_ordinary_field(self, value: str) -> None:
        own = decoder()
        for _ in range(2):
            found = with_decoder(own, f'{{"ts":{value}}}'.encode())
            assert found.from_payload.to_pylist() == [False]
            assert found.ts.to_pylist() == [NOW_US]
            assert "ts_payload" in found.columns

    def test_good_and_bad_times_mix(self) -> None:
        own = decoder()
        with_decoder(own, b'{"ts":1795340000123}')
        found = with_decoder(own, b'{"ts":1795340000123}', b'{"ts":5}', b'{"ts":"x"}', b"{}")
        assert found.from_payload.to_pylist() == [True, False, False, False]
        assert cells(found, "ts_payload") == [None, 5.0, None, None]
        assert cells(found, "ts_payload__str") == [None, None, "x", None]

    def test_of_two_times_the_first_in_rank_wins_and_the_other_is_a_field(self) -> None:
        own = decoder()
        for payload in (b'{"time":1795340000000}', b'{"ts":1795340001000,"time":1795340000000}'):
            with_decoder(own, payload)
        found = with_decoder(own, b'{"ts":1795340001000,"time":1795340000000}')
        assert found.ts.to_pylist() == [1_795_340_001_000_000]
        assert cells(found, "time") == [1_795_340_000_000.0]


LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5)
)
OBJECTS = st.dictionaries(
    st.sampled_from(["a", "b", "A", "ts", "time", "value", "device", ""]) | st.text(max_size=3),
    st.recursive(
        LEAVES,
        lambda inner: (
            st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
        ),
        max_leaves=4,
    ),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(OBJECTS, min_size=1, max_size=6), min_size=2, max_size=3))
def test_fast_and_slow_ways_agree_and_each_payload_is_one_row(chunks: list[list[object]]) -> None:
    """A decoder that has seen everything before gives the same cells as one payload at a time does."""
    learnt = decoder()
    for chunk in chunks:
        with_decoder(learnt, *[json.dumps(item).encode() for item in chunk])
    for chunk in chunks:
        payloads = [json.dumps(item).encode() for item in chunk]
        together = with_decoder(learnt, *payloads)
        assert together.payload.to_pylist() == [payload.decode() for payload in payloads]
        assert errors(together) == [None] * len(payloads)
        for row, payload in enumerate(payloads):
            slow = decoder()
            slow.columns = learnt.columns  # the same columns, but nothing to be fast with
            slow._fast_struct = lambda: None  # type: ignore[method-assign]
            alone = with_decoder(slow, payload)
            names = set(together.columns) | set(alone.columns)
            for name in names:
                left = together.columns[name][row].as_py() if name in together.columns else None
                right = alone.columns[name][0].as_py() if name in alone.columns else None
                assert str(left) == str(right), (name, payload)
            assert together.ts[row] == alone.ts[0]
