"""The judge must be able to condemn: each broken promise is shown to be noticed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from headwater.demo.judging import Account, Row, judge

from . import ledger


def row(offset: int, sequence: int, device: str = "f1", partition: int = 0) -> Row:
    return Row("e", "log", "telemetry", partition, offset, device, sequence)


def account(sent: int, acknowledged: int, device: str = "f1") -> Account:
    return Account(
        Counter((device, sequence) for sequence in range(sent)),
        {(device, sequence) for sequence in range(acknowledged)},
    )


def test_a_whole_lake_breaks_nothing() -> None:
    assert judge(account(3, 3), [row(0, 0), row(1, 1), row(2, 2)]) == []


def test_what_was_never_acknowledged_may_be_there_or_not() -> None:
    assert judge(account(3, 2), [row(0, 0), row(1, 1), row(2, 2)]) == []
    assert judge(account(3, 2), [row(0, 0), row(1, 1)]) == []


@pytest.mark.parametrize(
    ("rows", "accusation"),
    [
        ([row(0, 0), row(1, 1)], "lost: ('f1', 2)"),
        ([row(0, 0), row(1, 1), row(2, 2), row(3, 2)], "2 times"),
        ([row(0, 0), row(1, 1), row(2, 2), row(2, 2)], "one address twice"),
        ([row(0, 0), row(1, 2), row(2, 1)], "out of order"),
        ([row(0, 0), row(1, 1), row(3, 2)], "hole"),
        ([row(1, 0), row(2, 1), row(3, 2)], "begins at 1"),
        ([row(0, 0), row(1, 1), row(2, 2), row(3, 7)], "never sent"),
        ([row(0, 0), row(1, 1), row(0, 2, partition=1)], "spread over"),
    ],
)
def test_each_broken_promise_is_noticed(rows: list[Row], accusation: str) -> None:
    assert any(accusation in broken for broken in judge(account(3, 3), rows))


def test_a_copy_is_allowed_only_to_a_device_that_sent_it_again() -> None:
    rows = [row(0, 0, "s1"), row(1, 1, "s1"), row(2, 0, "s1"), row(3, 2, "s1")]
    accounts = account(3, 3, "s1")
    assert any("2 times" in broken for broken in judge(accounts, rows, repeating=["s1"]))
    accounts.sent["s1", 0] += 1
    assert judge(accounts, rows, repeating=["s1"]) == []
    exactly_once = account(3, 3, "x1")
    exactly_once.sent["x1", 0] += 1
    assert judge(exactly_once, [each._replace(device="x1") for each in rows])


def test_half_a_line_is_not_a_promise(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_text("S f1 0\nA f1 0\nS f1 1\nA f1 1")
    assert ledger.read(path).acknowledged == {("f1", 0)}
    assert ledger.read(path).uncertain == {("f1", 1)}
