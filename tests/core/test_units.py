"""Sizes and durations as people write them."""

from __future__ import annotations

import pytest

from headwater.core.errors import Refused
from headwater.core.units import ByteSize, Duration


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("17", 17), ("1KiB", 1024), ("1.5 MiB", 1572864), ("2GB", 2_000_000_000), (64, 64)],
)
def test_a_size_is_a_number_of_bytes(text: str | int, size: int) -> None:
    assert ByteSize.parse(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("10s", 10), ("1.5h", 5400), ("7d", 604800), (3, 3), ("0", 0)],
)
def test_a_duration_is_a_number_of_seconds(text: str | float, seconds: float) -> None:
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "many", "-1s", "1 fortnight", "1e3", "10 s s"])
def test_what_is_neither_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Refused, match="250ms"):
        Duration.parse(text)
    with pytest.raises(Refused, match="64MiB"):
        ByteSize.parse(text + "x")


@pytest.mark.parametrize("number", [-1, True, 2**63, float("nan"), float("inf"), -0.5])
def test_what_no_timer_and_no_disk_can_bear_is_refused(number: float) -> None:
    with pytest.raises(Refused, match="duration"):
        Duration.parse(number)
    with pytest.raises(Refused, match="size"):
        ByteSize.parse(number)  # type: ignore[arg-type]


def test_the_largest_quantities_are_bounded_with_a_unit_too() -> None:
    assert Duration.parse("1000y") > 0
    with pytest.raises(Refused, match="1000y"):
        Duration.parse("1001y")
    with pytest.raises(Refused, match="TiB"):
        ByteSize.parse("8388608TiB")


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 3 << 20, 5 << 30])
def test_a_size_prints_as_it_can_be_read(size: int) -> None:
    assert ByteSize.parse(str(ByteSize(size))) == size


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.25, 1.0, 90.0, 3600.0, 86400.0])
def test_a_duration_prints_as_it_can_be_read(seconds: float) -> None:
    assert Duration.parse(str(Duration(seconds))) == seconds
