"""The uplink for Prometheus, collected when asked: nothing is counted twice, nothing per record.

One collector reads `Uplink.status()` and the totals; the registry is passed in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from .status import LinkState, UplinkStatus
from .totals import LinkTotals


class Observed(Protocol):
    @property
    def totals(self) -> LinkTotals: ...

    def status(self) -> UplinkStatus: ...


class UplinkMetrics:
    """Registers itself; made once per uplink."""

    def __init__(self, uplink: Observed, registry: CollectorRegistry) -> None:
        self._uplink = uplink
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        status, totals = self._uplink.status(), self._uplink.totals
        up = GaugeMetricFamily("headwater_uplink_connected", "1 while the uplink has a cluster")
        up.add_metric([], float(status.state is LinkState.CONNECTED))
        yield up
        records = GaugeMetricFamily(
            "headwater_uplink_backlog_records",
            "Durable here, not yet acknowledged by the cloud",
            labels=["stream", "partition"],
        )
        size = GaugeMetricFamily(
            "headwater_uplink_backlog_bytes",
            "The same in bytes, estimated",
            labels=["stream", "partition"],
        )
        acked = CounterMetricFamily(
            "headwater_uplink_acked_offset",
            "One past the highest offset that the cloud acknowledged",
            labels=["stream", "partition"],
        )
        for partition in status.partitions:
            labels = [partition.stream, str(partition.partition)]
            records.add_metric(labels, partition.backlog_records)
            size.add_metric(labels, partition.backlog_bytes)
            acked.add_metric(labels, partition.acked)
        yield from (records, size, acked)
        left = GaugeMetricFamily(
            "headwater_uplink_seconds_to_empty", "At the present pace; absent while nothing moves"
        )
        if status.seconds_to_empty is not None:
            left.add_metric([], status.seconds_to_empty)
        yield left
        memory = GaugeMetricFamily("headwater_uplink_memory_bytes", "Read and not yet acknowledged")
        memory.add_metric([], status.memory_bytes)
        yield memory
        for name, text, value in (
            ("headwater_uplink_requests", "Produce requests sent", totals.requests),
            ("headwater_uplink_batches", "Batches sent, repeats included", totals.batches),
            ("headwater_uplink_bytes", "Bytes of batches sent, repeats included", totals.bytes),
            ("headwater_uplink_link_failures", "Connections that failed or broke", totals.failures),
            ("headwater_uplink_refused", "Records the cloud will never take", totals.refused),
        ):
            counter = CounterMetricFamily(name, text)
            counter.add_metric([], value)
            yield counter
