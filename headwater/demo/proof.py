"""The proof at the end of the demo: what the clients were told, held against both logs and the lake.

Rule: three sources that do not know each other must agree. The clients' account says what was acknowledged; the brokers
say where their logs end; the lake is asked in SQL. Proven means: every acknowledged message is in the lake exactly once;
each log and the lake hold the same number; no address twice, none missing; and `headwater verify` says so too.
A message in doubt (in flight at a kill) may be there once; how many were is told.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ..core.kafka.client import KafkaClient
from ..core.kafka.messages import ListOffsetsRequest
from ..core.kafka.messages.list_offsets import ListOffsetsPartition, ListOffsetsTopic
from ..core.record import TopicPartition
from .daemon import total
from .judging import Account, Row, judge
from .river import River

STREAMS = ("telemetry", "machine")
ROWS = 'select edge, log, stream, "partition", "offset", topic, payload from readings'
LATEST = -1
CONSUMER = -1


@dataclass(frozen=True)
class Proof:
    account: Account
    edge_log: int
    cloud_log: int
    rows: list[Row]
    broken: list[str]
    verified: bool
    verify_said: str

    @property
    def duplicates(self) -> int:
        return sum(count - 1 for count in Counter(row.message for row in self.rows).values())

    @property
    def gaps(self) -> int:
        return sum("hole" in sentence or "lost" in sentence for sentence in self.broken)

    @property
    def arrived_uncertain(self) -> int:
        return len(self.account.uncertain & {row.message for row in self.rows})

    @property
    def holds(self) -> bool:
        counts = {
            self.edge_log,
            self.cloud_log,
            len(self.rows),
            len(self.account.acknowledged) + self.arrived_uncertain,
        }
        return len(counts) == 1 and not self.broken and self.verified

    def lines(self) -> list[str]:
        uncertain = len(self.account.uncertain)
        return [
            f"acknowledged to the clients  {len(self.account.acknowledged):>8,}",
            (
                f"in doubt at a kill           {uncertain:>8,}   (in flight, never acknowledged; "
                f"{self.arrived_uncertain} had reached the log)"
            ),
            f"in the edge's log            {self.edge_log:>8,}",
            f"in the cloud's log           {self.cloud_log:>8,}",
            f"in the lake                  {len(self.rows):>8,}",
            (
                f"duplicates {self.duplicates}, gaps {self.gaps}, "
                f"headwater verify: {'complete' if self.verified else 'NOT COMPLETE'}"
            ),
            *(f"  BROKEN {sentence}" for sentence in self.broken[:10]),
            *(() if self.verified else (self.verify_said,)),
        ]


def prove(river: River, account: Account, *, edge_log: int, cloud_log: int) -> Proof:
    """Raises Answerless where the lake cannot be asked."""
    rows = lake_rows(river)
    verified, said = river.verify()
    return Proof(account, edge_log, cloud_log, rows, judge(account, rows), verified, said)


def lake_rows(river: River) -> list[Row]:
    return [
        Row(
            str(found["edge"]),
            str(found["log"]),
            str(found["stream"]),
            int(str(found["partition"])),
            int(str(found["offset"])),
            str(found["topic"]),
            json.loads(str(found["payload"]))["number"],
        )
        for found in river.query(ROWS)
    ]


def replicated(samples: Mapping[str, float]) -> tuple[int, int]:
    """From the edge's metrics: records that the cloud acknowledged to it, and records in its log. (0, 0) while it is down.

    Of what was published: the edge's own streams (anchors in time, who connected) are nobody's readings.
    """
    acked, backlog = (
        sum(total(samples, name, stream=stream) for stream in STREAMS)
        for name in ("headwater_uplink_acked_offset_total", "headwater_uplink_backlog_records")
    )
    return round(acked), round(acked + backlog)


async def cloud_log(address: str) -> int:
    """Records in the cloud's log, asked as any Kafka client asks: the end of every partition."""
    client = KafkaClient([address], client_id="headwater-demo")
    try:
        ends = 0
        for topic in STREAMS:
            for partition in range(await client.partitions(topic)):
                asked = ListOffsetsPartition(partition_index=partition, timestamp=LATEST)
                request = ListOffsetsRequest(
                    replica_id=CONSUMER,
                    topics=[ListOffsetsTopic(name=topic, partitions=[asked])],
                )
                response = await client.request_to(TopicPartition(topic, partition), request)
                ends += response.topics[0].partitions[0].offset
        return ends
    finally:
        await client.close()
