"""The edge daemon: the only place where all parts of an edge meet. Start in order, serve, stop in the opposite order.

  start   journal (recovery; losses found are declared) → committer → MQTT listener → uplink, retention, HTTP → READY
  stop    accept nobody, read nothing; commit and acknowledge what was taken; say goodbye (wills are records and are
          committed too); end the uplink; close the journal. Then exit 0: what was acknowledged is on disk.
What fails at the start says so in one line and leaves nothing behind. A part that ends while serving, other than by
our doing, ends the daemon: systemd starts it again, and recovery is the tested path.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import random
import re
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import structlog
import uvloop

from ..core import config
from ..core.address import optional_address
from ..core.allocator import keep_heap_small
from ..core.anchor import trust_name
from ..core.clock import Clock, SystemClock
from ..core.disk import Disk, SystemDisk
from ..core.errors import HeadwaterError, Misconfigured, Unavailable
from ..core.gap import GapReason
from ..core.journal.files.committer import Committer
from ..core.journal.files.journal import FileJournal
from ..core.notify import ServiceManager
from ..core.record import check_name
from ..core.timekeeper import Timekeeper
from ..hardware.clock import ClockReader
from ..hardware.flash import FlashReader
from ..hardware.sysroot import SysRoot
from .broker.broker import Broker
from .broker.moments import Moments
from .broker.replaying import JournalSource
from .descriptors import within_descriptors
from .entrance import Entrance
from .gaps import GapLedger
from .keeping import Keeping
from .reloading import Reloading
from .rounds import declare_damage, keep_retention, keep_volatile, really_lost, watchdog
from .rules import early_rules
from .settings import EdgeSettings
from .streams import StreamTable
from .timekeeping import Anchoring, make_timekeeper
from .visits import Visits
from .wear.wear import Wear
from .workers import employ

if TYPE_CHECKING:
    from .sources.upstream import MqttSource
    from .uplink.uplink import Uplink

_log = structlog.get_logger("edge")

# How long the disk thread waits for a busy loop to give way: it asks some ten times in a commit, and with Python's 5 ms each
# a flood that keeps the loop busy made acknowledgements of others wait for seconds. Where nobody is busy nobody asks.
SWITCH_S = 0.0005


class Outside(NamedTuple):
    """The world, passed in."""

    disk: Disk
    clock: Clock
    rng: random.Random


class Edge:
    """One running edge. Made by `open_edge`; `mqtt` and `http` are the addresses really listened on."""

    def __init__(
        self,
        settings: EdgeSettings,
        outside: Outside,
        *,
        name: str,
        journal: FileJournal,
        committer: Committer,
        broker: Broker,
        entrance: Entrance,
        anchoring: Anchoring,
    ) -> None:
        self.settings = settings
        self.outside = outside
        self.name = name
        self.journal = journal
        self.committer = committer
        self.broker = broker
        self.entrance = entrance
        self.anchoring = anchoring
        self.gaps = GapLedger(journal, committer, edge=name, clock=outside.clock)
        self.uplink: Uplink | None = None
        self.keeping: Keeping | None = None
        self.sources: Sequence[MqttSource] = ()
        self.wear: Wear | None = None
        self.http: tuple[str, int] | None = None

    @property
    def mqtt(self) -> tuple[str, int]:
        return self.entrance.listeners.address

    def readiness(self) -> list[str]:
        """The reasons why this edge cannot take publishes; none when it can."""
        reasons = {self.committer.stalled, self.broker.unready, self.journal.full}
        return sorted(reason for reason in reasons if reason is not None)


def main(read: Callable[[], EdgeSettings]) -> int:
    """Run until SIGTERM or SIGINT; 0 when all that was taken is on disk. SIGHUP: `read` again. Raises HeadwaterError."""

    def fitting() -> EdgeSettings:
        return within_descriptors(read())

    keep_heap_small()
    sys.setswitchinterval(SWITCH_S)
    uvloop.run(run_edge(fitting(), environ=config.environment(), read=fitting))
    return 0


async def run_edge(
    settings: EdgeSettings,
    *,
    environ: Mapping[str, str] | None = None,
    stop: asyncio.Event | None = None,
    on_ready: Callable[[Edge], None] | None = None,
    read: Callable[[], EdgeSettings] | None = None,
) -> None:
    """Raises HeadwaterError where it cannot start or stop cleanly.

    `stop`: set it to end the edge as SIGTERM does. `read`: what SIGHUP loads the settings anew with.
    """
    stopping = stop or asyncio.Event()
    manager = ServiceManager(environ or {})
    employ()
    with _signals(stopping):
        async with open_edge(settings) as edge:
            try:
                if read is not None:
                    _on_hangup(Reloading(edge, read))
                await _serve(edge, stopping, manager, on_ready)
            except BaseExceptionGroup as group:
                # one line for one cause: what a part says is what the daemon says
                expected, _ = group.split(HeadwaterError)
                raise (group if expected is None else expected.exceptions[0]) from None
            finally:
                manager.stopping()


async def _serve(
    edge: Edge,
    stopping: asyncio.Event,
    manager: ServiceManager,
    on_ready: Callable[[Edge], None] | None,
) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(keep_retention(edge), name="retention"),
            group.create_task(edge.anchoring.run(), name="time"),
        ]
        if edge.wear is not None:
            tasks.append(group.create_task(edge.wear.run(), name="wear"))
        if edge.journal.volatile:
            tasks.append(group.create_task(keep_volatile(edge), name="volatile"))
        if edge.uplink is not None:
            tasks.append(group.create_task(edge.uplink.run(), name="uplink"))
        if edge.keeping is not None:
            tasks.append(group.create_task(edge.keeping.run(), name="state"))
        tasks.extend(group.create_task(source.run(), name="source") for source in edge.sources)
        if manager.watchdog_s is not None:
            tasks.append(group.create_task(watchdog(edge, manager), name="watchdog"))
        _announce(edge, manager)
        if on_ready is not None:
            on_ready(edge)
        await _until_stopped(edge, stopping)
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def open_edge(
    settings: EdgeSettings,
    *,
    disk: Disk | None = None,
    clock: Clock | None = None,
    clock_reader: ClockReader | None = None,
) -> AsyncIterator[Edge]:
    """Everything started, in order; everything stopped on the way out."""
    table = settings.check()
    rng = random.Random()
    keeper = make_timekeeper(clock or SystemClock(), clock_reader or ClockReader(SysRoot()), rng)
    outside = Outside(disk or SystemDisk(), keeper, rng)
    async with AsyncExitStack() as stack:
        journal = FileJournal.open(
            f"{settings.data_dir}/log",
            settings=settings.journal,
            early=early_rules(table),
            **outside._asdict(),
        )
        stack.callback(journal.close)
        committer = Committer(journal, clock=outside.clock, rng=outside.rng)
        committer.start()
        keeping = Keeping(journal, committer, outside.disk, settings.data_dir)
        stack.push_async_callback(keeping.close)
        # after a failed start this commits what recovery declared; the orderly way has drained before
        stack.push_async_callback(committer.close)
        source = JournalSource(journal, _moments(keeper))
        stack.push_async_callback(source.close)
        visits = Visits(settings.connections)
        broker = Broker(
            journal,
            committer,
            source=source,
            streams=table,
            settings=settings.mqtt_limits,
            clock=outside.clock,
            rng=outside.rng,
            observer=visits,
            moments=source.moments,
        )
        source.after = broker.departed
        name = settings.name or _host_name()
        anchoring = Anchoring(keeper, journal, committer, edge=name, settings=settings.time)
        anchoring.start()
        stack.callback(anchoring.stop)
        edge = Edge(
            settings,
            outside,
            name=name,
            journal=journal,
            committer=committer,
            broker=broker,
            entrance=Entrance(settings, broker, journal, visits, outside.clock),
            anchoring=anchoring,
        )
        edge.wear = make_wear(edge)
        stack.callback(edge.wear.save)
        edge.sources = _make_sources(edge)
        if settings.bootstrap:
            edge.uplink = _make_uplink(edge, table)
        keeping.restore(broker)
        edge.keeping = keeping
        _report_recovery(edge)
        committer.request()
        stack.push_async_callback(_drain, edge)
        await edge.entrance.listeners.start()
        await _open_admin(edge, stack)
        yield edge


def _moments(keeper: Timekeeper) -> Moments:
    return Moments(keeper, boot=keeper.mark.boot, trusted=lambda: keeper.trusted)


async def _drain(edge: Edge) -> None:
    """Take nothing more, acknowledge what was taken, say goodbye. The committer's close then takes the wills."""
    broker, committer = edge.broker, edge.committer
    await edge.entrance.listeners.stop_accepting()
    broker.stop_reading()
    if broker.pending:
        try:
            async with asyncio.timeout(float(edge.settings.drain_timeout)):
                await committer.wait_durable(broker.gate.commit)
        except (TimeoutError, HeadwaterError):
            # not acknowledged, so the clients still have it; committer.close says why
            _log.warning("stopping with publishes unacknowledged", reason=committer.stalled)
    broker.close()
    edge.entrance.close()
    await edge.entrance.listeners.close()


