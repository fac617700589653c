"""What the sink counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class SinkMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"headwater_sink_{name}", text, labels, registry=registry)

        self.rows = counter("rows", "Rows committed to the lake", "stream")
        self.dead_letters = counter("dead_letters", "Rows that are dead letters", "stream")
        self.duplicates = counter(
            "duplicates", "Records dropped: their address was there", "stream"
        )
        self.lost = counter("lost_offsets", "Kafka offsets retired before they were read", "stream")
        self.commits = counter("commits", "Table commits", "stream")
        self.overtaken = counter("overtaken", "Commits given up for another writer's", "stream")
        self.ambiguous = counter("ambiguous_commits", "Commits whose answer was lost", "stream")
        self.bytes_read = counter("read_bytes", "Bytes of record batches fetched")
        self.bytes_written = counter("written_bytes", "Bytes of Parquet committed")
        self.pending = Gauge(
            "headwater_sink_pending_bytes", "Fetched and not yet committed", registry=registry
        )
        self.lag = Gauge(
            "headwater_sink_lag_records", "Log end minus committed", ["stream"], registry=registry
        )
        self.commit_seconds = Histogram(
            "headwater_sink_commit_seconds", "Decode, store and commit", registry=registry
        )
