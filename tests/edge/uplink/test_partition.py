"""Single turns of the state machine, each a claim; all of them together are in test_partition_simulated.py."""

from __future__ import annotations

import random

import pytest

from headwater.core.backoff import Backoff
from headwater.core.kafka.errors import ErrorCode
from headwater.edge.uplink.cursor import EPOCH_MAX, Era, PartitionCursor
from headwater.edge.uplink.evidence import Described, Found
from headwater.edge.uplink.partition import PartitionFlow
from headwater.edge.uplink.patience import LATE_COPIES_S, PROVEN_S
from headwater.edge.uplink.stages import Need
from headwater.edge.uplink.supply import Cut

from .standins import Journal, Supply

START = 100.0


class OneByOne(Supply):
    """Cuts of as many records as allowed, always."""

    plain = False

    def cut(self, era: Era, *, label: int, records_max: int, plain: bool) -> Cut:
        self.plain = plain
        count = min(records_max, len(self._buffer), 4)
        first = self._buffer[0]
        for _ in range(count):
            self._buffer.popleft()
        return Cut(first, count, era, b"x")


def _flow(records: int, *, fresh: bool = True, epoch: int = 0, acked: int = 0) -> PartitionFlow:
    journal = Journal(0)
    journal.end = records
    supply = OneByOne(journal, random.Random(1))
    cursor = PartitionCursor(1, 0, Era(7, epoch, 0), acked, 50)
    flow = PartitionFlow(cursor, supply, backoff=Backoff(random.Random(1)), fresh=fresh)
    flow.log_end = records
    return flow


def _fed(flow: PartitionFlow) -> PartitionFlow:
    supply = flow.supply
    assert isinstance(supply, OneByOne)
    while supply.wanted < flow.log_end:
        supply.feed()
    return flow


def _open(records: int) -> PartitionFlow:
    """Sending, and the broker has acknowledged something of the era."""
    flow = _flow(records)
    assert flow.need(START) is Need.DESCRIBE
    flow.described(None, START)
    first = _fed(flow).take(START)
    assert first is not None
    assert flow.take(START) is None, "one at a time until the broker is known to know us"
    flow.answered(first, ErrorCode.NONE, 50, START)
    return flow


def _take(flow: PartitionFlow, now: float = START) -> Cut:
    cut = flow.take(now)
    assert cut is not None
    return cut


def test_five_batches_are_in_flight_and_no_sixth() -> None:
    flow = _open(40)
    assert [_take(flow).first for _ in range(5)] == [4, 8, 12, 16, 20]
    assert flow.take(START) is None


def test_after_an_hour_of_silence_it_is_one_batch_again() -> None:
    flow = _open(40)
    _take(flow, START + PROVEN_S + 1)
    assert flow.take(START + PROVEN_S + 1) is None


def test_after_a_lost_connection_the_same_bytes_go_out_from_where_the_broker_stands() -> None:
    flow = _open(40)
    first, second = _take(flow), _take(flow)
    flow.lost(START)
    assert flow.need(START) is Need.DESCRIBE
    flow.described(Described(0, 7), START)  # it has up to offset 7: the first came through
    assert flow.need(START) is Need.READ_BACK
    assert flow.take(START) is None, "what the leader showed is not replicated yet"
    flow.looked(Found({0: 8}, 58), START)
    assert flow.acked == 8
    assert _take(flow) is second
    assert first is not second


def test_a_producer_that_was_forgotten_is_resolved_by_reading_back() -> None:
    flow = _open(40)
    _take(flow)
    flow.lost(START)
    flow.need(START)
    flow.described(None, START)
    assert flow.need(START) is Need.READ_BACK
    flow.looked(Found({0: 8}, 58), START)
    assert (flow.acked, _take(flow).first) == (8, 8)


def test_an_answer_of_success_confirms_what_came_before_it() -> None:
    flow = _open(40)
    first, second = _take(flow), _take(flow)
    flow.answered(first, ErrorCode.REQUEST_TIMED_OUT, -1, START)
    flow.answered(second, ErrorCode.NONE, 58, START)
    assert flow.acked == 12


def test_a_refused_batch_is_split_down_to_the_record_which_is_declared_before_the_next_era() -> (
    None
):
    flow = _open(12)
    for expected in (4, 2, 1):
        cut = _take(flow)
        assert (cut.first, cut.count) == (4, expected)
        flow.answered(cut, ErrorCode.MESSAGE_TOO_LARGE, -1, START, message="too large")
        if expected > 1:
            assert flow.need(START) is Need.DESCRIBE
            flow.described(Described(0, 3), START)
            _fed(flow)
    assert flow.need(START) is Need.DECLARE
    assert flow.refusal is not None
    assert (flow.refusal.first, flow.refusal.last) == (4, 4)
    flow.declared()
    assert flow.need(START) is Need.SAVE
    cursor = flow.next_cursor()
    assert (cursor.era, cursor.acked) == (Era(7, 1, 5), 5)
    assert flow.take(START) is None, "not before the era is durable"
    flow.saved(cursor)
    assert _take(_fed(flow)).first == 5