def make_wear(edge: Edge) -> Wear:
    settings, outside = edge.settings, edge.outside
    return Wear(
        settings.wear,
        journal=edge.journal,
        committer=edge.committer,
        flash=FlashReader(SysRoot(), edge.journal.directory),
        disk=outside.disk,
        clock=outside.clock,
        path=f"{settings.data_dir}/wear.json",
    )


def _make_sources(edge: Edge) -> Sequence[MqttSource]:
    if not edge.settings.sources.mqtt:
        return ()  # an edge without sources carries no paho in its memory
    from .sources.making import make_sources

    return make_sources(
        edge.settings.sources,
        edge.broker,
        edge=edge.name,
        log_id=edge.journal.log_id,
        known=edge.anchoring.keeper,
        rng=edge.outside.rng,
    )


def _make_uplink(edge: Edge, table: StreamTable) -> Uplink:
    # only now: an edge without an uplink carries no Kafka protocol in its memory
    from .uplink.making import Surroundings, make_uplink

    settings, (disk, clock, rng) = edge.settings, edge.outside
    uplink = make_uplink(
        edge.journal,
        settings.uplink_options,
        Surroundings(disk, clock, edge.anchoring.keeper, rng, SysRoot()),
        edge=edge.name,
        bootstrap=settings.bootstrap,
        is_tls=settings.uplink_is_tls,
        directory=f"{settings.data_dir}/uplink",
        on_refused=edge.gaps.refused,
        priorities={stream.name: stream.settings.priority for stream in table.streams.values()},
    )
    edge.committer.add_listener(uplink.notify)
    return uplink


