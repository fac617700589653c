"""A log that may drop its oldest makes room ahead of its writer: nobody is refused for a round that comes too late."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiomqtt
import pytest
import uvloop

from headwater.core.disk import DiskFull
from headwater.core.journal.files.settings import FileJournalSettings
from headwater.core.units import KIB, MIB, ByteSize
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.daemon import Edge, open_edge, run_edge
from headwater.edge.rounds import keep_retention
from headwater.edge.settings import EdgeSettings
from headwater.edge.streams import StreamSettings, WhenFull
from tests.edge.test_daemon import until

JOURNAL = FileJournalSettings(
    bytes_max=ByteSize(9 * 256 * KIB),
    segment_bytes=ByteSize(256 * KIB),
    record_bytes_max=ByteSize(128 * KIB),
    commit_bytes_max=ByteSize(128 * KIB),
)


def test_a_publisher_faster_than_the_rounds_is_not_refused_where_the_oldest_may_go(
    tmp_path: Path,
) -> None:
    settings = EdgeSettings(
        name="e1",
        data_dir=str(tmp_path),
        mqtt="127.0.0.1:0",
        http="none",
        streams=(StreamSettings(name="default", when_full=WhenFull.DROP_OLDEST),),
        mqtt_limits=MqttSettings(packet_bytes_max=ByteSize(64 * KIB)),
        journal=JOURNAL,
    )
    edges: list[Edge] = []

    async def publish(edge: Edge) -> None:
        host, port = edge.mqtt
        # 3.1.1 has no word for a refusal: the connection would be closed, and this raise
        async with aiomqtt.Client(host, port, protocol=aiomqtt.ProtocolVersion.V311) as client:
            for _ in range(int(6 * MIB) // (16 * KIB)):
                await client.publish("a", bytes(16 * KIB), qos=1)

    async def main() -> None:
        async with asyncio.timeout(60):
            stop, ready = asyncio.Event(), asyncio.Event()

            def on_ready(edge: Edge) -> None:
                edges.append(edge)
                ready.set()

            async with asyncio.TaskGroup() as group:
                group.create_task(run_edge(settings, stop=stop, on_ready=on_ready))
                await ready.wait()
                try:
                    await publish(edges[0])
                finally:
                    stop.set()

    uvloop.run(main())
    assert edges[0].broker.tally.refused == {}
    assert edges[0].gaps.records_lost > 0


def test_a_log_whose_retention_the_disk_refuses_says_so_and_not_that_nothing_may_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise DiskFull("no space left")

    async def main() -> None:
        settings = EdgeSettings(name="e1", data_dir=str(tmp_path), mqtt="127.0.0.1:0", http="none")
        async with asyncio.timeout(20), open_edge(settings) as edge:
            monkeypatch.setattr(edge.committer, "enforce_retention", refuse)
            edge.journal.bytes_limit = 0
            edge.journal.update_full()
            retention = asyncio.create_task(keep_retention(edge))
            await until(lambda: "nothing may be dropped" not in "".join(edge.readiness()))
            retention.cancel()
            (reason,) = edge.readiness()
            assert reason.endswith("and nothing can be given up: no space left")

    uvloop.run(main())