def test_a_broker_without_zstd_gets_plain_batches() -> None:
    flow = _open(12)
    flow.answered(_take(flow), ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, -1, START)
    later = flow.retry_at + 1
    assert flow.need(later) is Need.DESCRIBE
    flow.described(Described(0, 3), later)
    _take(_fed(flow), later)
    assert isinstance(flow.supply, OneByOne)
    assert flow.supply.plain


def test_records_that_an_unclean_election_lost_are_sent_again() -> None:
    flow = _flow(12, fresh=False, acked=8)
    flow.need(START)
    flow.described(Described(0, 3), START)  # the cloud had eight, now it has four
    assert flow.acked == 4
    assert [notice.event for notice in flow.notices] == ["uplink cloud lost acknowledged records"]
    assert _take(_fed(flow)).first == 4


def test_what_a_leader_showed_is_not_there_where_the_log_ends_before_it_began() -> None:
    flow = _flow(12, fresh=False, acked=4)
    flow.need(START)
    flow.described(
        Described(0, 7), START
    )  # eight; then the leader dies, and one takes over that lacks the tail
    assert flow.need(START) is Need.READ_BACK
    flow.looked(Found({}, 0, remade=True), START)
    assert flow.acked == 4
    later = flow.retry_at
    assert flow.need(later) is Need.DESCRIBE
    flow.described(None, later)
    assert flow.need(later) is Need.READ_BACK
    flow.looked(Found({}, 0, remade=True), later)
    assert _take(_fed(flow), later).first == 4


def test_in_a_topic_made_anew_the_place_to_read_back_from_is_a_lower_one() -> None:
    flow = _open(40)
    assert flow.cursor.floor == 54
    flow.answered(_take(flow), ErrorCode.NONE, 0, START)
    assert flow.cursor.floor == 4, "what is sent next lies no lower, and may lie below 54"


def test_an_identity_used_by_another_waits_for_the_others_tail_and_takes_a_new_producer() -> None:
    flow = _flow(12, fresh=False, acked=4)
    later = START + LATE_COPIES_S
    assert flow.need(START) is Need.DESCRIBE
    flow.described(Described(3, 1), START)
    assert flow.need(START) is Need.READ_BACK
    flow.looked(Found({}, 50), START)
    assert flow.need(later) is Need.DESCRIBE, "the tail that the leader showed is not replicated"
    flow.described(Described(3, 1), later)
    flow.looked(Found({0: 6}, 52, last=Described(3, 1)), later)
    assert flow.acked == 6
    assert flow.need(later) is Need.PRODUCER
    flow.producer(8, 0)
    assert flow.need(later) is Need.SAVE
    assert flow.next_cursor().era == Era(8, 0, 6)


def test_no_era_begins_while_a_late_copy_could_land() -> None:
    flow = _open(40)
    _take(flow)
    flow.lost(START)
    flow.need(START)
    flow.described(Described(0, 3), START)
    flow.answered(_take(flow), ErrorCode.NONE, 54, START)  # all that was in doubt is resolved
    assert flow.acked == 8
    _take(flow), _take(flow)
    flow.lost(START)
    flow.need(START)
    flow.described(Described(0, 7), START)
    flow.answered(_take(flow), ErrorCode.MESSAGE_TOO_LARGE, -1, START)
    while flow.need(START) is Need.DESCRIBE:
        flow.described(Described(0, 7), START)
        flow.answered(_take(_fed(flow)), ErrorCode.MESSAGE_TOO_LARGE, -1, START)
    assert flow.need(START + LATE_COPIES_S - 1) is Need.NOTHING
    assert flow.need(START + LATE_COPIES_S) is Need.DESCRIBE


def test_the_last_epoch_is_followed_by_a_new_producer_id() -> None:
    flow = _flow(12, epoch=EPOCH_MAX)
    flow.supply.restart(5)  # the journal begins at 5
    flow.need(START)
    flow.described(None, START)
    flow.supply.restart(5)
    _fed(flow)
    assert flow.need(START) is Need.PRODUCER


@pytest.mark.parametrize(
    "code", [ErrorCode.TOPIC_AUTHORIZATION_FAILED, ErrorCode.INVALID_TIMESTAMP]
)
def test_what_an_operator_must_solve_keeps_the_data_and_says_so(code: ErrorCode) -> None:
    flow = _open(12)
    flow.answered(_take(flow), code, -1, START, message="no")
    assert [notice.event for notice in flow.notices] == ["uplink blocked"]
    assert flow.last_error == "no"
    assert flow.need(START) is Need.NOTHING
    assert flow.need(flow.retry_at) is Need.DESCRIBE
