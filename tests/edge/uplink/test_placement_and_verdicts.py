"""Small tables: where a partition goes, and what an answer says about the data."""

from __future__ import annotations

import pytest

from headwater.core.errors import Misconfigured
from headwater.core.kafka.errors import ErrorCode
from headwater.core.units import ByteSize
from headwater.edge.uplink.placement import place
from headwater.edge.uplink.settings import UplinkSettings
from headwater.edge.uplink.verdicts import Verdict, verdict


@pytest.mark.parametrize("partitions", [1, 3, 16])
def test_no_two_partitions_share_a_target_and_a_producer_id(partitions: int) -> None:
    placements = [place("edge-1", p, partitions=partitions) for p in range(40)]
    assert len(set(placements)) == 40
    assert {placement.target for placement in placements} == set(range(partitions))


def test_one_producer_id_suffices_where_the_cloud_has_as_many_partitions() -> None:
    assert {place("edge-1", p, partitions=8).slot for p in range(8)} == {0}


@pytest.mark.parametrize("code", [87654, *[code.value for code in ErrorCode]])
def test_every_code_has_a_verdict_and_only_success_is_done(code: int) -> None:
    assert (verdict(code) is Verdict.DONE) == (code == ErrorCode.NONE)


def test_only_what_can_never_be_taken_is_refused() -> None:
    refused = {code for code in ErrorCode if verdict(code) is Verdict.REFUSED}
    assert refused == {
        ErrorCode.MESSAGE_TOO_LARGE,
        ErrorCode.RECORD_LIST_TOO_LARGE,
        ErrorCode.INVALID_RECORD,
    }
    assert verdict(ErrorCode.INVALID_TIMESTAMP) is Verdict.BLOCKED  # a clock ahead loses nothing


@pytest.mark.parametrize(
    "wrong",
    [
        {"in_flight": 6},
        {"in_flight": 0},
        {"compression": "lzma"},
        {"batch_bytes_max": ByteSize(100_000_000)},
        {"memory_bytes_max": ByteSize(1000)},
        {"batch_records_max": 0},
    ],
)
def test_settings_that_would_break_a_promise_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Misconfigured):
        UplinkSettings(**wrong)  # type: ignore[arg-type]
