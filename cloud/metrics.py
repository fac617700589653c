"""What the cloud node counts, for Prometheus. One instance per registry; labels are bound once where they are known."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# From a directory's 5 ms flush to a store in trouble.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class BrokerMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.connections = Gauge(
            "headwater_cloud_connections", "Open Kafka connections.", registry=registry
        )
        self.closed = Counter(
            "headwater_cloud_connections_closed_total",
            "Connections ended, by reason.",
            ["reason"],
            registry=registry,
        )
        self.requests = Counter(
            "headwater_cloud_requests_total", "Requests taken.", ["api"], registry=registry
        )
        self.request_seconds = Histogram(
            "headwater_cloud_request_seconds",
            "From the request's last byte to its answer.",
            ["api"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.produced_bytes = Counter(
            "headwater_cloud_produced_bytes_total",
            "Batch bytes submitted to the log.",
            registry=registry,
        )
        self.produced_records = Counter(
            "headwater_cloud_produced_records_total",
            "Records submitted to the log.",
            registry=registry,
        )
        self.duplicates = Counter(
            "headwater_cloud_duplicate_batches_total",
            "Batches recognised as sent before and answered with their first offset.",
            registry=registry,
        )
        self.fetched_bytes = Counter(
            "headwater_cloud_fetched_bytes_total", "Batch bytes sent to readers.", registry=registry
        )
        self.sink_restarts = Counter(
            "headwater_cloud_sink_restarts_total",
            "Times the sink process ended and was started again.",
            registry=registry,
        )
        self._registry = registry
        self._by_api: dict[str, tuple[Counter, Histogram]] = {}

    def taken(self, api: str) -> None:
        self._bound(api)[0].inc()

    def answered(self, api: str, seconds: float) -> None:
        self._bound(api)[1].observe(seconds)

    def _bound(self, api: str) -> tuple[Counter, Histogram]:
        """Looking labels up costs more than counting."""
        bound = self._by_api.get(api)
        if bound is None:
            bound = self._by_api[api] = (
                self.requests.labels(api),
                self.request_seconds.labels(api),
            )
        return bound

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """A value that is read when it is asked for."""
        Gauge(f"headwater_cloud_{name}", help_text, registry=self._registry).set_function(read)
