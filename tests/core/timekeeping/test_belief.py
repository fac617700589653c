"""A mark in its two shapes: what went in comes out, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.core.batch import encode_batch, parse_header
from headwater.core.belief import NO_STAMP, Mark, Stamp, Trust
from headwater.core.errors import Refused
from headwater.core.record import Record

marks = st.builds(
    Mark,
    st.binary(min_size=4, max_size=4).map(bytes.hex),
    st.sampled_from(Trust),
    st.integers(-(10**15), 10**15),
)


@given(mark=marks)
def test_a_mark_survives_the_header(mark: Mark) -> None:
    assert Mark.decode(mark.encode()) == mark


@given(mark=marks)
def test_a_mark_survives_a_batch_of_the_journal(mark: Mark) -> None:
    header = parse_header(encode_batch([Record(1, None, b"x")], **mark.producer()._asdict()))
    stamp = Stamp(header.producer_id, header.producer_epoch, header.base_sequence)
    assert stamp.mark() == mark


def test_a_batch_of_an_earlier_version_has_no_mark() -> None:
    header = parse_header(encode_batch([Record(1, None, b"x")]))
    assert Stamp(header.producer_id, header.producer_epoch, header.base_sequence) == NO_STAMP
    assert NO_STAMP.mark() is None


@pytest.mark.parametrize(
    "text", [b"", b"0badcafe/2", b"0badcafe/3/5", b"0BADCAFE/2/5", b"0badcafe/2/5 ", b"x/2/5"]
)
def test_what_no_edge_wrote_is_refused(text: bytes) -> None:
    with pytest.raises(Refused, match="not a time mark"):
        Mark.decode(text)
