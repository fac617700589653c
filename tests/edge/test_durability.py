"""A running edge whose streams do not all wait for the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.core.record import TopicPartition
from headwater.core.units import Duration
from headwater.edge.daemon import open_edge
from headwater.edge.streams import Durability, StreamSettings
from tests.edge.test_daemon import client_of, run, settings, values_of

EARLY = TopicPartition("early", 0)


@pytest.mark.parametrize("durability", [Durability.INTERVAL, Durability.MEMORY])
def test_early_publishes_are_acknowledged_at_once_and_kept_by_an_orderly_stop(
    tmp_path: Path, durability: Durability
) -> None:
    stream = StreamSettings(
        name="early", filters=("e/#",), durability=durability, interval=Duration(3600)
    )
    chosen = settings(tmp_path, streams=(stream,))
    values = [b"%d" % index for index in range(20)]

    async def scenario() -> None:
        async with open_edge(chosen) as edge:
            async with client_of(edge) as client:
                for value in values:
                    await client.publish("e/1", value, qos=1)  # returns with the PUBACK
            tally = edge.broker.tally
            assert tally.early >= len(values) - 2, "all but the first, which reserves"
            assert edge.journal.appender.ends[EARLY] <= 2, "and yet next to none was written"
        async with open_edge(chosen) as edge:
            assert not edge.journal.recovery.volatile
            assert await values_of(edge, EARLY) == values
            async with client_of(edge) as client:
                await client.publish("e/1", b"on it goes", qos=1)
            assert edge.journal.writer(EARLY).next_offset == len(values) + 1

    run(scenario)
