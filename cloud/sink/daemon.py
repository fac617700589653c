"""The sink as a process: composition, signals, the admin address.

SIGTERM or SIGINT: what was fetched is committed, then the exit status is 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import signal

import structlog
from prometheus_client import CollectorRegistry

from ...core.address import optional_address
from ...core.admin import AdminServer
from ...core.backoff import Backoff
from ...core.clock import Clock, SystemClock
from ...core.errors import Unavailable, Unknown
from ...core.objectstore import ObjectStore
from ..reaching import client_of
from ..store import open_store
from .kafka import KafkaSource
from .metrics import SinkMetrics
from .settings import SinkSettings
from .sink import Sink

_log = structlog.get_logger()


def main(settings: SinkSettings) -> int:
    """Runs until a signal. Returns the exit status; raises what the command line says in one line."""
    return asyncio.run(_main(settings))


async def _main(settings: SinkSettings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for kind in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(kind, stop.set)
    # decoding makes a million small objects a second and no cycles: look for those seldom
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    await run_sink(
        settings,
        clock=SystemClock(),
        rng=random.Random(random.SystemRandom().getrandbits(64)),
        registry=CollectorRegistry(),
        stop=stop,
    )
    return 0


async def run_sink(
    settings: SinkSettings,
    *,
    clock: Clock,
    rng: random.Random,
    registry: CollectorRegistry,
    stop: asyncio.Event,
) -> None:
    """Until `stop` is set. Raises Misconfigured, Refused."""
    client = client_of(settings, client_id="headwater-sink")
    sinks: list[Sink] = []
    async with contextlib.AsyncExitStack() as stack:
        http = optional_address(settings.http, key="sink.http")
        if http is not None:
            admin = _admin(http, registry, sinks)
            await admin.start()
            stack.push_async_callback(admin.close)
            _log.info("admin", port=admin.port)
        store = await _open_store(settings.lake, rng, stop)
        if store is None:
            return
        stack.push_async_callback(store.close)
        source = KafkaSource(
            client,
            fetch_bytes=settings.fetch_bytes,
            partition_bytes=settings.partition_bytes,
        )
        stack.push_async_callback(source.close)
        sink = Sink(source, store, settings, clock=clock, rng=rng, metrics=SinkMetrics(registry))
        sinks.append(sink)
        _log.info("sink", bootstrap=settings.bootstrap, lake=store.location)
        await sink.run(stop)
        _log.info("sink stopped")


def _admin(address: tuple[str, int], registry: CollectorRegistry, sinks: list[Sink]) -> AdminServer:
    return AdminServer(
        *address,
        registry=registry,
        readiness=lambda: sinks[0].reasons_not_ready() if sinks else ["opening the lake"],
    )


async def _open_store(location: str, rng: random.Random, stop: asyncio.Event) -> ObjectStore | None:
    """A store that does not answer yet is asked again; None where we were stopped meanwhile."""
    retries = Backoff(rng, first_s=0.5, cap_s=10.0)
    while not stop.is_set():
        try:
            return await open_store(location)
        except (Unavailable, Unknown) as error:
            _log.warning("the lake does not answer yet", error=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), retries.next())
    return None
