"""The proof must be able to fail: each thing that could be wrong is shown to spoil it."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from headwater.demo.judging import Account, Row, judge
from headwater.demo.proof import Proof, replicated

DEVICE = "site/weir/000"


def rows(*numbers: int) -> list[Row]:
    return [Row("e", "log", "telemetry", 0, i, DEVICE, n) for i, n in enumerate(numbers)]


def account(acknowledged: int, sent: int) -> Account:
    return Account(
        Counter((DEVICE, number) for number in range(sent)),
        {(DEVICE, number) for number in range(acknowledged)},
    )


def proof(kept: Account, found: list[Row]) -> Proof:
    return Proof(kept, len(found), len(found), found, judge(kept, found), True, "complete")


def test_it_holds_when_everything_agrees() -> None:
    held = proof(account(3, 3), rows(0, 1, 2))
    assert held.holds
    assert (held.duplicates, held.gaps, held.arrived_uncertain) == (0, 0, 0)


def test_a_message_in_doubt_may_have_arrived_or_not() -> None:
    arrived = proof(account(2, 3), rows(0, 1, 2))
    assert arrived.holds
    assert arrived.arrived_uncertain == 1
    assert proof(account(2, 3), rows(0, 1)).holds


@pytest.mark.parametrize("found", [rows(0, 1), rows(0, 1, 2, 2), rows(0, 2, 1), rows(0, 1, 2, 3)])
def test_loss_repetition_disorder_and_invention_spoil_it(found: list[Row]) -> None:
    assert not proof(account(3, 3), found).holds


@pytest.mark.parametrize("change", [{"edge_log": 4}, {"cloud_log": 2}, {"verified": False}])
def test_any_one_source_that_disagrees_spoils_it(change: dict[str, int]) -> None:
    held = proof(account(3, 3), rows(0, 1, 2))
    assert not dataclasses.replace(held, **change).holds  # type: ignore[arg-type]


def test_what_broke_is_named() -> None:
    said = "\n".join(proof(account(3, 3), rows(0, 1)).lines())
    assert f"BROKEN acknowledged but lost: ('{DEVICE}', 2)" in said


def test_the_edges_own_streams_are_nobodys_readings() -> None:
    def sample(name: str, stream: str) -> str:
        return f'headwater_uplink_{name}{{partition="0",stream="{stream}"}}'

    samples = {
        sample("acked_offset_total", "telemetry"): 700.0,
        sample("acked_offset_total", "machine"): 60.0,
        sample("backlog_records", "telemetry"): 10.0,
        sample("acked_offset_total", "_time"): 2.0,
        sample("backlog_records", "_connections"): 42.0,
    }
    assert replicated(samples) == (760, 770)
    assert replicated({}) == (0, 0)
