"""Addresses and names: what a record is called for life."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.core.errors import Corrupt, Refused
from headwater.core.gap import Gap, GapReason
from headwater.core.record import Address, check_name

NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,40}", fullmatch=True)


@given(NAMES, NAMES, st.integers(0, 10_000), st.integers(0, 2**63 - 1))
def test_an_address_reads_back(edge: str, stream: str, partition: int, offset: int) -> None:
    address = Address(edge, stream, partition, offset)
    assert Address.decode(address.encode()) == address


@pytest.mark.parametrize("text", [b"", b"a/b/c", b"a/b/1/2/3", b"a/b/x/1", b"\xff/b/1/2"])
def test_other_bytes_are_not_an_address(text: bytes) -> None:
    with pytest.raises(Refused):
        Address.decode(text)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "é", "a" * 250, "line\n"])
def test_a_name_that_kafka_would_not_take_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="stream"):
        check_name(name, what="stream")


def test_a_gap_reads_back_and_counts_both_ends() -> None:
    gap = Gap(
        edge="pi-7",
        log="0" * 16,
        stream="s",
        partition=2,
        first=10,
        last=14,
        reason=GapReason.DAMAGE,
    )
    assert gap.count == 5
    record = gap.record(1)
    assert record.value is not None
    assert Gap.decode(record.value) == gap
    with pytest.raises(Corrupt):
        Gap.decode(b"{}")