async def _open_admin(edge: Edge, stack: AsyncExitStack) -> None:
    address = optional_address(edge.settings.http, key="edge.http")
    if address is not None:
        # only now: an edge without HTTP carries no Prometheus client in its memory
        from .admin import open_admin

        await open_admin(edge, stack, address)


def _report_recovery(edge: Edge) -> None:
    report = edge.journal.recovery
    for warning in report.warnings:
        _log.warning("log recovered with a warning", warning=warning)
    for path in report.quarantined:
        _log.error("damaged file put aside", path=path)
    if report.losses:
        declare_damage(edge, report.losses)
    if report.volatile:
        edge.gaps.declare(really_lost(edge, report.volatile), GapReason.VOLATILE)


def _announce(edge: Edge, manager: ServiceManager) -> None:
    mqtt = [f"{host}:{port}" for host, port in edge.entrance.listeners.addresses]
    http = "none" if edge.http is None else f"{edge.http[0]}:{edge.http[1]}"
    _log.info(
        "edge ready",
        edge=edge.name,
        mqtt=", ".join(mqtt),
        http=http,
        uplink=edge.settings.uplink,
        clock=trust_name(edge.anchoring.keeper.trust),
        log=edge.journal.log_id,
        data_dir=edge.settings.data_dir,
    )
    manager.ready(f"MQTT on {', '.join(mqtt)}")


async def _until_stopped(edge: Edge, stopping: asyncio.Event) -> None:
    """Until asked to stop. Raises what ended the committer, without which nothing can be acknowledged."""
    stopped = asyncio.create_task(stopping.wait(), name="stop")
    assert edge.committer.task is not None
    try:
        await asyncio.wait({stopped, edge.committer.task}, return_when=asyncio.FIRST_COMPLETED)
        if edge.committer.task.done() and not stopped.done():
            edge.committer.task.result()
            raise Unavailable("the committer ended while the edge was serving")
    finally:
        stopped.cancel()


def _hears_signals() -> bool:
    """Elsewhere than in the main thread (tests) there are none to handle."""
    return threading.current_thread() is threading.main_thread()


def _on_hangup(reload: Callable[[], None]) -> None:
    if _hears_signals():
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)


@contextlib.contextmanager
def _signals(stopping: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    handled = (signal.SIGTERM, signal.SIGINT) if _hears_signals() else ()
    for number in handled:
        loop.add_signal_handler(number, stopping.set)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


def _host_name() -> str:
    """The host's name with what a Kafka topic could not be called replaced."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", platform.node())[:100] or "edge"
    try:
        return check_name(name, what="edge name")
    except HeadwaterError as error:
        raise Misconfigured(f"edge.name is needed: {error}") from None
