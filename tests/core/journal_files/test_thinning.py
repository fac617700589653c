"""Thin oldest: what a summary says, how it stays small, and that no crash loses both record and summary."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from headwater.core.batch import decode_batch
from headwater.core.clock import ManualClock, SystemClock
from headwater.core.gap import GAPS_PARTITION, Gap, GapReason
from headwater.core.journal.files import Committer, FileJournal, Loss, StreamRetention, WhenFull
from headwater.core.journal.files.planning import plan
from headwater.core.journal.files.retention import carry_out
from headwater.core.journal.files.thinning import (
    FIELDS_MAX,
    GROUPS_MAX,
    Thinner,
    numbers_in,
    thinned,
    thinned_partition,
)
from headwater.core.record import Record, StoredRecord, TopicPartition
from headwater.core.units import Duration
from tests.core.journal_files.oracle import contents, open_journal
from tests.core.journal_files.test_damage import put
from tests.core.journal_files.test_real_disk import open_real
from tests.core.journal_files.test_retention import TIGHT, fill
from tests.sim.disk import SimCrash, SimDisk

A, B = TopicPartition("a", 0), TopicPartition("b", 0)
THIN = StreamRetention(when_full=WhenFull.THIN_OLDEST, thin_interval=Duration(60))


def told(record: Record) -> dict[str, float]:
    found: dict[str, float] = json.loads(record.value or b"")
    return found


def stored(offset: int, at_ms: int, key: bytes | None, value: object) -> StoredRecord:
    payload = value if isinstance(value, bytes) else json.dumps(value).encode()
    return StoredRecord(offset, at_ms, key, payload)


def test_numbers_of_json_payloads_and_nothing_else() -> None:
    assert numbers_in(b'{"t": 21.5, "on": true, "n": null, "s": "7", "l": [1]}') == [("t", 21.5)]
    assert numbers_in(b'{"a": {"b": {"c": 3}}}') == [("a.b.c", 3.0)]
    assert numbers_in(b'{"a": {"b": {"c": {"d": {"e": 1}}}}}') == [], "too deep"
    assert numbers_in(b"42") == [("value", 42.0)]
    assert numbers_in(b"1" + b"0" * 400) == [], "no double holds it"
    for payload in (b"", None, b"\xff\x00", b"[1, 2]", b'"text"', b"{"):
        assert numbers_in(payload) == []


def test_a_summary_has_min_max_mean_and_count_of_each_field_and_interval() -> None:
    thinner = Thinner(60_000, first=0, last=79)
    for index in range(64):
        key = b"k1" if index % 2 else b"k2"
        thinner.add(stored(index, 60_000 * (index // 32) + index, key, {"t": index, "h": 1}))
    for index in range(16):
        thinner.add(stored(64 + index, 5, b"k1", b"not json"))
    records = thinner.summaries()
    assert [(r.timestamp, r.key) for r in records] == [
        *((0, b"k1"), (0, b"k2")),
        *((60_000, b"k1"), (60_000, b"k2")),
    ]
    first = told(records[0])
    assert first["hw_count"] == 32
    assert first["hw_other"] == 16
    assert (first["t_min"], first["t_max"], first["t_mean"], first["t_count"]) == (1, 31, 16, 16)
    assert first["h_mean"] == 1
    assert (first["hw_first"], first["hw_last"]) == (0, 79)
    assert (first["hw_from"], first["hw_to"]) == (0, 60_000)


def test_fields_that_are_named_like_ours_stand_beside_ours() -> None:
    thinner = Thinner(60_000, first=0, last=15)
    payload = {"hw": 7, "hw_count": 3, "hw_other": 1, "user.hw": 5, "hwx": 2}
    for index in range(16):
        thinner.add(stored(index, index, b"k", payload))
    (record,) = thinner.summaries()
    for summary in (told(record), told(again(record))):
        assert (summary["hw_count"], summary["hw_other"]) == (16, 0)
        assert (summary["user.hw_count"], summary["user.hw_mean"]) == (16, 7)
        assert (summary["user.hw_count_count"], summary["user.hw_count_max"]) == (16, 3)
        assert summary["user.user.hw_mean"] == 5
        assert summary["hwx_mean"] == 2


def again(record: Record) -> Record:
    """A summary that must go in its turn."""
    thinner = Thinner(60_000, first=0, last=0)
    thinner.add_summary(StoredRecord(0, record.timestamp, record.key, record.value))
    (united,) = thinner.summaries()
    return united


@pytest.mark.parametrize("values", [[1e308] * 16, [1.7e308, -1.7e308] * 8, [-1.7e308] * 16])
def test_a_sum_beyond_what_a_double_holds_has_a_mean_nevertheless(values: list[float]) -> None:
    thinner = Thinner(60_000, first=0, last=15)
    for index, value in enumerate(values):
        thinner.add(stored(index, index, b"k", {"t": value}))
    (record,) = thinner.summaries()
    for summary in (told(record), told(again(record))):
        assert summary["t_count"] == 16
        assert summary["t_mean"] / 1e308 == pytest.approx(sum(v / 16 for v in values) / 1e308)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_summaries_are_few_and_account_for_every_record(seed: int) -> None:
    rng = random.Random(seed)
    keys = rng.choice((1, 7, 400, 5000))
    count = rng.choice((1, 9, 300, 6000))
    thinner = Thinner(rng.choice((1, 1000, 60_000)), first=0, last=count - 1)
    fields = rng.choice((1, 3, 60))
    for offset in range(count):
        at = rng.randint(0, rng.choice((1, 10**6, 10**12)))
        value = {f"f{rng.randrange(fields)}": rng.randint(-9, 9)}
        thinner.add(stored(offset, at, b"%d" % rng.randrange(keys), value))
        assert len(thinner._groups) <= 2 * GROUPS_MAX + 1
    records = thinner.summaries()
    assert len(records) <= max(1, min(GROUPS_MAX, count // 8))
    assert sum(told(record)["hw_count"] for record in records) == count
    numbers = 0.0
    for record in records:
        summary = told(record)
        numbers += summary.get("hw_left_out", 0)
        counts = [v for name, v in summary.items() if name.startswith("f") and "_count" in name]
        assert len(counts) <= FIELDS_MAX
        numbers += sum(counts)
        assert summary["hw_to"] > summary["hw_from"]
    assert numbers == count


def give_up(journal: FileJournal, *, upside_down: bool = False) -> list[Loss]:
    """One round of retention with its two phases, as the committer drives them."""
    agreed = plan(journal, 10**9, rules={"a": THIN}, sent={}, free_bytes=None)
    summaries = [thinned(journal, loss, interval_ms=60_000) for loss in agreed.losses]
    if upside_down:
        carry_out(journal, agreed)
    for loss, records in zip(agreed.losses, summaries, strict=True):
        for record in records:
            journal.append(thinned_partition(loss.partition), record)
        gap = Gap(
            edge="e",
            log=journal.log_id,
            stream=loss.partition.topic,
            partition=loss.partition.partition,
            first=loss.first,
            last=loss.last,
            reason=GapReason.THINNED,
            detail=loss.detail,
        )
        journal.append(GAPS_PARTITION, gap.record(1))
    commit = journal.seal()
    if commit is not None:
        commit.write()
        journal.complete(commit)
    if not upside_down:
        carry_out(journal, agreed)
    return agreed.losses


def filled(disk: SimDisk) -> FileJournal:
    journal = open_journal(disk, settings=TIGHT, clock=ManualClock())
    fill(journal, A, 5)
    return journal


def lost_without_trace(disk: SimDisk, upside_down: bool) -> int:
    """At each disk call of a round a power cut: how often is a record gone that neither gap nor summary tells of."""
    before = filled(disk)
    end, start_calls = before.bounds(A).end, disk.calls
    give_up(before, upside_down=upside_down)
    calls = disk.calls
    silent = 0
    for call in range(start_calls + 1, calls + 1):
        again = SimDisk(random.Random(call))
        journal = filled(again)
        again.crash_at = call
        with pytest.raises(SimCrash):
            give_up(journal, upside_down=upside_down)
        again.restart(power_cut=True)
        recovered = open_journal(again, settings=TIGHT)
        found = contents(recovered)
        gaps = [Gap.decode(value) for value in found.get(GAPS_PARTITION, {}).values()]
        told_of = {o for gap in gaps for o in range(gap.first, gap.last + 1)}
        summed = sum(
            json.loads(value)["hw_count"] for value in found.get(thinned_partition(A), {}).values()
        )
        gone = set(range(end)) - set(found.get(A, {}))
        silent += bool(gone) and not (gone <= told_of and summed >= len(gone))
    return silent


def test_no_crash_loses_a_record_without_gap_and_summary() -> None:
    assert lost_without_trace(SimDisk(random.Random(0)), upside_down=False) == 0


def test_the_phases_the_other_way_round_are_noticed() -> None:
    assert lost_without_trace(SimDisk(random.Random(0)), upside_down=True) > 0


def test_a_full_log_thins_and_goes_on(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_real(tmp_path, TIGHT)
        committer = Committer(journal, clock=SystemClock(), rng=random.Random(1))
        committer.start()
        declared: list[Loss] = []
        for index in range(4000):
            value = json.dumps({"t": index, "pad": "x" * 400}).encode()
            journal.append(A, Record(index * 100, b"k", value))
            if index % 20 == 19:
                await committer.wait_durable(journal.open_commit)
                await committer.enforce_retention(
                    1,
                    rules={"a": THIN, "a.thinned": THIN},
                    sent={},
                    declare=declared.extend,
                )
        assert declared
        thin = thinned_partition(A)
        start, end = journal.bounds(thin)
        assert 0 < start < end < 400, "the oldest summaries were united in their turn"
        records = [
            record
            for batch in journal.read_sync(thin, start, bytes_max=10**7)
            for record in decode_batch(batch)[1]
        ]
        records = [record for record in records if record.offset >= start]
        lost = sum(loss.last - loss.first + 1 for loss in declared if loss.partition == A)
        summaries = [json.loads(record.value or b"") for record in records]
        assert sum(s["hw_count"] for s in summaries) == lost == journal.bounds(A).start
        assert sum(s["t_mean"] * s["t_count"] for s in summaries) == pytest.approx(sum(range(lost)))
        await committer.close()
        journal.close()

    asyncio.run(run())


def test_the_lowest_priority_gives_way_first() -> None:
    def drop(priority: int) -> StreamRetention:
        return StreamRetention(when_full=WhenFull.DROP_OLDEST, priority=priority)

    journal = open_journal(SimDisk(random.Random(0)), settings=TIGHT)
    while len(journal.shelf.sequences) < 2:
        put(journal, B, size=15000)
    while len(journal.shelf.sequences) < 5:
        put(journal, A, size=15000)
    agreed = plan(journal, 0, rules={"a": drop(1), "b": drop(7)}, sent={})
    assert agreed.losses
    assert {loss.partition for loss in agreed.losses[:1]} == {A}, "though B's are older"
    agreed = plan(journal, 0, rules={"a": drop(7), "b": drop(1)}, sent={})
    assert agreed.losses[0].partition == B
    agreed = plan(journal, 0, rules={"a": drop(9), "b": StreamRetention()}, sent={})
    assert B not in {loss.partition for loss in agreed.losses}, "refuse is never dropped"
