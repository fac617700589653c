"""Wear for Prometheus, collected when asked."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from .wear import Wear


class WearMetrics:
    def __init__(self, wear: Wear, registry: CollectorRegistry) -> None:
        self._wear = wear
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        status = self._wear.status()
        written = CounterMetricFamily(
            "headwater_flash_written_bytes",
            "Bytes written to the whole device since this edge first ran on it",
            labels=["device"],
        )
        written.add_metric([status.device or "unknown"], status.written_bytes)
        yield written
        for name, text, value in (
            ("bytes_per_day", "Average since then", status.bytes_per_day),
            ("budget_bytes_per_day", "What the wear budget allows now", status.budget_per_day),
            (
                "amplification",
                "Bytes that reached the device per payload byte stored",
                status.amplification,
            ),
            ("endurance_bytes", "What the device bears in its life", status.endurance_bytes),
            ("life_used_ratio", "Of that, used", status.life_used),
            (
                "end_timestamp_seconds",
                "When that is used up, if it goes on like this",
                None if status.ends_ms is None else status.ends_ms / 1000,
            ),
            (
                "commit_interval_seconds",
                "Floor between two syncs, for the budget's sake",
                status.commit_interval_s,
            ),
            ("strained", "1 while the budget is overrun all the same", float(status.strained)),
        ):
            if value is None:
                continue
            gauge = GaugeMetricFamily(f"headwater_flash_{name}", text)
            gauge.add_metric([], float(value))
            yield gauge
