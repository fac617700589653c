"""`headwater cloud`: one node of the cluster, composed from its settings.

Started in this order: the Kafka address, the store, the shards (whoever held them is fenced), the admin address, the sink.
Stopped in the reverse order by SIGTERM or SIGINT, and then the exit status is 0. A node that loses a shard to another
node stops with status 1 and says so in one line; a supervisor starts it again and it takes its place anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import structlog
import uvloop
from prometheus_client import CollectorRegistry

from ..core import config
from ..core.address import optional_address, split_address
from ..core.admin import AdminServer
from ..core.backoff import Backoff
from ..core.clock import SystemClock
from ..core.errors import Closed, Refused, Unavailable, Unknown
from ..core.notify import ServiceManager
from ..core.objectstore import ObjectStore
from ..core.record import check_name
from .broker.broker import Broker, BrokerOptions, TlsDoor
from .settings import CloudSettings
from .store import open_store
from .supervisor import Supervisor

_log = structlog.get_logger()

_SERVICE_MANAGER_VARIABLES = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
_ANY_HOST = {"0.0.0.0", "::", ""}


def main(settings: CloudSettings, *, config_file: Path | None = None) -> int:
    """Runs until a signal. Returns the exit status; raises what the command line says in one line.

    `config_file` is where the sink beside this node finds its own section.
    """
    return uvloop.run(run_cloud(settings, config_file=config_file))


async def run_cloud(settings: CloudSettings, *, config_file: Path | None = None) -> int:
    stop = asyncio.Event()
    with _signals(stop):
        return await Daemon(settings, config_file=config_file).run(stop)


class Daemon:
    def __init__(self, settings: CloudSettings, *, config_file: Path | None = None) -> None:
        self._settings = settings
        self._config_file = config_file
        self._manager = ServiceManager(config.environment())
        self._rng = random.SystemRandom()
        self._clock = SystemClock()
        self._registry = CollectorRegistry()
        self._options = broker_options(settings)
        self._broker: Broker | None = None
        self._supervisor: Supervisor | None = None

    async def run(self, stop: asyncio.Event) -> int:
        """0 after `stop`. Raises Refused, Closed, Corrupt."""
        async with contextlib.AsyncExitStack() as stack:
            # asked for while still starting: there is nothing to drain yet
            starting = asyncio.ensure_future(self._start(stack))
            stopping = asyncio.ensure_future(stop.wait())
            stack.callback(stopping.cancel)
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
                return 0
            broker = starting.result()
            self._manager.ready(f"serving Kafka on port {broker.port}")
            watched = asyncio.ensure_future(self._watchdog())
            stack.push_async_callback(_cancelled, watched)
            lost = asyncio.ensure_future(broker.wait_closed())
            stack.callback(lost.cancel)
            await asyncio.wait({lost, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if lost.done():
                raise Closed(f"this node gave up its shard: {lost.result()}")
            self._manager.stopping()
            _log.info("stopping")
        _log.info("stopped")
        return 0

    async def _start(self, stack: contextlib.AsyncExitStack) -> Broker:
        settings = self._settings
        http = optional_address(settings.http, key="cloud.http")
        if http is not None:
            host, port = http
            admin = AdminServer(host, port, registry=self._registry, readiness=self._readiness)
            await admin.start()
            stack.push_async_callback(admin.close)
            _log.info("admin", host=host, port=admin.port)
        store = await self._open_store()
        stack.push_async_callback(store.close)
        self._broker = broker = Broker(
            self._options, store, clock=self._clock, rng=self._rng, registry=self._registry
        )
        stack.push_async_callback(broker.close)
        await broker.start()
        if settings.sink:
            self._supervisor = supervisor = self._sink(broker)
            running = asyncio.ensure_future(supervisor.run())
            stack.push_async_callback(_cancelled, running)
        return broker

    async def _open_store(self) -> ObjectStore:
        """A store that does not answer yet is asked again: the node may start before it, after a power cut say."""
        backoff = Backoff(self._rng, first_s=0.5, cap_s=10.0)
        while True:
            try:
                return await open_store(self._settings.store)
            except (Unavailable, Unknown) as error:
                _log.warning("the store does not answer yet", error=str(error))
                await asyncio.sleep(backoff.next())

    async def _watchdog(self) -> None:
        """The loop turns: that is what the watchdog wants to know. A store that is away is no reason to be killed."""
        pause = self._manager.watchdog_s
        while pause is not None:
            self._manager.alive()
            await asyncio.sleep(pause)

    def _readiness(self) -> list[str]:
        if self._broker is None:
            return ["opening the store"]
        return self._broker.reasons_not_ready()

    def _sink(self, broker: Broker) -> Supervisor:
        me = broker.node.membership.me
        # the address listened on, not the advertised one: the child is on this machine
        host = "127.0.0.1" if self._options.host in _ANY_HOST else self._options.host
        command = [
            sys.executable, "-m", "headwater", "sink",
            "--bootstrap", f"kafka://{host}:{broker.port}",
            "--lake", self._settings.lake,
        ]  # fmt: skip
        if self._config_file is not None:
            command += ["--config", str(self._config_file)]
        # the child must not speak to the service manager in this daemon's name
        environ = {
            name: value
            for name, value in config.environment().items()
            if name not in _SERVICE_MANAGER_VARIABLES
        }
        _log.info("sink beside this node", node=me.name, lake=self._settings.lake)
        return Supervisor(
            "sink",
            command,
            environ=environ,
            clock=self._clock,
            rng=self._rng,
            pause_max_s=self._settings.sink_restart_max,
            restarted=broker.node.metrics.sink_restarts.inc,
        )


def broker_options(settings: CloudSettings) -> BrokerOptions:
    """Raises Refused, naming the setting."""
    host, port = split_address(settings.kafka, key="cloud.kafka")
    advertise_host, advertise_port = host, 0
    if settings.advertise:
        advertise_host, advertise_port = split_address(settings.advertise, key="cloud.advertise")
    elif host in _ANY_HOST:
        advertise_host = platform.node()
    if settings.shards < 1:
        raise Refused(f"cloud.shards must be at least 1, not {settings.shards}")
    broker, journal = settings.broker, settings.journal
    if broker.produce_bytes_in_flight_max + broker.request_bytes_max > journal.pending_bytes_max:
        raise Refused(
            "cloud.broker.produce_bytes_in_flight_max and cloud.broker.request_bytes_max together "
            "must not exceed cloud.journal.pending_bytes_max"
        )
    return BrokerOptions(
        name=check_name(settings.node or platform.node(), what="node"),
        host=host,
        port=port,
        advertise_host=advertise_host,
        advertise_port=advertise_port,
        tls=_tls_door(settings),
        shards=settings.shards,
        broker=broker,
        groups=settings.groups,
        journal=journal,
    )


def _tls_door(settings: CloudSettings) -> TlsDoor | None:
    """Raises Refused, naming the setting."""
    if not settings.kafka_tls:
        return None
    host, port = split_address(settings.kafka_tls, key="cloud.kafka_tls")
    advertise_host, advertise_port = platform.node() if host in _ANY_HOST else host, 0
    if settings.advertise_tls:
        advertise_host, advertise_port = split_address(
            settings.advertise_tls, key="cloud.advertise_tls"
        )
    return TlsDoor(
        host=host,
        port=port,
        advertise_host=advertise_host,
        advertise_port=advertise_port,
        files=settings.tls,
    )


async def _cancelled(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    kinds = (signal.SIGTERM, signal.SIGINT)
    for kind in kinds:
        loop.add_signal_handler(kind, stop.set)
    try:
        yield
    finally:
        for kind in kinds:
            loop.remove_signal_handler(kind)
