"""The edge's HTTP side: every part's metrics, `/readyz` and `/status` on one port.

Imported only where there is such a port: an edge without one carries no Prometheus client in its memory.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector

from ..core.admin import AdminServer
from .metrics import BrokerMetrics, EntranceMetrics, JournalMetrics, StateMetrics, TimeMetrics
from .status import Reporter, write_url
from .wear.metrics import WearMetrics

if TYPE_CHECKING:
    from .daemon import Edge


async def open_admin(edge: Edge, stack: AsyncExitStack, address: tuple[str, int]) -> None:
    registry = CollectorRegistry()
    ProcessCollector(
        registry=registry
    )  # memory, CPU, open files, under the names that every dashboard has
    BrokerMetrics(edge.broker, registry)
    EntranceMetrics(edge.entrance, registry)
    JournalMetrics(edge.journal, edge.committer, edge.gaps, registry)
    TimeMetrics(edge.anchoring, registry)
    if edge.keeping is not None:
        StateMetrics(edge.broker, edge.keeping, registry)
    if edge.wear is not None:
        WearMetrics(edge.wear, registry)
    if edge.uplink is not None:
        from .uplink.linkmetrics import LinkMetrics
        from .uplink.metrics import UplinkMetrics

        UplinkMetrics(edge.uplink, registry)
        LinkMetrics(edge.uplink, registry)
    if edge.sources:
        from .sources.metrics import SourceMetrics

        SourceMetrics(edge.sources, registry)
    reporter = Reporter(edge)
    host, port = address
    admin = AdminServer(
        host, port, registry=registry, readiness=edge.readiness, status=reporter.json
    )
    await admin.start()
    stack.push_async_callback(admin.close)
    edge.http = (host, admin.port)
    write_url(edge.outside.disk, edge.settings.data_dir, edge.http)
