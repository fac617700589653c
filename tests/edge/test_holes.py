"""A running edge whose log lost a segment file while it stood still."""

from __future__ import annotations

import asyncio
from pathlib import Path

from headwater.core.batch import decode_batch
from headwater.core.gap import GAPS_PARTITION, Gap, GapReason
from headwater.core.journal.files.settings import FileJournalSettings
from headwater.core.record import TopicPartition
from headwater.core.units import MIB, ByteSize
from headwater.edge.daemon import open_edge
from headwater.edge.rounds import keep_retention
from headwater.edge.streams import StreamSettings, WhenFull
from tests.edge.test_daemon import DEFAULT, client_of, run, settings, values_of

SMALL = FileJournalSettings(segment_bytes=ByteSize(2 * MIB), bytes_max=ByteSize(64 * MIB))


def test_a_deleted_segment_becomes_a_gap_record_with_its_range(tmp_path: Path) -> None:
    chosen = settings(tmp_path, journal=SMALL)

    async def scenario() -> None:
        async with open_edge(chosen) as edge:
            async with client_of(edge) as client:
                for _ in range(16):
                    await client.publish("a", bytes(500_000), qos=1)
            gone = edge.journal.shelf.sequences[1]
            assert gone != edge.journal.shelf.sequences[-1]
            held = edge.journal.shelf.footer(gone).summary(DEFAULT)
            assert held is not None
        (tmp_path / "log" / f"{gone:020d}.segment").unlink()
        for _ in range(2):
            async with open_edge(chosen) as edge:
                await edge.committer.wait_durable(edge.journal.open_commit - 1)
                values = await values_of(edge, GAPS_PARTITION)
                gaps = [Gap.decode(value or b"") for value in values]
                ours = {(gap.first, gap.last) for gap in gaps if gap.stream == "default"}
                assert ours == {(held.base, held.end - 1)}
                assert {gap.reason for gap in gaps} == {GapReason.DAMAGE}
                assert f"{gone:020d}.segment" in gaps[0].detail
                async with client_of(edge) as client:
                    await client.publish("a", b"on it goes", qos=1)

    run(scenario)


def test_a_loss_whose_gap_record_is_lost_is_told_again(tmp_path: Path) -> None:
    chosen = settings(
        tmp_path,
        journal=FileJournalSettings(segment_bytes=ByteSize(2 * MIB), bytes_max=ByteSize(24 * MIB)),
        streams=(StreamSettings(name="s", filters=("a",), when_full=WhenFull.DROP_OLDEST),),
        uplink="kafka://127.0.0.1:9",  # nobody is there: nothing is sent
    )
    partition = TopicPartition("s", 0)

    async def scenario() -> None:
        async with open_edge(chosen) as edge:
            retention = asyncio.create_task(keep_retention(edge))
            async with client_of(edge) as client:
                for _ in range(60):
                    await client.publish("a", bytes(500_000), qos=1)
            retention.cancel()
        async with open_edge(chosen) as edge:
            shelf = edge.journal.shelf
            start = edge.journal.bounds(partition).start
            assert start > 0
            telling = [n for n in shelf.sequences if shelf.footer(n).summary(GAPS_PARTITION)]
            assert telling
        for sequence in telling:
            (tmp_path / "log" / f"{sequence:020d}.segment").unlink()
        async with open_edge(chosen) as edge:
            await edge.committer.wait_durable(edge.journal.open_commit - 1)
            standing = edge.journal.bounds(GAPS_PARTITION)
            batches = await edge.journal.read(GAPS_PARTITION, standing.start, bytes_max=MIB)
            records = [record for batch in batches for record in decode_batch(batch)[1]]
            gaps = [Gap.decode(record.value or b"") for record in records]
            told = {gap.reason: (gap.first, gap.last) for gap in gaps if gap.stream == "s"}
            assert told[GapReason.RETENTION] == (0, start - 1)

    run(scenario)
