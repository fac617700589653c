"""The sources for Prometheus, collected when asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from .upstream import MqttSource


class SourceMetrics:
    """Registers itself; made once per edge that has sources."""

    def __init__(self, sources: Sequence[MqttSource], registry: CollectorRegistry) -> None:
        self._sources = sources
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        connected = GaugeMetricFamily(
            "headwater_source_connected", "1 while the upstream has accepted us", labels=["source"]
        )
        refused = CounterMetricFamily(
            "headwater_source_refused",
            "Messages not taken: kept upstream where the log is full, given up otherwise",
            labels=["source", "reason"],
        )
        for source in self._sources:
            connected.add_metric([source.settings.name], source.connected)
            for reason, count in sorted(source.refused.items()):
                refused.add_metric([source.settings.name, reason], count)
        yield connected
        yield refused
        for name, text in (
            ("messages", "Messages delivered by the upstream, repetitions included"),
            ("bytes", "Their payloads"),
            ("acknowledged", "Messages acknowledged upstream, when on disk"),
            ("connections", "Times that the upstream accepted us"),
        ):
            counter = CounterMetricFamily(f"headwater_source_{name}", text, labels=["source"])
            for source in self._sources:
                counter.add_metric([source.settings.name], getattr(source, name))
            yield counter
